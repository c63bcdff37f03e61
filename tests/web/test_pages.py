"""Every page over a real daemon: silent, on a phone, by keyboard and for a screen reader; light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import DESK, PATIENCE_MS, PHONE, Observer
from fakes.waiting import until
from page_node import CAMERA, PageNode

pytestmark = pytest.mark.system

STATIC = Path(__file__).parents[2] / "edge" / "web" / "static"
EXAMPLES = {":camera": "top", ":id": "A4711", ":seq": "1"}
TABLE = re.findall(r'\{ path: "([^"]+)"', (STATIC / "js" / "pages.js").read_text("utf-8"))
PATHS = ["/?wall", *("/".join(EXAMPLES.get(part, part) for part in path.split("/")) for path in TABLE)]
SCHEMES = ("light", "dark")
MAX_STOPS = 120
SERIOUS = ("serious", "critical")
CONTROLS = """() => {
  const all = "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex='-1'])";
  const isChosen = (name) => document.querySelector(`[name="${name}"]:checked`);
  const isLeftOut = ({ type, checked, name }) => type === "radio" && !checked && isChosen(name);
  const isReached = (one) => !one.disabled && one.tabIndex >= 0 && !one.closest("[inert]") && !isLeftOut(one);
  const isShown = (one) => one.getBoundingClientRect().width > 0 && one.checkVisibility({ visibilityProperty: true });
  window.wanted = new Set([...document.querySelectorAll(all)].filter((one) => isReached(one) && isShown(one)));
  window.unseen = [];
  return window.wanted.size;
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  window.wanted.delete(one);
  const hasRing = ({ outlineStyle, outlineWidth }) => outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
  const hasShadow = (each) => each && getComputedStyle(each).boxShadow !== "none";
  const isMarked = [null, "::after"].some((part) => hasRing(getComputedStyle(one, part)));
  const near = [one, one.parentElement, one.nextElementSibling].some(hasShadow);
  const showsItself = one.matches("body, svg *, [type=datetime-local]"); // by colour; by the part that is edited
  if (!isMarked && !near && !showsItself) window.unseen.push(one.outerHTML.slice(0, 120));
}"""
LEFT = """() => [...window.wanted].filter((one) => one.isConnected && one.tabIndex >= 0)
  .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageNode]:
    """With a coil that runs, and defects on it."""
    with PageNode(tmp_path_factory.mktemp("pages") / "node", [{**CAMERA, "fps": 15}]) as running:
        running.start().wait()
        running.defectd("coil", "start", "A4711")
        yield running.wait(minor=1)


@pytest.fixture(scope="module", params=SCHEMES)
def shown(request: pytest.FixtureRequest, node: PageNode, browser: Any) -> Iterator[tuple[Any, Observer]]:
    """A page of an engineer, and what it says."""
    context = browser.new_context(viewport=DESK, color_scheme=request.param, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    observer = Observer(context, node.url)
    page = context.new_page()
    page.goto(node.link())
    yield page, observer
    context.close()


@pytest.fixture(scope="module")
def engineer(node: PageNode, browser: Any) -> Iterator[Any]:
    """Another page, for the keyboard alone."""
    context = browser.new_context(viewport=DESK, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(node.link())
    yield page
    context.close()


def opened(page: Any, node: PageNode, path: str) -> None:
    """Once everything that it asks for at the start is there."""
    page.goto(node.url + path)
    page.wait_for_selector("#content :not(.page-loading)")
    page.wait_for_selector(".app:not(.stale) .freshness:not(.waiting):not(.old)")
    until(lambda: page.locator(".page-loading, [aria-busy=true]").count() == 0, 20, f"{path} to load")
    page.wait_for_timeout(300)  # what comes from the node a moment later belongs to the page, too


def findings(page: Any) -> list[str]:
    """What axe finds serious."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {each['html'][:200]} {each.get('failureSummary', '')[:300]}"
        for one in found
        if one["impact"] in SERIOUS
        for each in one["nodes"][:3]
    ]


@pytest.mark.parametrize("path", PATHS)
def test_page_is_silent_small_and_accessible(node: PageNode, shown: tuple[Any, Observer], path: str) -> None:
    """No console or CSP message, no request elsewhere, no serious finding of axe; 390 px without sideways scrolling."""
    page, observer = shown
    opened(page, node, path)
    assert page.locator(".message").count() == 0, page.locator(".message").first.inner_text()
    for size in (PHONE, DESK):
        page.set_viewport_size(size)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    observer.check(path)
    assert findings(page) == []
    page.goto("about:blank")
    observer.forget()  # axe tries what the policy of the page refuses


@pytest.mark.parametrize("path", PATHS)
def test_keyboard_reaches_every_control_of_a_page(node: PageNode, engineer: Any, path: str) -> None:
    """By Tab alone, and what has the focus shows it."""
    opened(engineer, node, path)
    count = engineer.evaluate(CONTROLS)
    for _ in range(min(count + 20, MAX_STOPS)):
        engineer.keyboard.press("Tab")
        engineer.evaluate(FOCUSED)
    if count + 20 <= MAX_STOPS:
        left = engineer.evaluate(LEFT)
        assert not left, "\n".join(left)
    unseen = engineer.evaluate("window.unseen")
    assert not unseen, "\n".join(unseen)
