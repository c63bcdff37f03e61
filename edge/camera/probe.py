"""Opens each configured camera for a moment, in a process of its own as the daemon does: its format, its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge.camera.notices import CameraEnded, CameraLost, CameraOpened, FramesLost
from edge.camera.sources.contract import SourceInfo
from edge.camera.supervisor import Supervisor
from edge.config import Camera
from edge.frame import Frame
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact

WAIT_S: Final = 0.5
START_S: Final = 2.0
"""For a camera process to start."""
STOP_S: Final = 0.7
MAX_PICTURES: Final = 30
"""Pictures of one camera, after which a probe no longer waits for a usable one."""

PictureFault = Callable[[Frame], str | None]
"""Why a frame cannot be inspected; None where it can be."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The result for one camera.  error: why it does not open, or why none of its pictures can be inspected."""

    actual: SourceInfo | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            **({} if self.actual is None else {"actual": self.actual.as_json()}),
            **({"error": self.error} if self.error else {}),
        }


@dataclass(slots=True)
class _Seen:
    """What one camera has shown so far."""

    actual: SourceInfo | None = None
    lost: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    is_usable: bool = False
    has_ended: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether more pictures would not change the result."""
        return self.is_usable or self.faults.total() >= MAX_PICTURES

    @property
    def is_done(self) -> bool:
        return self.has_ended or (self.is_shown if self.actual is not None else bool(self.lost))

    def result(self, limit_s: float) -> Probe:
        if self.faults and not self.is_usable:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.faults.most_common(3))
            return Probe(self.actual, f"none of {self.faults.total()} pictures can be inspected: {redact(reasons)}")
        if self.actual is not None and self.is_usable:
            return Probe(self.actual)
        return Probe(error=self.lost or ("it has no picture" if self.has_ended else f"no picture within {limit_s:g} s"))


def probe(
    cameras: Sequence[Camera], clock: Clock, picture_fault: PictureFault = lambda _frame: None
) -> dict[str, Probe]:
    """Probe all cameras at once.  Takes no longer than the slowest timeout among them.

    picture_fault: called with each frame, in the order of its camera, until one can be inspected.
    """
    if not cameras:
        return {}
    seen = {camera.name: _Seen() for camera in cameras}
    limit_s = max(camera.open_timeout_s + camera.read_timeout_s for camera in cameras) + START_S
    until_ns = clock.monotonic_ns() + int(limit_s * NS_PER_S)
    supervisor = Supervisor(cameras, clock)
    try:
        supervisor.start()
        while not all(one.is_done for one in seen.values()) and clock.monotonic_ns() < until_ns:
            supervisor.wait(WAIT_S)
            for name, _ in supervisor.heads():
                frame = supervisor.pop(name)
                try:
                    _check_picture(frame, seen[name], picture_fault)
                finally:
                    supervisor.release(frame)
            for notice in supervisor.take_notices():
                match notice:
                    case CameraOpened():
                        seen[notice.camera].actual = notice.actual
                    case CameraLost():
                        seen[notice.camera].lost = redact(notice.reason)
                    case CameraEnded():
                        seen[notice.camera].has_ended = True
                    case FramesLost(reason="unreadable", count=count):
                        seen[notice.camera].faults["unreadable"] += count
                    case _:
                        pass
    finally:
        supervisor.stop(STOP_S)
        supervisor.close()
    return {name: one.result(limit_s) for name, one in seen.items()}


def _check_picture(frame: Frame, seen: _Seen, picture_fault: PictureFault) -> None:
    if seen.is_shown:
        return
    fault = picture_fault(frame)
    seen.is_usable = fault is None
    if fault is not None:
        seen.faults[fault] += 1
