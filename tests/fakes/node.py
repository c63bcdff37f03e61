"""A node of which no part runs: the values that its metrics are read from."""

from __future__ import annotations

import os
from types import SimpleNamespace

from pydantic import SecretStr

from edge import config
from edge.camera.supervised_camera import CameraStatus
from edge.delivery.outputs import OutputStatus
from edge.host.clock import NS_PER_S
from edge.monitoring.monitored_node import MonitoredNode
from edge.monitoring.routes import routes_of
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.event_latency import EventLatency
from fakes.clock import FakeClock


class Parts:
    """A node with one camera, of which no part runs."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        network = SimpleNamespace(card=SimpleNamespace(classes=("scratches",)), batch=32)
        camera = config.Camera(name="top", source=SecretStr("strip:"))
        self.session = CameraSession.of(camera, network, self.clock, live=True)  # type: ignore[arg-type]
        self.trail = EventLatency(["top"], self.clock)
        now = self.clock.monotonic_ns()
        status = CameraStatus("running", now, os.getpid(), 2, now - NS_PER_S, 3, 40, None, "")
        link = SimpleNamespace(
            connected=True, depth=5, acknowledged=7, refused=1, connections=2, last_ack_ns=now - 4 * NS_PER_S
        )
        self.monitored = MonitoredNode(
            sessions=lambda: [self.session],
            cameras=SimpleNamespace(snapshot=lambda: {"top": status}),
            publisher=SimpleNamespace(snapshot=lambda: link),  # type: ignore[arg-type]
            recorder=SimpleNamespace(waiting=1, stored=9, dropped=0),
            latency=self.trail,
            info=lambda: {"version": "1"},
            loops=lambda: {"inspection": SimpleNamespace(beat_ns=now - NS_PER_S // 2)},
            evidence=SimpleNamespace(
                archive=SimpleNamespace(files={"defect": 3, "audit": 2}, bytes=500, written_bytes=900, evicted=4),
                lost={"queue": 1, "disk": 0},
            ),
            outputs=lambda: [OutputStatus("sparkplug", "restarting", now, 3, "no route to host")],
            http_refused={"busy": 2},
        )
        self.routes = routes_of(self.monitored, self.clock)
