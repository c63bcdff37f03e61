"""Events, model, node and fleet in a real browser, over a made-up node."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.ports import free_port
from fakes.waiting import until

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
HERE = Path(__file__).parent
PAGES = {"/events": ".events-table", "/model": ".class-bars", "/node": ".finding", "/fleet": ".fleet-table"}

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def address():
    port = free_port()
    command = [sys.executable, "fake_page.py", "--port", str(port), "--kind", "trouble"]
    with subprocess.Popen(command, cwd=HERE) as node:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            node.terminate()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(address, browser):
    shown = browser.new_page(viewport={"width": 1440, "height": 900})
    said = []
    shown.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: said.append(str(error)))
    until(lambda: is_served(shown, f"{address}/events"), timeout_s=30)
    said.clear()
    yield shown
    shown.close()
    assert said == []


def is_served(shown, url):
    try:
        shown.goto(url)
    except playwright.Error:
        return False
    return True


def seqs(page):
    return [int(text) for text in page.locator(".events-seq").all_inner_texts() if text.isdigit()]


@pytest.mark.parametrize("path", PAGES)
def test_page_fits_a_phone_and_a_desk(page, address, path):
    """Nothing scrolls sideways, and the console stays empty."""
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(address + path)
        page.wait_for_selector(PAGES[path])
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_events_page_by_seq_in_both_directions_and_new_ones_come_on_top(page, address):
    """Only on the first page and without a filter; the filter is in the address."""
    page.wait_for_selector(".events-table")
    newest = seqs(page)
    assert newest == sorted(newest, reverse=True)
    until(lambda: seqs(page)[0] > newest[0], timeout_s=20)
    page.keyboard.press("o")
    page.wait_for_url(re.compile("before="))
    until(lambda: seqs(page) and max(seqs(page)) < min(newest))
    older = seqs(page)
    page.keyboard.press("n")
    page.wait_for_url(re.compile("after="))
    until(lambda: seqs(page) and min(seqs(page)) > max(older))
    page.goto(f"{address}/events?type=operator.acted")
    page.wait_for_selector("text=anna: pause")
    assert page.locator(".events-picture img").count() == 0


def test_one_event_leads_to_its_neighbours_and_to_the_map(page, address):
    """The filters of the list hold for them."""
    page.goto(f"{address}/events/40?class=pitted_surface")
    page.wait_for_selector(".boxed-picture .box")
    assert "/coils/A4711?m=" in page.get_attribute("text=On the map", "href")
    page.click("text=Older")
    page.wait_for_url(re.compile(r"/events/\d+\?class=pitted_surface"))
    page.wait_for_selector(".event-head >> text=pitted surface")
    page.click("summary")
    shown = json.loads(page.inner_text(".event-raw pre"))
    assert (shown["defect"]["class"], "delivery" in shown) == ("pitted_surface", False)


def test_upload_shows_the_verdict(page, address):
    """Refused with the reason, or passed and ready to be used."""
    page.goto(f"{address}/model")
    page.wait_for_selector(".bundles")
    bundle = {"name": "student.zip", "mimeType": "application/zip", "buffer": b"PK\x03\x04 whole"}
    page.set_input_files("input[type=file]", bundle)
    page.wait_for_selector("text=Passed: student 0.4")
    page.click("text=Use it now, as a canary")
    page.wait_for_selector("text=student 0.4 decides, as a canary")
    page.set_input_files("input[type=file]", bundle | {"buffer": b"PK\x03\x04" + bytes(3 << 20)})
    page.wait_for_selector("text=Refused: student.zip")
    assert "at most 2.0" in page.inner_text(".verdict-box")


def test_dead_letters_are_deleted_after_a_question(page, address):
    """Retrying needs none."""
    page.goto(f"{address}/node")
    page.wait_for_selector(".letters li")
    page.click("text=Retry >> nth=0")
    page.wait_for_selector("text=1 event will be sent again")
    page.click("text=Discard >> nth=0")
    page.locator("dialog").get_by_role("button", name="Discard").click()
    page.wait_for_selector("text=1 event deleted")


def test_fleet_shows_the_worst_first_and_links_only_to_other_machines(page, address):
    """With what is wrong; old news are marked."""
    page.goto(f"{address}/fleet")
    page.wait_for_selector(".fleet-table")
    rows = page.locator(".fleet-table tbody tr")
    assert "offline since" in rows.nth(0).inner_text()
    assert "old" in rows.nth(0).get_attribute("class")
    links = rows.locator("a").evaluate_all("(found) => found.map((one) => one.getAttribute('href'))")
    assert links == ["https://line7.plant.example/", "/"]
    assert page.locator(".fleet-problem").count() == 1
