"""Opens each configured camera for a moment, in a process of its own as the daemon does, and reports its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge.camera.notices import CameraLost, CameraOpened
from edge.camera.sources.contract import SourceInfo
from edge.camera.supervisor import Supervisor
from edge.config import Camera
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact

WAIT_S: Final = 0.5
START_S: Final = 2.0
"""For a camera process to start."""
STOP_S: Final = 0.7


@dataclass(frozen=True, slots=True)
class Probe:
    """The result for one camera: its actual format, or why it does not open."""

    actual: SourceInfo | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"error": self.error} if self.actual is None else {"actual": self.actual.as_json()}


def probe(cameras: Sequence[Camera], clock: Clock) -> dict[str, Probe]:
    """Probe all cameras at once.  Takes no longer than the slowest timeout among them."""
    if not cameras:
        return {}
    found: dict[str, Probe] = {}
    limit_s = max(camera.open_timeout_s + camera.read_timeout_s for camera in cameras) + START_S
    until_ns = clock.monotonic_ns() + int(limit_s * NS_PER_S)
    supervisor = Supervisor(cameras, clock)
    try:
        supervisor.start()
        while len(found) < len(cameras) and clock.monotonic_ns() < until_ns:
            supervisor.wait(WAIT_S)
            for name, _ in supervisor.heads():
                supervisor.release(supervisor.pop(name))
            for notice in supervisor.take_notices():
                if isinstance(notice, CameraOpened):
                    found[notice.camera] = Probe(notice.actual)
                elif isinstance(notice, CameraLost):
                    found.setdefault(notice.camera, Probe(error=redact(notice.reason)))
    finally:
        supervisor.stop(STOP_S)
        supervisor.close()
    late = Probe(error=f"gives no picture within {limit_s:g} s")
    return {camera.name: found.get(camera.name, late) for camera in cameras}
