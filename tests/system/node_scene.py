"""A node with real camera processes and the network that is shipped, and an HTTP camera whose picture tests spoil."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from camera_scene import children_of
from fakes import node

from edge.camera.sources.simulator import Strip
from edge.camera.supervisor import Supervisor
from edge.event import Event
from edge.frame import Gray
from edge.host import machine
from edge.model.classifier import Classifier

FPS = 25.0
STRIP = Strip(width=512, height=256)

PICTURES: dict[str, Callable[[Gray, int], Gray]] = {
    "good": lambda image, _n: image,
    "frozen": lambda _image, _n: STRIP.frame(7),
    "dark": lambda image, _n: np.zeros_like(image),
    "saturated": lambda image, _n: np.full_like(image, 255),
    "blurred": lambda image, _n: np.asarray(cv2.GaussianBlur(image, (0, 0), 4), np.uint8),
    "torn": lambda image, _n: np.vstack([image[:130], np.clip(image[130:].astype(int) + 70, 0, 255).astype(np.uint8)]),
    "larger": lambda image, _n: np.asarray(cv2.resize(image, (1024, 512)), np.uint8),
}


class HttpCamera:
    """Serves Motion JPEG of a moving strip; `mode` names the fault of the picture."""

    def __init__(self) -> None:
        self.mode = "good"
        self.stopped = threading.Event()
        self.flows = threading.Event()
        """While it is not set nothing is sent, and the connection stays."""
        self.flows.set()
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    camera.show(self.wfile.write)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/cam"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def show(self, write: Callable[[bytes], object]) -> None:
        n, due = 0, time.monotonic()
        while not self.stopped.is_set():
            self.flows.wait()
            picture = PICTURES[self.mode](STRIP.frame(n), n)
            data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            write(head.encode() + data + b"\r\n")
            n, due = n + 1, due + 1 / FPS
            self.stopped.wait(max(0.0, due - time.monotonic()))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.flows.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


class Slow:
    """The real network on a slower processor: each tile takes this long, without blocking other threads."""

    def __init__(self, inner: Classifier, tile_s: float) -> None:
        self.inner, self.tile_s = inner, tile_s
        self.bundle, self.card, self.temperature, self.batch = inner.bundle, inner.card, inner.temperature, 4
        self.surface, self.sharpness = inner.surface, inner.sharpness

    def score(self, tiles: Gray) -> Any:
        time.sleep(self.tile_s * len(tiles))
        return self.inner.score(tiles)

    def cells(self, tiles: Gray) -> Any:
        return self.inner.cells(tiles)


class Scene(node.Scene):
    """Cameras, supervisor and inspection loop; events are kept.  At its end every frame must be accounted for."""

    def __init__(self, folder: Path, *cameras: dict[str, Any], tile_s: float = 0.0) -> None:
        super().__init__(
            folder,
            [{"budget_ms": 500, **camera} for camera in cameras],
            supervise=Supervisor,
            instead=(lambda network: Slow(network, tile_s)) if tile_s else None,
            report_s=0.5,
        )
        self.longest_queue = 0

    def start(self) -> None:
        super().start()
        self.supervisor.start()

    def __exit__(self, kind: object, *_: object) -> None:
        self.supervisor.stop(3.0)
        assert self.loop.stop(10.0)
        if kind is None:
            assert self.loop.failure is None
            for name in self.sessions:
                self.check_sums(name)
        self.supervisor.close()
        assert children_of(os.getpid()) == []

    @property
    def events(self) -> list[Event]:
        return [event for event, _ in tuple(self.delivery.events)]

    def check_sums(self, name: str) -> None:
        """Every frame that the supervisor counted is in one state; notices without a frame are counted beside them."""
        session, status = self.sessions[name], self.supervisor.snapshot()[name]
        total = session.counters.account.total()
        no_frames = session.counters.losses.get(("dropped", "stale"), 0) + session.counters.losses.get(
            ("bad_image", "unreadable"), 0
        )
        assert total["delivered"] == sum(total["frames"].values()) == status.delivered + no_frames
        assert status.waiting == 0
        missed = sum(total["frames"][state] for state in ("bad_image", "late", "dropped"))
        assert sum(session.counters.losses.values()) == missed

    def until(self, fact: Callable[[], object], limit_s: float = 30.0) -> float:
        """Wait for a fact.  Returns the seconds it took."""
        start = time.monotonic()
        while not fact():
            took_s = time.monotonic() - start
            assert self.loop.failure is None, self.loop.failure
            assert took_s < limit_s, f"not within {limit_s} s: {self.reported()[-10:]} {self.supervisor.snapshot()}"
            self.longest_queue = max(
                [self.longest_queue, *(status.waiting for status in self.supervisor.snapshot().values())]
            )
            time.sleep(0.01)
        return time.monotonic() - start

    def resident_bytes(self) -> dict[str, int]:
        """Memory of this process and of each camera's."""
        pids = {name: status.pid for name, status in self.supervisor.snapshot().items()}
        return {name: machine.resident_bytes(pid or 0) or 0 for name, pid in {"daemon": os.getpid(), **pids}.items()}

    def frames(self, name: str) -> int:
        return self.sessions[name].counters.account.delivered()

    def more(self, name: str, count: int) -> Callable[[], bool]:
        goal = self.frames(name) + count
        return lambda: self.frames(name) >= goal

    def reported(self, name: str = "") -> list[tuple[str, str, Any]]:
        return [(e.camera, e.type, e.detail) for e in self.events if name in ("", e.camera)]

    def has(self, name: str, kind: str, reason: str = "") -> bool:
        return any(k == kind and (not reason or (d or {}).get("reason") == reason) for _, k, d in self.reported(name))

    def count(self, name: str, *states: str) -> int:
        frames = self.sessions[name].counters.account.total()["frames"]
        return sum(frames[state] for state in states)
