"""The values that metrics and health checks read of a node.  Nothing runs."""

from __future__ import annotations

import os
from types import SimpleNamespace

from edge.camera.supervised_camera import CameraStatus
from edge.delivery.outputs import OutputStatus
from edge.host.clock import NS_PER_S
from edge.monitoring.monitored_node import MonitoredNode
from edge.monitoring.page_process import PageStatus
from edge.monitoring.routes import routes_of
from edge.pipeline.event_latency import EventLatency
from fakes import inspection


class Scene:
    """A node with one camera, its metrics and its pages."""

    def __init__(self) -> None:
        inspected = inspection.Scene()
        self.clock = inspected.clock
        (self.session,) = inspected.sessions
        self.latency = EventLatency(["top"], self.clock)
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
            latency=self.latency,
            info=lambda: {"version": "1"},
            loops=lambda: {"inspection": SimpleNamespace(beat_ns=now - NS_PER_S // 2)},
            evidence=SimpleNamespace(
                archive=SimpleNamespace(files={"defect": 3, "audit": 2}, bytes=500, written_bytes=900, evicted=4),
                lost={"queue": 1, "disk": 0},
            ),
            outputs=lambda: [OutputStatus("sparkplug", "restarting", now, 3, "no route to host")],
            page=lambda: PageStatus("running", now, 1, None, os.getpid(), "http://127.0.0.1:8480/", 2),
            http_refused={"busy": 2},
        )
        self.routes = routes_of(self.monitored, self.clock)
