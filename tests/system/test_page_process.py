"""The page process by itself: what it loads, what it holds under load, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fakes.page import PageClient, page_settings, read_until
from fakes.page_feed import FakeFeed, frame_of, state_of
from fakes.ports import free_port
from fakes.waiting import until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
MAX_PRIVATE_MB = 35
HAMMER_S = 4.0
JPEG = os.urandom(120_000)
"""As large as a whole frame of 1600 px."""


@contextmanager
def page_process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], PageClient]]:
    """`python -m edge.web` as a child of this process, once it serves."""
    port = free_port()
    settings = page_settings(folder, listen=("127.0.0.1", port), log_level="warning")
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-m", "edge.web", str(os.getpid())],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(settings.to_json().encode())
        process.stdin.close()
        try:
            until(lambda: process.poll() is not None or answers(port), 20, "the page")
            yield process, PageClient(port)
        finally:
            process.kill()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def private_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return sum(int(kb) for kb in re.findall(r"Private_(?:Clean|Dirty): +(\d+)", text)) / 1024


def test_page_process_loads_no_configuration_and_no_pictures() -> None:
    """Neither pydantic nor numpy, OpenCV, ONNX Runtime, MQTT, click or TLS keys of bundles."""
    heavy = ("pydantic", "numpy", "cv2", "onnxruntime", "paho", "click", "yaml", "cryptography", "edge.config")
    script = f"import sys, edge.web.__main__; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_page_process_stays_small_under_four_hammering_viewers(tmp_path: Path) -> None:
    """Frames, states, events and files as fast as they come: less than 35 MB are its own, and none more with time."""
    with FakeFeed(tmp_path / "web.sock") as feed, page_process(tmp_path) as (process, client), ExitStack() as stack:
        end = time.monotonic() + HAMMER_S
        counts = [0, 0, 0, 0]

        def hammer(number: int) -> None:
            while time.monotonic() < end:
                client.get("/api/v1/cameras/top/frame")
                for path in ("/api/v1/state", "/api/v1/events", "/static/js/app.js"):
                    assert client.get(path).status == 200
                counts[number] += 1

        silent = [stack.enter_context(client.opened()) for _ in range(8)]  # viewers who do not read
        for stream in silent:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        feed.say(state_of())
        threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        seen = []
        number = 0
        while time.monotonic() < end:
            number += 1
            feed.say(frame_of(number), JPEG)
            feed.say(state_of(reasons=["x" * 2000]))
            feed.say({"kind": "event", "seq": number, "payload": {"seq": number, "type": "x", "detail": "y" * 1000}})
            seen.append(private_mb(process.pid))
            time.sleep(0.03)
        for thread in threads:
            thread.join(20)
        assert process.poll() is None
        assert min(counts) > 3, counts
        assert max(seen) < MAX_PRIVATE_MB, seen
        half = len(seen) // 2
        assert max(seen[half:]) < max(seen[:half]) + 3, "it grows"


def test_page_process_stops_within_a_second_with_viewers(tmp_path: Path) -> None:
    """SIGTERM ends it with code 0; every stream gets its bye."""
    with page_process(tmp_path) as (process, client), ExitStack() as stack:
        streams = [stack.enter_context(client.opened()) for _ in range(5)]
        for stream in streams:
            read_until(stream, b"retry: ")
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 1.0
        for stream in streams:
            read_until(stream, b"event: bye\n")


def test_page_process_says_why_it_cannot_serve(tmp_path: Path) -> None:
    """A port in use, a missing certificate, settings that are none: one line, and no stack."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = page_settings(tmp_path, listen=taken.getsockname())
        done = subprocess.run(
            [sys.executable, "-m", "edge.web"],
            input=settings.to_json(),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert "Address already in use" in done.stdout
    assert "Traceback" not in done.stderr
