"""What others name things, and what other pages try, changes nothing on the page: it is text, or it is refused."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from chromium import DESK, PATIENCE_MS, Observer, chromium
from fake_node import FakeNode
from fakes.coils import RecordScene
from fakes.page import PASSWORDS, PageScene, add_users, served_page
from fakes.page_feed import FakeFeed, frame_of
from fakes.waiting import until

from edge.evidence.archive import Archive
from edge.web.settings import CameraSettings

pytestmark = pytest.mark.system

REBOUND = "rebound.example"
NASTY = '<img src=x onerror="hacked=1"><script>hacked=1'
TURN_S = 0.2
FOREIGN = "[...document.querySelectorAll('img[src=x], script:not([src]), [onerror]')].map((one) => one.outerHTML)"
ATTACK = """<!doctype html><title>elsewhere</title><body><script>
const target = "TARGET", tried = [];
const ask = (path, options) =>
  fetch(target + path, { credentials: "include", ...options }).then((answer) => answer.type, () => "refused");
const body = JSON.stringify({ verb: "pause", camera: "top" });
(async () => {
  tried.push(await ask("/api/v1/state", { mode: "cors" }));
  tried.push(await ask("/api/v1/command", { method: "POST", mode: "no-cors", body }));
  tried.push(await ask("/api/v1/command", { method: "POST", headers: { "X-Defectd": "1" }, body }));
  const picture = new Image();
  tried.push(await new Promise((done) => {
    picture.onload = () => done("shown");
    picture.onerror = () => done("refused");
    picture.src = target + "/api/v1/cameras/top/frame";
  }));
  document.body.innerHTML = `<iframe src="${target}/"></iframe><iframe name="sink"></iframe>`;
  const form = Object.assign(document.createElement("form"), {
    method: "POST", enctype: "text/plain", action: target + "/api/v1/command", target: "sink",
  });
  form.append(Object.assign(document.createElement("input"), { name: body.slice(0, -1) + ',"x":"', value: '"}' }));
  document.body.append(form);
  form.submit();
  window.tried = tried;
})();
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """It finds a foreign name at the address of this machine."""
    with chromium(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageScene]:
    """A page of a node on which whatever can have a name has a hostile one; with users."""
    record = RecordScene(tmp_path_factory.mktemp("hostile"))
    record.start_coil(NASTY)
    record.turn()
    record.runs((0.0, 9.0, "whole"), (9.0, 10.0, "missed"), coil=NASTY)
    record.defect(4.0, coil=NASTY, class_name=NASTY)
    record.turn()
    folder = record.settings.state_dir
    fill(folder / "evidence")
    add_users(folder)
    cameras = (CameraSettings("top", NASTY, 20.0),)
    with (
        FakeFeed(folder / "web.sock") as feed,
        served_page(folder, cameras=cameras, classes=(NASTY, "scratches")) as served,
        talking(feed),
    ):
        yield served
    record.output._book.close()
    record.box.close()


def fill(folder: Path) -> None:
    archive = Archive(folder, max_bytes=1 << 24, min_free_bytes=0)
    archive.open()
    facts = {"label": NASTY, "coil": NASTY, "time": "2026-11-22T10:00:00.000Z", "frame_px": [800, 400]}
    place = {"crop_px": [0, 0, 128, 128], "box_in_picture": [0.2, 0.2, 0.5, 0.5]}
    archive.add("defect", "top", jpeg(128, 128), {**facts, **place, "confidence": 0.9, "track_id": "t1"})
    archive.add("unsure", "top", jpeg(128, 128), {**facts, **place, "scores": {NASTY: 0.5, "scratches": 0.4}})
    archive.close()


def jpeg(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((height, width), 90, np.uint8))[1])


def hostile_state(node: FakeNode) -> dict[str, Any]:
    """Of the made-up node, with names of the attacker in every place that shows one."""
    node.step(0)
    state = node.state()
    top, other = state["cameras"]
    state["node"] = state["version"] = NASTY
    state["verdict"], state["reasons"] = "degraded", [NASTY]
    state["strip"]["coil"] = NASTY
    other |= {"name": NASTY, "state": "lost", "reason": NASTY}
    top["reason"] = NASTY
    state["model"] |= {"name": NASTY, "version": NASTY, "classes": [NASTY, "scratches"]}
    state["outputs"] = [{"name": NASTY, "state": "failed", "restarts": 1, "last_error": NASTY}]
    state["grade"] = {"grade": NASTY, "reasons": [NASTY]}
    for mark in state["roll_marks"]:
        mark["rolls"] = [NASTY]
    return {"kind": "state", "state": state}


@contextmanager
def talking(feed: FakeFeed) -> Iterator[None]:
    """The daemon's side: a state and a frame five times a second, an event a second."""
    stop, node = threading.Event(), FakeNode()

    def run() -> None:
        number = 0
        while not stop.wait(TURN_S):
            number += 1
            region = {
                **dict.fromkeys(("track_id", "anomaly", "length_mm")),
                "class": NASTY,
                "confidence": 0.9,
                "severity": "major",
                "box_px": [100, 40, 60, 60],
                "extent_px": [100, 40, 60, 60],
            }
            feed.say(hostile_state(node))
            feed.say(frame_of(number, coil=NASTY, regions=[region]), jpeg(1600, 256))

    thread = threading.Thread(target=run, name="talking")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture
def engineer(scene: PageScene, browser: Any) -> Iterator[Any]:
    """A page whose user has typed a name and a password."""
    context = browser.new_context(viewport=DESK)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{scene.port}/")
    page.get_by_label("Name").fill("edda")
    page.get_by_label("Password").fill(PASSWORDS["edda"])
    page.keyboard.press("Enter")
    page.wait_for_selector(".picture-live")
    yield page
    context.close()


def test_names_are_text_on_every_page(scene: PageScene, engineer: Any) -> None:
    """Coil, class, camera, node, model, reasons: shown as they are, never as markup."""
    from test_pages import PATHS

    shown = {}
    observer = Observer(engineer.context, f"http://127.0.0.1:{scene.port}")
    for path in (path.replace("A4711", quote(NASTY, safe="")) for path in PATHS):
        engineer.goto(f"http://127.0.0.1:{scene.port}{path}")
        engineer.wait_for_selector(".freshness:not(.waiting)")
        until(lambda: engineer.locator(".page-loading").count() == 0, 20, path)
        engineer.wait_for_timeout(600)
        assert engineer.evaluate("typeof hacked") == "undefined", path
        assert engineer.evaluate(FOREIGN) == [], path
        shown[path] = engineer.locator("#content").inner_text().count("<img")
    assert shown["/"] >= 4, shown
    assert all(count for path, count in shown.items() if re.match("/(coils|events$|evidence|label)", path)), shown
    assert not [words for words in observer.said if "Content Security Policy" in words]
    assert observer.foreign == []


def test_page_elsewhere_reads_and_changes_nothing(scene: PageScene, engineer: Any, tmp_path: Path) -> None:
    """In a browser with an engineer's session: fetch, form, picture and frame are refused, by name tricks, too."""
    (tmp_path / "index.html").write_text(ATTACK.replace("TARGET", f"http://127.0.0.1:{scene.port}"))
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(tmp_path)))
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        page = engineer.context.new_page()
        statuses: list[tuple[str, str, int]] = []
        target = f"http://127.0.0.1:{scene.port}/"
        page.on("response", lambda answer: statuses.append((answer.request.method, answer.url, answer.status)))
        page.goto(f"http://localhost:{served.server_port}/")
        until(lambda: page.evaluate("window.tried"), 20, "the attack")
        assert page.evaluate("window.tried") == ["refused"] * 4
        # Asking the page lets Playwright deliver what has happened meanwhile.
        posts = until(lambda: page.evaluate("1") and [each for each in statuses if each[0] == "POST"], 20, "the form")
        assert {status for method, url, status in statuses if url.startswith(target + "api/")} == {403}, statuses
        assert posts
        until(lambda: page.evaluate("1") and len(page.frames) == 3, 10)
        assert not [frame for frame in page.frames if frame.locator(".bar").count()]
        answer = page.goto(f"http://{REBOUND}:{scene.port}/")
        assert answer.status == 421
    finally:
        served.shutdown()
        thread.join(10)
        served.server_close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""
