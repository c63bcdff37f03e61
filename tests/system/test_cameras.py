"""Failures of cameras in a plant: servers die or go silent, camera processes hang, the daemon is killed."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_scene import PATIENCE_S, Scene, camera, children_of
from rtsp_camera import RtspServer, need_gstreamer

from edge.camera.notices import CameraEnded, CameraLost, CameraOpened, FramesLost
from edge.camera.opening import spec_of
from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.registry import open_source
from edge.camera.supervised_camera import stall_limit_s
from edge.errors import CameraError

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
FAST = "strip:?width=256&height=64"


@pytest.fixture
def rtsp(free_port: int) -> Iterator[RtspServer]:
    need_gstreamer()
    server = RtspServer(free_port)
    yield server
    server.kill()


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """Motion JPEG over HTTP: gray values that count up; `/once` ends after 20 pictures, `/locked` wants a login."""

    def do_GET(self) -> None:
        if self.path.startswith("/locked"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="cam"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for n in range(20 if self.path == "/once" else 100_000):
                data = cv2.imencode(".jpg", np.full((240, 320), 20 + n % 200, np.uint8))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                if self.server.stopped.wait(0.05):  # type: ignore[attr-defined]
                    return

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mjpeg() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg)
    server.stopped = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stopped.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join(PATIENCE_S)


# Streams


def test_rtsp_camera_that_dies_is_lost_and_opened_again(rtsp):
    """A killed server is a lost camera within the stall limit; the supervisor opens it again once it runs."""
    rtsp.start()
    source = camera("a", rtsp.url)
    with Scene(source) as scene:
        scene.until(scene.more("a", 20))
        (opened,) = scene.reported(CameraOpened)
        assert (opened.actual.backend, opened.actual.width, opened.actual.height) == ("FFMPEG", 320, 240)
        assert opened.actual.fps == 10.0
        rtsp.kill()
        took_s = scene.until(lambda: scene.reported(CameraLost))
        assert took_s < stall_limit_s(spec_of(source), opened.actual, delivers=True)
        scene.until(lambda: scene.supervisor.snapshot()["a"].restarts >= 3)
        assert "refused" in scene.supervisor.snapshot()["a"].reason
        rtsp.start()
        scene.until(lambda: len(scene.reported(CameraOpened)) == 2)
        scene.until(scene.more("a", 10))
        assert len(scene.reported(CameraLost)) == 1
        scene.supervisor.stop(5)
        scene.until(lambda: scene.supervisor.heads() == ())
        assert scene.adds_up("a")


def test_rtsp_camera_that_goes_silent_is_lost_within_its_limit(rtsp):
    """It sends no picture and no error: the read timeout ends the wait, and the supervisor opens it again."""
    rtsp.start()
    source = camera("a", rtsp.url, read_timeout_s=1.0)
    with Scene(source) as scene:
        scene.until(scene.more("a", 10))
        rtsp.signal(signal.SIGSTOP)
        took_s = scene.until(lambda: scene.reported(CameraLost))
        limit_s = stall_limit_s(spec_of(source), scene.reported(CameraOpened)[0].actual, delivers=True)
        assert 0.7 < took_s < limit_s + 0.5
        rtsp.signal(signal.SIGCONT)
        scene.until(lambda: len(scene.reported(CameraOpened)) == 2)
        scene.until(scene.more("a", 5))


def test_rtsp_camera_with_far_key_frames_opens(free_port):
    """Key frames may be further apart than the read timeout, because the first one is used."""
    need_gstreamer()
    server = RtspServer(free_port, "10", "320", "240", "", "80")
    server.start()
    try:
        with Scene(camera("a", server.url)) as scene:
            scene.until(scene.more("a", 5))
            assert scene.reported(CameraLost) == []
    finally:
        server.kill()


def test_rtsp_over_udp_delivers(rtsp):
    """The configuration offers UDP as a second transport, and it delivers frames, too."""
    rtsp.start()
    with Scene(camera("a", rtsp.url, rtsp_transport="udp")) as scene:
        scene.until(scene.more("a", 5))


def test_rtsp_login_is_used_and_its_absence_reported(free_port):
    """The right login gives pictures, a missing one a message with 401; no message contains a password."""
    need_gstreamer()
    server = RtspServer(free_port, "10", "320", "240", "viewer:s3cret")
    server.start()
    address = f"127.0.0.1:{free_port}/cam"
    try:
        with Scene(camera("a", f"rtsp://viewer:s3cret@{address}")) as scene:
            scene.until(scene.more("a", 3))
        for login, words in (("", "401"), ("viewer:wr0ng@", "does not open with this one")):
            with pytest.raises(CameraError, match=words) as caught:
                open_source(SourceSpec(f"rtsp://{login}{address}"))
            assert "wr0ng" not in str(caught.value)
    finally:
        server.kill()


def test_mjpeg_over_http_delivers_and_its_end_is_a_loss(mjpeg):
    """A common web camera opens and delivers without a gap; the supervisor opens a stream that ended again."""
    with Scene(camera("a", f"{mjpeg}/cam"), camera("b", f"{mjpeg}/once")) as scene:
        scene.until(scene.more("a", 20))
        scene.until(lambda: len(scene.reported(CameraOpened, "b")) >= 2)
        assert scene.numbers["a"] == list(range(len(scene.numbers["a"])))
        assert "stopped" in scene.reported(CameraLost, "b")[0].reason
        assert scene.reported(CameraEnded) == []
        assert scene.reported(CameraLost, "a") == []


def test_mjpeg_that_wants_a_login_is_reported_with_that_reason(mjpeg):
    """The state of the camera names the reason why it does not open."""
    with Scene(camera("a", f"{mjpeg}/locked?token=hidden")) as scene:
        scene.until(lambda: scene.reported(CameraLost))
        assert "wants a login (401)" in scene.reported(CameraLost)[0].reason
        assert "hidden" not in scene.reported(CameraLost)[0].reason


def test_stream_that_accepts_and_stays_silent_is_given_up():
    """A host that accepts the connection and stays silent costs the open timeout and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/cam"
        source = camera("a", url, open_timeout_s=0.5, read_timeout_s=0.5)
        with Scene(source, camera("b", FAST, fps=50)) as scene:
            scene.until(lambda: scene.reported(CameraLost, "a"))
            assert "did not open within" in scene.reported(CameraLost, "a")[0].reason
            scene.until(scene.more("b"))
            assert scene.reported(FramesLost) == []


def test_unknown_host_does_not_keep_the_others_from_running():
    """DNS does not know the host of one camera; the other camera starts at once and loses nothing."""
    with Scene(camera("a", "rtsp://nosuch.invalid/cam"), camera("b", FAST, fps=60)) as scene:
        scene.until(lambda: scene.supervisor.snapshot()["a"].restarts >= 3)
        scene.until(scene.more("b", 60))
        assert "not known" in scene.reported(CameraLost, "a")[0].reason
        assert scene.numbers["b"] == list(range(len(scene.numbers["b"])))
        assert scene.reported(FramesLost) == []


# Children


def test_killed_child_is_back_within_seconds_and_the_other_camera_loses_nothing():
    """A camera process is back within 5 s of kill -9, and the frame numbers of the other camera have no gap."""
    with Scene(camera("a", FAST, fps=30), camera("b", FAST, fps=100)) as scene:
        scene.until(lambda: scene.numbers["a"] and scene.numbers["b"])
        for _ in range(3):
            opened = len(scene.reported(CameraOpened, "a"))
            scene.signal("a", signal.SIGKILL)
            took_s = scene.until(lambda: len(scene.reported(CameraOpened, "a")) > opened)  # noqa: B023 (called here)
            assert took_s < 5
        assert scene.numbers["b"] == list(range(len(scene.numbers["b"])))
        assert scene.reported(FramesLost) == []
        assert scene.reported(CameraLost, "b") == []


def test_hung_child_is_killed_and_replaced():
    """A stopped process delivers nothing: the supervisor kills it after the stall limit and starts another."""
    source = camera("a", FAST, fps=50, read_timeout_s=0.5)
    with Scene(source, camera("b", FAST, fps=50)) as scene:
        scene.until(scene.more("a"))
        hung = scene.pid("a")
        scene.signal("a", signal.SIGSTOP)
        took_s = scene.until(lambda: scene.reported(CameraLost, "a"))
        assert took_s < stall_limit_s(spec_of(source), None, delivers=True) + 1
        assert "hangs" in scene.reported(CameraLost, "a")[0].reason
        scene.until(lambda: len(scene.reported(CameraOpened, "a")) == 2)
        scene.until(scene.more("a"))
        assert not Path(f"/proc/{hung}").exists()
        assert scene.numbers["b"] == list(range(len(scene.numbers["b"])))


DAEMON = """
import sys, time
from camera_scene import Scene, camera
scene = Scene(camera("a", "{fast}"), camera("b", "{fast}"))
scene.until(lambda: scene.numbers["a"] and scene.numbers["b"])
print("runs", flush=True)
while True:
    scene.step()
"""


def test_killed_daemon_leaves_no_child_behind():
    """After kill -9 of the daemon its camera processes and their shared memory are gone."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON.format(fast=FAST)], stdout=subprocess.PIPE, env=environment
    ) as daemon:
        try:
            assert daemon.stdout
            assert daemon.stdout.readline() == b"runs\n"
            children = children_of(daemon.pid)
            assert len(children) == 2
        finally:
            daemon.kill()
        daemon.wait(PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """A zombie that waits for its new parent counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_real_recordings_play_through_the_ring():
    """Every frame of a folder of photographs and of a video arrives in order at full speed."""
    frames = SHARED / "normal-steel" / "severstal" / "frames"
    video = SHARED / "video" / "bottle-detection.mp4"
    if not frames.is_dir() or not video.is_file():
        pytest.skip("the real images are not on this machine")
    with Scene(camera("a", frames, fps=0), camera("b", video, fps=0)) as scene:
        scene.until(lambda: len(scene.reported(CameraEnded)) == 2, 120)
        for name in ("a", "b"):
            assert scene.numbers[name] == list(range(scene.reported(CameraEnded, name)[0].frames))
            assert scene.adds_up(name)
        assert len(scene.numbers["a"]) == len(list(frames.glob("*.jpg")))
        assert scene.reported(FramesLost) == []
