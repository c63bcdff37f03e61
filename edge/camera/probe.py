"""What each configured camera really delivers: opened for a moment, in a process of its own as `run` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from edge import config
from edge.camera.supervisor import CameraLost, CameraOpened, Supervisor
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact

WAIT_S: Final = 0.5
PROBE_SPARE_S: Final = 2.0
"""For a camera process to start."""
STOP_S: Final = 0.7


def probed(cameras: Sequence[config.Camera], clock: Clock) -> dict[str, dict[str, Any]]:
    """What each camera gives, or its error: opened for a moment, in a process of its own as `run` does it."""
    found: dict[str, dict[str, Any]] = {}
    supervisor = Supervisor(cameras, clock)
    longest_s = max(camera.open_timeout_s + camera.read_timeout_s for camera in cameras) + PROBE_SPARE_S
    until_ns = clock.monotonic_ns() + int(longest_s * NS_PER_S)
    supervisor.start()
    try:
        while len(found) < len(cameras) and clock.monotonic_ns() < until_ns:
            supervisor.wait(WAIT_S)
            for name, _ in supervisor.heads():
                supervisor.release(supervisor.pop(name))
            for notice in supervisor.take_notices():
                if isinstance(notice, CameraOpened):
                    found[notice.camera] = {"given": notice.given.as_json()}
                elif isinstance(notice, CameraLost):
                    found.setdefault(notice.camera, {"error": redact(notice.reason)})
    finally:
        supervisor.stop(STOP_S)
        supervisor.close()
    late = {"error": f"gives no picture within {longest_s:g} s"}
    return {camera.name: found.get(camera.name, late) for camera in cameras}
