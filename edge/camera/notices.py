"""What the supervisor reports about cameras to its consumer, and the queue that it waits in."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from edge.camera.sources.contract import SourceInfo

MAX_NOTICES: Final = 1000

LossReason = Literal["overflow", "no_slot", "stale", "unreadable"]


@dataclass(frozen=True, slots=True)
class CameraOpened:
    """A camera delivers: its first frame is there.  After a CameraLost: it is back."""

    camera: str
    monotonic_ns: int
    actual: SourceInfo


@dataclass(frozen=True, slots=True)
class CameraLost:
    """A camera stopped delivering, or does not open.  Reported once, however often the supervisor tries again."""

    camera: str
    monotonic_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class CameraEnded:
    """A recording is over and the consumer popped its last frame; the supervisor does not start it again."""

    camera: str
    monotonic_ns: int
    frames: int
    """Delivered over the whole recording, lost ones included."""


@dataclass(frozen=True, slots=True)
class FramesLost:
    """Frames that will not be inspected.

    overflow: they waited too long and newer ones came.  no_slot: the ring was full.  Both count as delivered.
    stale: buffered before a stream was open.  unreadable: files without a picture.  Neither count as delivered.
    """

    camera: str
    count: int
    reason: LossReason


@dataclass(frozen=True, slots=True)
class CameraRemoved:
    """A camera was removed from the configuration: its process is gone, the consumer popped its last frame."""

    camera: str
    monotonic_ns: int


Notice = CameraOpened | CameraLost | CameraEnded | CameraRemoved | FramesLost


class NoticeQueue:
    """Notices in order, and losses as sums per camera and reason.  Every method needs the lock `changed`."""

    def __init__(self, changed: threading.Condition, max_notices: int = MAX_NOTICES) -> None:
        """changed: notified when there is something to take."""
        self._changed = changed
        self._max_notices = max_notices
        self._notices: deque[Notice] = deque()
        self._lost: dict[tuple[str, LossReason], int] = {}

    def __bool__(self) -> bool:
        return bool(self._notices or self._lost)

    def put(self, notice: Notice) -> None:
        if len(self._notices) >= self._max_notices:
            self._notices.popleft()  # the consumer has not asked for a long time; losses are kept apart, as sums
        self._notices.append(notice)
        self._changed.notify_all()

    def add_loss(self, camera: str, count: int, reason: LossReason) -> None:
        key = camera, reason
        self._lost[key] = self._lost.get(key, 0) + count
        self._changed.notify_all()

    def put_last(self, notice: CameraRemoved) -> None:
        """Put the last notice of a camera: its losses come before it."""
        for key in [key for key in self._lost if key[0] == notice.camera]:
            self.put(FramesLost(key[0], self._lost.pop(key), key[1]))
        self.put(notice)

    def take(self) -> tuple[Notice, ...]:
        """Everything since the last call."""
        losses = (FramesLost(camera, count, reason) for (camera, reason), count in self._lost.items())
        notices = (*self._notices, *losses)
        self._notices.clear()
        self._lost.clear()
        return notices
