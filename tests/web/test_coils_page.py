"""The pages of coils in a real browser, over the real handlers and made-up records."""

import subprocess
import sys
from pathlib import Path

import pytest
from fakes.ports import free_port
from fakes.waiting import until

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def address():
    port = free_port()
    with subprocess.Popen([sys.executable, "fake_page.py", "--port", str(port)], cwd=HERE) as node:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            node.terminate()


@pytest.fixture(scope="module")
def page(address):
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1440, "height": 900})
        shown.said = []
        shown.on("console", lambda message: shown.said.append(message.text) if message.type == "error" else None)
        shown.on("pageerror", lambda error: shown.said.append(str(error)))
        until(lambda: is_served(shown, f"{address}/coils"), timeout_s=60)
        yield shown
        browser.close()


def is_served(shown, url):
    try:
        shown.goto(url)
    except playwright.Error:
        return False
    shown.said.clear()
    return True


def opened(page, address, path, selector):
    page.goto(f"{address}{path}")
    page.wait_for_selector(selector)
    return page


def text_of(page, selector):
    """A narrow gap between a number and its unit is a gap."""
    return page.inner_text(selector).replace("\u00a0", " ")


def test_list_leads_to_a_coil_and_its_report(page, address):
    """The running coil is on top; a coil shows its grade, rules, roll mark, gaps and worst defects."""
    opened(page, address, "/coils", ".coils-page table")
    assert "so far" in page.inner_text("tbody tr:first-child")
    page.click("text=A4732")
    page.wait_for_selector(".coil-worst img")
    assert page.inner_text(".coil-head .coil-grade") == "B"
    for words in ("critical defects: 1 at 812.2 m", "F7 work roll", "2.041 m", "bad image", "beyond at 500 to 519"):
        assert words in text_of(page, ".coil-page")
    assert page.locator(".coil-worst img").count() == 10
    assert not page.said


def test_link_to_a_place_chooses_its_defect(page, address):
    """`?m=812` shows these meters, and the defect that lies there."""
    opened(page, address, "/coils/A4732?m=812", ".coil-map .chosen")
    assert "812.21 m, bottom" in text_of(page, ".coil-map .chosen")


def test_release_needs_a_reason_for_another_grade(page, address):
    """The form does not let it go without one."""
    opened(page, address, "/coils/A4732", ".coil-files .button.primary")
    page.click(".coil-files .button.primary")
    page.fill("dialog input[list]", "A")
    assert page.is_disabled("dialog .button.primary")
    page.fill("dialog label:nth-of-type(2) input", "the trim is cut")
    assert page.is_enabled("dialog .button.primary")
    page.click("dialog .button.primary")
    page.wait_for_selector("dialog", state="detached")
    assert not page.said


@pytest.mark.parametrize("path", ["/coils", "/coils/A4711", "/coils?view=trend", "/coils/A4716"])
def test_phone_needs_no_sideways_scrolling(page, address, path):
    """At 390 px each page is as wide as the screen, also one with 6,000 defects."""
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, address, path, ".coils-chart, .coil-worst, .coils-page table")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.set_viewport_size({"width": 1440, "height": 900})
    assert not page.said
