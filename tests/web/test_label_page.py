"""The label page in a real browser, over the real handlers and a made-up archive."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from fakes.ports import free_port
from fakes.waiting import until

HERE = Path(__file__).parent
KEYS = ("1", "6", "g", "u", "2", "Enter")
NAMES = {"1": "crazing", "2": "inclusion", "6": "scratches", "g": "good", "u": "unclear"}

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def address():
    """One node for all tests: each compares what it adds."""
    port = free_port()
    with subprocess.Popen([sys.executable, "fake_page.py", "--port", str(port)], cwd=HERE) as node:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            node.terminate()


@pytest.fixture
def page(address, browser):
    shown = browser.new_page(viewport={"width": 1440, "height": 900})
    shown.said = []
    shown.on("console", lambda message: shown.said.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: shown.said.append(str(error)))
    until(lambda: is_served(address), timeout_s=30)
    shown.goto(f"{address}/label")
    shown.wait_for_selector(".label-key:not(:disabled)")
    yield shown
    shown.close()


def is_served(address):
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


def stored(page):
    """Labels and undos, oldest first."""
    found = page.evaluate("fetch('/api/v1/labels?limit=200').then((answer) => answer.json())")
    return list(reversed(found["changes"]))


def now_shown(page):
    """The path of the picture that waits for a label."""
    return page.get_attribute(".label-film .now img", "src").rpartition("/evidence/")[2]


def wait_until_sent(page):
    until(lambda: page.locator(".label-recent li").count() and not page.locator(".unsent").count())


def test_thirty_tiles_labelled_by_keys_are_stored_as_pressed(page):
    """Each key decides and goes on; the blind ones reveal nothing before, and `as predicted` does nothing there."""
    before, wanted = len(stored(page)), []
    for number in range(30):
        path = now_shown(page)
        is_blind = page.query_selector(".label-blind") is not None
        key = KEYS[number % len(KEYS)]
        if is_blind:
            assert page.query_selector(".label-scores") is None
            assert page.query_selector(".label-key.guess") is None
            page.keyboard.press("Enter")
            assert now_shown(page) == path
            key = "g" if key == "Enter" else key
        guess = None if is_blind else page.inner_text(".label-key.guess span:not(.unseen)").replace(" ", "_")
        page.keyboard.press(key)
        wanted.append((path, NAMES.get(key, guess), is_blind))
    wait_until_sent(page)
    found = [(one["evidence"], one["label"].replace(" ", "_"), one["blind"]) for one in stored(page)[before:]]
    assert found == wanted
    assert sum(is_blind for *_, is_blind in wanted) in (6, 7), "one in four, counted anew by each request"
    page.keyboard.press("z")
    page.wait_for_selector("text=taken back")
    assert now_shown(page) == wanted[-1][0]
    assert page.said == []


def test_refused_label_steps_back_to_its_picture(page):
    """The page goes on without waiting; what was not stored comes again, and the reason is shown."""
    first, before = now_shown(page), len(stored(page))
    refusal = '{"error": {"code": "labels_full", "reason": "the labels are full", "remedy": "export them"}}'
    page.route("**/api/v1/labels", lambda route: route.fulfill(status=507, body=refusal))
    for key in ("g", "g", "g"):
        page.keyboard.press(key)
    page.wait_for_selector("text=the labels are full")
    until(lambda: now_shown(page) == first)
    page.unroute("**/api/v1/labels")
    page.keyboard.press("g")
    wait_until_sent(page)
    assert [one["evidence"] for one in stored(page)[before:]] == [first]


def test_grid_confirms_all_that_are_not_marked(page, address):
    """Arrow keys and X mark, a class key labels the marked ones, Enter the others."""
    before = len(stored(page))
    page.goto(f"{address}/label?mode=grid")
    page.wait_for_selector(".grid-tile:not(:disabled)")
    count = page.locator(".grid-tile").count()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.wait_for_selector(".grid-tile.wrong")
    page.keyboard.press("g")
    until(lambda: page.locator(".grid-tile").count() == count - 1)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=is left")
    wait_until_sent(page)
    found = stored(page)[before:]
    assert [one["label"] for one in found].count("good") == 1
    assert {one["label"] for one in found[1:]} == {found[-1]["guess"]}
    assert (len(found), {one["how"] for one in found}) == (count, {"grid"})


def test_person_names_a_class_that_the_model_does_not_know(page):
    """N asks for its name; words with a meaning are refused; the new class has a key from then on."""
    page.keyboard.press("n")
    page.wait_for_selector("dialog input:focus")
    page.keyboard.type("Unknown")
    page.wait_for_selector("text=has a meaning of its own")
    page.keyboard.press("Enter")
    page.fill("dialog input", "Roll mark")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector(".label-key >> text=roll mark")
    page.keyboard.press("7")
    wait_until_sent(page)
    assert [one["label"] for one in stored(page)[-2:]] == ["roll_mark"] * 2
    assert page.said == []
