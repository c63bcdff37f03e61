"""Orders from other threads to the inspection loop, carried out between two frames."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from edge import config
from edge.coverage.severity import Severities
from edge.errors import CommandError
from edge.frame import Frame, Gray
from edge.model.classifier import Classifier
from edge.pipeline.camera_session import SessionSettings
from edge.pipeline.shadow import Shadow

MAX_ORDERS: Final = 8
"""Orders that may wait for the inspection loop."""


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Copy the next frame of this camera.  The answer: pixels, frame number, label."""

    camera: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop inspecting this camera.  for_s: for that long; None: until `Resume` or the next start.

    reason: why, in the words of the person who pauses.
    """

    camera: str
    for_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Inspect this camera again."""

    camera: str


@dataclass(frozen=True, slots=True)
class SetThresholds:
    """Use other thresholds for this camera from the next frame on."""

    camera: str
    decision: config.Decision


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Change cameras, thresholds and models between two frames: everything or nothing."""

    cameras: Mapping[str, SessionSettings] = field(default_factory=dict)
    """New cameras, and new settings of known ones, which keep their counters."""
    thresholds: Mapping[str, config.Decision] = field(default_factory=dict)
    names: frozenset[str] | None = None
    """Cameras to keep; None keeps all. Any other camera is removed after its last frame."""
    report_s: float | None = None
    severities: Severities | None = None
    """The rules from now on; None keeps them."""
    classifier: Classifier | None = None
    """The model that decides from now on; None keeps it."""
    previous: Classifier | None = None
    """With a canary model: the one that decides again at once when the canary fails."""
    on_fall_back: Callable[[str], None] | None = None
    """Runs on the loop thread when the previous model has taken over, with the reason."""
    replaces_shadow: bool = False
    shadow: Shadow | None = None
    """The shadow model from now on, or none. Used only if `replaces_shadow`."""
    on_change: Callable[[], None] = lambda: None
    """Runs on the loop thread after the last old event, before the first new one."""


@dataclass(frozen=True, slots=True)
class PromoteModel:
    """End the canary: the model stays, the previous one is let go."""


@dataclass(frozen=True, slots=True)
class CoilOrder:
    """Start or end a coil, or only show the state of the strip, which is the answer."""

    action: Literal["show", "start", "stop"]
    name: str | None = None
    lane: str | None = None
    """None: the coil of the strip."""


CameraOrder = TakeSnapshot | Pause | Resume | SetThresholds
NodeOrder = Reconfigure | PromoteModel | CoilOrder
Order = CameraOrder | NodeOrder


class PendingOrder:
    """An order without an answer yet. Exactly one side claims it: the loop, to run it, or the sender, to drop it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._claimed = threading.Lock()
        self._answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def claim(self) -> bool:
        """Take the right to carry it out, or to drop it.  False if the other side was first."""
        return self._claimed.acquire(blocking=False)

    def answer(self, answer: Any) -> None:
        """Give the sender a result, or the CommandError to raise."""
        self._answer.put(answer)

    def wait(self, timeout_s: float) -> Any:
        """The answer.  Raises queue.Empty."""
        return self._answer.get(timeout=timeout_s)


class OrderQueue:
    """A bounded queue of orders.  Any thread may `ask`; the inspection loop alone takes."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[PendingOrder] = queue.Queue(MAX_ORDERS)

    def ask(self, order: Order, timeout_s: float) -> Any:
        """Send an order and wait for its answer.  Raises CommandError; after a timeout nothing was changed."""
        pending = PendingOrder(order)
        try:
            self._waiting.put_nowait(pending)
        except queue.Full:
            raise CommandError("busy", "too many orders wait for the inspection loop") from None
        try:
            answer = pending.wait(timeout_s)
        except queue.Empty:
            if pending.claim():
                raise CommandError("timeout", f"{_overdue(order)} within {timeout_s:g} s") from None
            try:
                answer = pending.wait(timeout_s)  # the loop is carrying it out
            except queue.Empty:
                raise CommandError("failed", "the inspection loop started the order and does not finish it") from None
        if isinstance(answer, CommandError):
            raise answer
        return answer

    def take(self) -> PendingOrder | None:
        """The next order, or None."""
        if self._waiting.empty():  # nearly always, and cheaper than the exception
            return None
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None


class SnapshotRequests:
    """Orders that wait for the next frame of a camera.  Owned by the inspection loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[PendingOrder]] = {}

    def add(self, camera: str, pending: PendingOrder) -> None:
        """Wait for the next frame.  Beyond MAX_ORDERS the oldest orders are dropped, and time out."""
        self._waiting[camera] = [*self._waiting.get(camera, ())[-MAX_ORDERS:], pending]

    def answer(self, frame: Frame) -> None:
        """Give every order for this frame's camera a copy of it."""
        if not self._waiting or frame.camera not in self._waiting:
            return
        pixels: Gray = frame.pixels.copy()  # the ring reuses the frame's memory after this turn
        for pending in self._waiting.pop(frame.camera):
            if pending.claim():
                pending.answer((pixels, frame.number, frame.label))


def _overdue(order: Order) -> str:
    match order:
        case TakeSnapshot(camera=camera):
            return f"camera {camera} gives no picture"
        case Pause(camera=camera) | Resume(camera=camera) | SetThresholds(camera=camera):
            return f"camera {camera} is not reached"
        case _:
            return "the inspection loop is not reached"
