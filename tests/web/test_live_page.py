"""The live page over a real daemon: what it shows belongs together, and it shows when it is old."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import DESK, PATIENCE_MS, Observer
from fakes.waiting import until
from page_node import CAMERA, PageNode
from proxy import Proxy

from edge.camera.sources.simulator import Strip

pytestmark = pytest.mark.system

GREY_S = 3.0
SHOWN = 6
"""Frames with a defect that are compared."""
FRAMES_KEPT = """(() => {
  const kept = (window.keptFrames = new Map());
  const real = window.fetch;
  window.fetch = async (...given) => {
    const response = await real(...given);
    const text = response.headers.get("Defectd-Frame");
    if (text) {
      const frame = JSON.parse(text);
      kept.set(frame.number, frame);
      if (kept.size > 50) kept.delete(kept.keys().next().value);
    }
    return response;
  };
})()"""
"""Keeps what the server states of each frame, as the page gets it."""
SHOWN_NOW = """async () => {
  const picture = document.querySelector(".picture");
  const layer = picture.querySelector(".picture-boxes").getBoundingClientRect();
  const boxes = [...picture.querySelectorAll(".defect-box")].map((box) => box.getBoundingClientRect());
  const frame = window.keptFrames.get(Number(picture.dataset.frame));
  const canvas = picture.querySelector("canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  const bytes = new Uint8Array(await (await copy.convertToBlob()).arrayBuffer());
  return {
    frame,
    labels: [...picture.querySelectorAll(".defect-label b:first-of-type")].map((label) => label.textContent),
    boxes: boxes.map(({ left, top, width, height }) => [
      (left - layer.left) / layer.width, (top - layer.top) / layer.height, width / layer.width, height / layer.height,
    ]),
    png: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")),
  };
}"""
STORE = """async () => {
  const { store, ageMs } = await import("/static/js/store.js");
  return { seqs: store.events.map(({ seq }) => seq), epoch: store.state?.epoch, ageMs: ageMs() };
}"""
WATCH_GREY = """() => {
  const note = () => document.querySelector(".app.stale") && (window.greyAt ??= performance.now());
  new MutationObserver(note).observe(document.getElementById("app"), { subtree: true, attributeFilter: ["class"] });
}"""
GREY = """async () => {
  const { store } = await import("/static/js/store.js");
  return window.greyAt && document.querySelector(".stale-banner") && { ageMs: window.greyAt - store.at };
}"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageNode]:
    camera = {**CAMERA, "fps": 15}
    with PageNode(tmp_path_factory.mktemp("live") / "node", [camera]) as running:
        yield running.start().wait()


@pytest.fixture
def context(node: PageNode, browser: Any) -> Iterator[Any]:
    made = browser.new_context(viewport=DESK)
    made.set_default_timeout(PATIENCE_MS)
    made.add_init_script(FRAMES_KEPT)
    made.new_page().goto(node.link())
    yield made
    made.close()


def is_live(page: Any) -> bool:
    return page.locator(".app:not(.stale) .picture-live").count() > 0


def test_boxes_fit_the_frame_shown(node: PageNode, context: Any) -> None:
    """Picture, boxes and words are those of one frame number: as the server states them, and as the strip was."""
    (page,) = context.pages
    observer = Observer(context, node.url)
    page.wait_for_selector(".picture-live")
    strip = Strip.from_url(CAMERA["source"])
    seen: dict[int, Any] = {}

    def enough() -> bool:
        shown = page.evaluate(SHOWN_NOW)
        if shown["boxes"]:
            seen[shown["frame"]["number"]] = shown
        page.wait_for_timeout(30)
        return len(seen) >= SHOWN

    until(enough, 40, "frames with defects")
    for number, shown in seen.items():
        frame = shown["frame"]
        size = np.array(frame["size_px"] * 2)
        expected = sorted(on_picture(region, frame["size_px"]) for region in frame["regions"])
        found = sorted((np.array(box) * size).tolist() for box in shown["boxes"])
        assert np.allclose(found, expected, atol=2), number
        assert sorted(shown["labels"]) == sorted(region["class"].replace("_", " ") for region in frame["regions"])
        assert drawn_as(strip, shown["png"], number) == number
        for x, y, w, h in found:
            middle = x + w / 2, y + h / 2
            truths = [box for _, box in strip.truth(number)]
            assert any(left <= middle[0] <= left + w and top <= middle[1] <= top + h for left, top, w, h in truths)
    assert len({tuple(np.ravel(shown["boxes"])) for shown in seen.values()}) > 1, "the defect moves"
    observer.check("live")


def on_picture(region: dict[str, Any], size: list[int]) -> list[float]:
    """x, y, w, h of the box of a region: around its extent with a margin, or its tiles."""
    x, y, w, h = region["extent_px"] or region["box_px"]
    pad = 8 if region["extent_px"] else 0
    left, top = max(0, x - pad), max(0, y - pad)
    return [left, top, min(size[0], x + w + pad) - left, min(size[1], y + h + pad) - top]


def drawn_as(strip: Strip, png: str, number: int) -> int:
    """The number of the frame of the strip, near this one, that the picture resembles most."""
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_GRAYSCALE).astype(float)
    assert shown.shape == (strip.height, strip.width)
    near = range(max(0, number - 3), number + 4)
    return min(near, key=lambda n: float(np.abs(shown - strip.frame(n)).mean()))


def cut(node: PageNode, proxy: Proxy) -> None:
    """Connections end, and new ones, too."""
    proxy.set("reset")


def freeze(node: PageNode, proxy: Proxy) -> None:
    """Connections stay open and carry nothing."""
    proxy.set("blackhole")


def kill_page(node: PageNode, proxy: Proxy) -> None:
    proxy.set("refuse")
    node.kill_page()


def kill_daemon(node: PageNode, proxy: Proxy) -> None:
    node.kill()


@pytest.mark.parametrize("fault", [cut, freeze, kill_page, kill_daemon])
def test_page_turns_grey_and_comes_back_without_a_gap(
    node: PageNode, browser: Any, fault: Callable[[PageNode, Proxy], None]
) -> None:
    """Grey within 3 s; live again by itself; the events of the meantime are there."""
    proxy = Proxy(node.port)
    context = browser.new_context(viewport=DESK)
    try:
        page = context.new_page()
        page.goto(node.link().replace(str(node.port), str(proxy.port)))
        until(lambda: is_live(page), 20, "a live page")
        until(lambda: page.evaluate(STORE)["seqs"], 20, "events")
        before = page.evaluate(STORE)
        page.evaluate(WATCH_GREY)
        fault(node, proxy)
        grey = until(lambda: page.evaluate(GREY), 10, "grey")
        assert grey["ageMs"] <= 1000 * GREY_S
        assert page.locator(".freshness.old").inner_text().startswith("no contact")
        if fault is kill_daemon:
            node.start().wait()
        last = until(lambda: (node.get("/state") or {}).get("delivery", {}).get("last_seq"), 20, "the node")
        until(
            lambda: (node.get("/state") or {"delivery": {"last_seq": 0}})["delivery"]["last_seq"] > last, 20, "an event"
        )
        proxy.set("pass")
        until(lambda: page.locator(".app:not(.stale)").count() > 0, 20, "contact again")
        until(lambda: page.evaluate(STORE)["seqs"][0] > last, 20, "missed events")
        seqs = page.evaluate(STORE)["seqs"]
        assert seqs == list(range(seqs[0], seqs[-1] - 1, -1))
        assert seqs[-1] <= before["seqs"][0], "the events before are still there"
        until(lambda: is_live(page), 20, "the picture again")
    finally:
        context.close()
        proxy.close()


def test_seven_tabs_are_live_at_once(node: PageNode, context: Any) -> None:
    """More tabs than a browser opens connections: each gets new states and new pictures."""
    pages = [*context.pages, *(context.new_page() for _ in range(6))]
    for page in pages[1:]:
        page.goto(node.url)
    for page in pages:
        page.wait_for_selector(".picture-live")
    numbers = [page.locator(".picture").get_attribute("data-frame") for page in pages]

    def all_moved() -> bool:
        now = [page.locator(".picture").get_attribute("data-frame") for page in pages]
        return all(one != other for one, other in zip(numbers, now, strict=True))

    until(all_moved, 10, "new pictures in each tab")
    ages = [page.evaluate(STORE)["ageMs"] for page in pages]
    assert max(ages) < 2500, ages
    assert not [page for page in pages if page.locator(".stale").count()]
    pages[0].close()  # it held the stream
    until(all_moved_of(pages[1:]), 15, "another tab takes the stream")


def all_moved_of(pages: list[Any]) -> Callable[[], bool]:
    def fact() -> bool:
        return all(page.evaluate(STORE)["ageMs"] < 1500 and not page.locator(".stale").count() for page in pages)

    return fact


def test_wall_shows_figures_to_read_from_afar(node: PageNode, context: Any) -> None:
    """No controls and no scrolling; the figures of the first row are 82 px."""
    page = context.pages[0]
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(f"{node.url}/?wall")
    page.wait_for_selector(".wall .picture-live")
    assert page.locator("nav, .wall button:not(.skip)").count() == 0
    assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        1920,
        1080,
    ]
    sizes = page.evaluate(
        "[...document.querySelectorAll('.wall .band *')].map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert max(sizes) >= 72, sizes


def test_folder_of_the_node_is_left_clean(node: PageNode) -> None:
    """The node ends in time with everything that was looked at."""
    assert node.stop(20) == 0, node.log()
    assert not (Path(node.state_dir) / "web.sock").exists()
