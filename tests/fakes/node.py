"""The parts of a node from which metrics are read; nothing runs."""

from __future__ import annotations

import os
from types import SimpleNamespace

from pydantic import SecretStr

from edge import config
from edge.camera.supervised_camera import CameraStatus
from edge.host.clock import NS_PER_S
from edge.monitoring.prometheus import Reading
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.event_latency import EventLatency
from fakes import FakeClock


class Parts:
    """The parts of a node; nothing runs."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        network = SimpleNamespace(card=SimpleNamespace(classes=("scratches",)), batch=32)
        camera = config.Camera(name="top", source=SecretStr("strip:"))
        self.session = CameraSession.of(camera, network, self.clock, live=True)  # type: ignore[arg-type]
        self.trail = EventLatency(["top"], self.clock)
        now = self.clock.monotonic_ns()
        status = CameraStatus("open", now, os.getpid(), 2, now - NS_PER_S, 3, 40, None, "")
        link = SimpleNamespace(
            connected=True, depth=5, acknowledged=7, refused=1, connections=2, last_ack_ns=now - 4 * NS_PER_S
        )
        self.reading = Reading(
            lambda: [self.session],
            SimpleNamespace(snapshot=lambda: {"top": status}),
            SimpleNamespace(snapshot=lambda: link),
            SimpleNamespace(waiting=1, stored=9, dropped=0),
            self.trail,
            self.clock,
            lambda: {"version": "1"},
            SimpleNamespace(
                archive=SimpleNamespace(files={"defect": 3, "audit": 2}, bytes=500, written_bytes=900, evicted=4),
                lost={"queue": 1, "disk": 0},
            ),
            lambda: {"inspection": SimpleNamespace(beat_ns=now - NS_PER_S // 2)},
        )
