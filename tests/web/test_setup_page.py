"""The guided start on the page of a running node: a camera with a password is typed in, tried, written."""

from __future__ import annotations

import base64
import re
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import DESK, PATIENCE_MS, Observer
from fakes.waiting import until
from page_node import CAMERA, PageNode

from edge import config

pytestmark = pytest.mark.system

SLOW_MS = 2 * PATIENCE_MS
"""For commands that run behind everything else of the machine."""
USER, PASSWORD = "viewer", "Pa#ss/w 1"
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Camera(BaseHTTPRequestHandler):
    """An MJPEG stream of noise for who has the password."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != LOGIN:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        rng = np.random.default_rng(1)
        try:
            while not self.server.is_ending.wait(0.04):
                jpeg = cv2.imencode(".jpg", rng.normal(120, 20, (240, 480)).clip(0, 255).astype(np.uint8))[1].tobytes()
                self.wfile.write(b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                self.wfile.write(jpeg + b"\r\n")
        except OSError:
            pass  # the reader has gone

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """Of a camera that wants a password."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.is_ending = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}/live.mjpg"
    finally:
        server.is_ending.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[PageNode]:
    with PageNode(tmp_path / "node", [{**CAMERA, "fps": 5}]) as running:
        yield running.start().wait()


def test_camera_with_a_password_is_set_up(node: PageNode, address: str, browser: Any) -> None:
    """From the live page to the new camera's pictures; the password is in one file of mode 600 and nowhere else."""
    before = node.config.read_text()
    context = browser.new_context(viewport=DESK, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    observer = Observer(context, node.url)
    page = context.new_page()
    page.goto(node.link())
    page.get_by_role("link", name="Set up your own camera").click()
    page.get_by_role("button", name="Add a camera by its address").click()
    page.get_by_label("Address").fill(f"http://{USER}:wrong@{address}")
    page.keyboard.press("Tab")
    page.get_by_label("Password").fill(PASSWORD)
    assert page.get_by_label("Address").input_value() == f"http://{address}"
    page.get_by_label("Name of this node").fill("line9")
    page.get_by_role("button", name="Try cameras and broker").click()
    page.get_by_role("img", name="Picture of camera top with its tiles").wait_for(timeout=SLOW_MS)
    shown = page.locator(".setup-difference").inner_text()
    assert f"***@{address}" in shown
    assert node.config.read_text() == before
    page.get_by_role("button", name="Write it").click()
    page.locator(".setup-done").filter(has_text="node, travel.speed_m_per_s take effect at the next start").wait_for(
        timeout=SLOW_MS
    )

    secret = node.folder / "camera-top-password"
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == (f"{PASSWORD}\n", 0o600)
    settings = config.load(node.config)
    assert [camera.name for camera in settings.cameras] == ["top"]
    assert "Pa%23ss%2Fw%201" in settings.cameras[0].source.get_secret_value()
    until(lambda: node.get("/state")["cameras"][0]["size_px"] == [480, 240], 20, "the new camera's pictures")
    acts = node.get("/events?type=operator.acted")["events"]
    assert "setup" in [act["detail"]["verb"] for act in acts]
    assert not list((node.state_dir / "web" / "setup").iterdir())

    observer.check("set-up")
    kept = b"".join(path.read_bytes() for path in node.state_dir.rglob("*") if path.is_file())
    assert not re.search(b"Pa(#|%23)ss", kept)
    context.close()
