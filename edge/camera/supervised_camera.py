"""One camera as the supervisor keeps it: its frames, its counts, and the state of its process."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from edge.camera.child import KILL_GRACE_S, CameraLog, Child
from edge.camera.notices import CameraEnded, CameraLost, CameraOpened, NoticeQueue
from edge.camera.opening import spec_of
from edge.camera.process import Job
from edge.camera.ring import Note, Received, RingReader
from edge.camera.sources.contract import SourceInfo, SourceSpec
from edge.camera.sources.registry import RECORDING, find, is_live
from edge.config import Camera
from edge.errors import CameraError
from edge.frame import Frame
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact
from edge.host.text import one_line
from edge.host.url import public_url

ProcessState = Literal["starting", "open", "down", "ended"]
"""What the process of a camera does.  Whether its pictures can be inspected is the inspection loop's business.

starting: the first attempt since the camera was configured; no frame yet.
open: frames arrive.
down: no frames arrive; CameraLost was reported with the reason, and the supervisor tries again until it is stopped.
ended: the recording is over.
A camera that was removed from the configuration has no state: CameraRemoved is the last thing reported of it.
"""

SPARE_SLOTS: Final = 3
"""Slots of the ring beyond the waiting frames: one being filled, one in transit, one under inspection."""
REAP_EVERY_NS: Final = NS_PER_S // 100
STUCK_EVERY_NS: Final = NS_PER_S
RECORDING_S: Final = 60.0
"""For one picture of a recording: a large file on slow storage is no camera that hangs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the supervisor is."""

    start_s: float = 30.0
    """For the interpreter of a process to come up, whatever its camera does."""
    recording_s: float = RECORDING_S
    backoff_first_s: float = 0.1
    """The shortest delay before the first restart; it is at most twice as long."""
    backoff_max_s: float = 10.0
    stable_s: float = 10.0
    """A process that delivered for this long lets the backoff start from its first delay again."""


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera at one moment."""

    state: ProcessState
    since_ns: int
    pid: int | None
    restarts: int
    last_frame_ns: int | None
    """When the newest frame was grabbed."""
    waiting: int
    delivered: int
    actual: SourceInfo | None
    reason: str
    """Why it is down; "" otherwise."""


def stall_limit_s(
    spec: SourceSpec, actual: SourceInfo | None, *, delivers: bool, recording_s: float = RECORDING_S
) -> float:
    """How long a camera may be silent.  actual: None while it is not open."""
    recording = not is_live(spec.url)
    if not delivers:
        limit_s = spec.open_timeout_s + spec.read_timeout_s + 1.0
        return max(limit_s, recording_s) if recording else limit_s
    fps = spec.fps or (actual.fps if actual else 0.0) or 25.0
    limit_s = spec.read_timeout_s * 1.25 + 1.0 / fps
    return max(limit_s, recording_s + 1.0 / fps) if recording else limit_s


class SupervisedCamera:
    """One camera.

    The process and the schedule belong to the thread of the supervisor. Frames, counts and the state are shared with
    the consumer: the sections below name the methods that need the supervisor's lock.
    """

    def __init__(
        self,
        camera: Camera,
        notices: NoticeQueue,
        clock: Clock,
        limits: Limits,
        uniform: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        now_ns = clock.monotonic_ns()
        self._notices = notices
        self._clock = clock
        self._limits = limits
        self._logger = log
        self.camera = camera
        self.spec = spec_of(camera)
        self.log = CameraLog(camera.name, log, now_ns)
        # Shared with the consumer:
        self.state: ProcessState = "starting"
        self.since_ns = now_ns
        self.waiting: deque[Frame] = deque()
        self.held: dict[int, tuple[RingReader, int]] = {}
        """Where each frame that was not released lies, by its number."""
        self.delivered = 0
        self.restarts = 0
        self.last_frame_ns: int | None = None
        self.actual: SourceInfo | None = None
        self.pid: int | None = None
        self.reason = ""
        self._released_ns = 0
        self._is_end_reported = False
        self._is_loss_reported = False
        # The thread's own:
        self.child: Child | None = None
        self.backoff = Backoff(limits.backoff_first_s, limits.backoff_max_s, uniform)
        self.retry_ns = now_ns
        self.replacement: Camera | None = None
        """The configuration that it takes on when its process is gone."""
        self.is_leaving = False
        """It was removed from the configuration."""
        self.end_by_ns: int | None = None
        """Its process was asked to end for a replacement or a removal, and is killed at this time."""
        self._delivered_before = 0
        """Frames before the first one of this recording."""
        self._left_out = 0
        """Pictures of this recording without a frame: unreadable, or fatal to the process."""
        self._died_at: int | None = None
        """The picture of the recording at which the last process died without a reason of its own."""

    @property
    def name(self) -> str:
        return self.camera.name

    @property
    def is_changing(self) -> bool:
        return self.is_leaving or self.replacement is not None

    @property
    def job(self) -> Job:
        """What its next process has to do: a recording goes on where the last process ended."""
        spec = replace(self.spec, skip=self._done) if find(self.spec.url) is RECORDING else self.spec
        return Job(self.name, spec, self.camera.ring_frames + SPARE_SLOTS, self.delivered)

    @property
    def _done(self) -> int:
        """Pictures of the recording that are a frame or left out."""
        return self.delivered - self._delivered_before + self._left_out

    # For the consumer, under the lock ----------------------------------------------------------------------------

    def status(self) -> CameraStatus:
        return CameraStatus(
            self.state,
            self.since_ns,
            self.pid,
            self.restarts,
            self.last_frame_ns,
            len(self.waiting),
            self.delivered,
            self.actual,
            self.reason,
        )

    def pop(self) -> Frame:
        """Raises LookupError if no frame waits."""
        if not self.waiting:
            raise LookupError(f"no frame of {self.name} waits")
        frame = self.waiting.popleft()
        self.report_end_if_drained()
        return frame

    def release(self, number: int) -> None:
        """Give the slot of a frame back to the process.  Harmless when done twice."""
        reader, slot = self.held.pop(number, (None, 0))
        if reader is not None:
            reader.release(slot)
            self._released_ns = self._clock.monotonic_ns()

    def drop_frames(self) -> None:
        self.waiting.clear()
        self.held.clear()

    # From the process, under the lock ----------------------------------------------------------------------------

    def accept_frame(self, child: Child, received: Received) -> None:
        frame = received.frame
        self.held[frame.number] = (child.reader, received.slot)
        self.delivered = child.reader.next_number
        self.last_frame_ns = frame.grabbed_ns
        if self.spec.live and len(self.waiting) >= self.camera.ring_frames:
            self.release(self.waiting.popleft().number)
            self._notices.add_loss(self.name, 1, "overflow")
        self.waiting.append(frame)
        if child.delivers_since_ns is None:
            child.delivers_since_ns = child.sign_ns
            self.reason, self._is_loss_reported = "", False
            self.enter("open", child.sign_ns)
            self._notices.put(CameraOpened(self.name, child.sign_ns, self.actual or SourceInfo("")))
            self._logger.info("camera %s runs: %s", self.name, self.actual)

    def accept_note(self, child: Child, note: Note) -> None:
        """Raises CameraError for what no healthy process sends."""
        fields: dict[str, Any] = note.fields
        if note.kind == "started":
            child.has_started = True
        elif note.kind == "opened":
            try:
                self.actual = SourceInfo.from_json(fields["actual"])
            except (KeyError, TypeError, OverflowError):
                raise CameraError("the camera process sent nonsense: what it opened is unknown") from None
        elif note.kind == "discarded":
            reason, count = fields.get("reason"), fields["count"]
            if reason not in ("no_slot", "stale", "unreadable"):
                raise CameraError("the camera process sent nonsense: an unknown loss")
            self.delivered = child.reader.next_number
            self._notices.add_loss(self.name, count, reason)
            if reason == "unreadable":
                self._left_out += count
                self.log.write(logging.WARNING, [fields.get("detail")], child.sign_ns)
        elif note.kind == "ended":
            child.has_ended = True
        elif note.kind == "error":
            child.reason = redact(one_line(str(fields.get("message"))))

    # State, under the lock ---------------------------------------------------------------------------------------

    def enter(self, state: ProcessState, now_ns: int) -> None:
        if self.state != state:
            self.state, self.since_ns = state, now_ns

    def report_lost(self, reason: str, now_ns: int) -> None:
        """Enter `down`.  Log each new reason once; put a notice for the first of them only."""
        if not self._is_loss_reported or reason != self.reason:
            self._logger.warning("camera %s is lost: %s", self.name, reason)
        self.reason = reason
        self.enter("down", now_ns)
        if not self._is_loss_reported:
            self._is_loss_reported = True
            self._notices.put(CameraLost(self.name, now_ns, reason))

    def report_replaced(self, now_ns: int) -> None:
        """The process ended for a new configuration."""
        if not self.is_leaving:
            self.report_lost("its settings were changed: it starts again", now_ns)

    def leave_out_fatal_picture(self, reason: str, now_ns: int) -> bool:
        """The process died: leave out the picture of a recording at which the process before it died, too.

        One death may have any cause; without this, one picture that needs too much memory would end every process.
        Returns whether a picture was left out.
        """
        if find(self.spec.url) is not RECORDING:
            return False
        if self._died_at != self._done:
            self._died_at = self._done
            return False
        words = f"picture {self._done + 1} of the recording is left out, two processes ended at it: {reason}"
        self._left_out += 1
        self._notices.add_loss(self.name, 1, "unreadable")
        self.log.write(logging.WARNING, [words], now_ns)
        return True

    def report_end_if_drained(self) -> None:
        """The end of a recording is reported after its last frame was popped."""
        if self.state == "ended" and not self.waiting and not self._is_end_reported:
            self._is_end_reported = True
            self._notices.put(CameraEnded(self.name, self._clock.monotonic_ns(), self.delivered))

    def replace(self, camera: Camera, now_ns: int) -> None:
        """Take on another configuration, with no process; the next one starts at once."""
        self.camera, self.replacement = camera, None
        self.spec, self.actual = spec_of(camera), None
        self._delivered_before, self._left_out, self._died_at = self.delivered, 0, None
        self.backoff.reset()
        self.retry_ns, self._is_end_reported = now_ns, False
        self.enter("starting", now_ns)

    # For the thread alone ----------------------------------------------------------------------------------------

    def describe_silence(self, child: Child, now_ns: int) -> str:
        what = "does not open" if child.delivers_since_ns is None else "hangs"
        silent_s = (now_ns - child.sign_ns) / NS_PER_S
        return f"{one_line(public_url(self.spec.url))} {what}: nothing came for {silent_s:.1f} s"

    def stalled_ns(self, child: Child) -> int:
        """When the process counts as hung, monotonic.

        A source that can wait is never hung while frames are out: it may be waiting for their slots.
        """
        if not child.has_started:
            return child.sign_ns + round(self._limits.start_s * NS_PER_S)
        limit_s = stall_limit_s(
            self.spec,
            self.actual,
            delivers=child.delivers_since_ns is not None,
            recording_s=self._limits.recording_s,
        )
        since_ns = max(child.sign_ns, self._released_ns)
        if not self.spec.live and child.reader.outstanding:
            since_ns = self._clock.monotonic_ns()
        return since_ns + round(limit_s * NS_PER_S)

    def due_ns(self, now_ns: int, stop_at_ns: int | None, *, poll_ns: int) -> int:
        """When something is due for it without a message, monotonic.  poll_ns: for waits on the consumer."""
        child = self.child
        if child is None and self.is_changing:
            return now_ns + poll_ns  # until its last frame is popped
        if child is None:
            return now_ns + NS_PER_S if self.state == "ended" or stop_at_ns is not None else self.retry_ns
        if child.killed_ns is not None and now_ns - child.killed_ns > KILL_GRACE_S * NS_PER_S:
            return now_ns + STUCK_EVERY_NS  # stuck in a driver: there is nothing to do but wait
        if child.is_ending:
            return now_ns + REAP_EVERY_NS
        if stop_at_ns is not None:
            return stop_at_ns
        return min(self.stalled_ns(child), self.end_by_ns or 1 << 63)
