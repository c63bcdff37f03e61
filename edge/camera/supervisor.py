"""All cameras of a box: one child process each, watched, restarted, and their frames handed to one consumer.

A single thread ("cameras") waits on every child at once. It takes frames out of the rings as they come, so that a
child never waits for inspection; it alone decides that a camera is lost and when it is tried again.

Accounting. Every frame that a source delivered has a number, and for each camera

    delivered = popped + waiting + FramesLost("overflow") + FramesLost("no_slot")

holds whenever nothing is on its way; the numbers of popped frames have gaps exactly where frames were lost.
FramesLost("stale") and FramesLost("unreadable") are no delivered frames: pictures from before a stream was open,
and files that gave no picture. They have no numbers. What a killed child had not yet told is not known to anyone.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from edge.camera.process import Job
from edge.camera.ring import Hangup, Note, Received, RingReader, open_ring
from edge.camera.sources.device import SourceInfo, SourceSpec, capture_environment, is_live, public
from edge.config import Camera
from edge.errors import CameraError
from edge.frame import Frame
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact

log = logging.getLogger(__name__)

State = Literal["opening", "running", "lost", "ended"]
LossReason = Literal["overflow", "no_slot", "stale", "unreadable"]

SPARE_SLOTS = 3
"""Beyond the waiting frames: one being filled, one on its way, one under inspection."""
BACKOFF_FIRST_S = 0.2
BACKOFF_MOST_S = 10.0
GOOD_S = 10.0
"""A camera that delivered for so long starts its backoff anew."""
START_LIMIT_S = 30.0
"""For the interpreter of a child to come up, which says nothing about its camera."""
RECORDING_LIMIT_S = 60.0
"""For one picture of a recording: a large file on slow storage is no camera that hangs."""
KILL_GRACE_S = 1.0
"""For a child to be gone after it hung up, or was asked to end."""
REAP_EVERY_S = 0.01
TEND_EVERY_NS = NS_PER_S // 100
"""Between two looks at all cameras: not with every message, which with many cameras would be all that is done."""
TURN_MESSAGES = 64
"""Most messages taken from one camera before the others have their turn."""
NOTICES = 1000
WEIGH_EVERY_S = 2.0
"""Between two looks at the memory of a process."""
OUTPUT_LINES = 10
OUTPUT_WINDOW_NS = 10 * NS_PER_S
OUTPUT_EVERY_NS = NS_PER_S // 20
"""Output is looked at no more often: a child that floods it waits, and does not keep the daemon busy."""
OUTPUT_BYTES = 1 << 16
LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class CameraOpened:
    """A camera delivers: its first frame is there.  After a CameraLost: it is back."""

    camera: str
    monotonic_ns: int
    given: SourceInfo


@dataclass(frozen=True, slots=True)
class CameraLost:
    """A camera delivers no longer, or does not open; told once, however often it is tried again."""

    camera: str
    monotonic_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class CameraEnded:
    """A recording came to its end and the last of its frames was popped; it is not started again."""

    camera: str
    monotonic_ns: int
    frames: int
    """Delivered over the whole recording, lost ones included."""


@dataclass(frozen=True, slots=True)
class FramesLost:
    """Frames that nobody will inspect.

    overflow: they waited too long and newer ones came.  no_slot: the ring was full.  Both are delivered frames.
    stale: buffered before a stream was open.  unreadable: files without a picture.  Neither are delivered frames.
    """

    camera: str
    count: int
    reason: LossReason


@dataclass(frozen=True, slots=True)
class CameraRemoved:
    """A camera is no longer wanted: its process is gone, the last of its frames was popped."""

    camera: str
    monotonic_ns: int


Notice = CameraOpened | CameraLost | CameraEnded | CameraRemoved | FramesLost


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera at one moment."""

    state: State
    since_ns: int
    pid: int | None
    restarts: int
    last_frame_ns: int | None
    """When the newest frame was grabbed."""
    waiting: int
    delivered: int
    given: SourceInfo | None
    reason: str
    """Why it is lost; "" otherwise."""


def backoff_s(failures: int, rng: random.Random) -> float:
    """Seconds to wait before the next start, after so many failures in a row (from 1).

    Half of it is chance, so that cameras behind one switch do not come back all at once.
    """
    ceiling = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
    return ceiling * rng.uniform(0.5, 1.0)


def stall_limit_s(spec: SourceSpec, given: SourceInfo | None, *, running: bool) -> float:
    """How long a camera may be silent.  given: None as long as it is not open."""
    recording = not is_live(spec.url)
    if not running:
        limit_s = spec.open_timeout_s + spec.read_timeout_s + 1.0
        return max(limit_s, RECORDING_LIMIT_S) if recording else limit_s
    fps = spec.fps or (given.fps if given else 0.0) or 25.0
    limit_s = spec.read_timeout_s * 1.25 + 1.0 / fps
    return max(limit_s, RECORDING_LIMIT_S + 1.0 / fps) if recording else limit_s


@dataclass(slots=True, eq=False)
class _Child:
    """One camera process, as the thread sees it."""

    process: subprocess.Popen[bytes]
    reader: RingReader
    output: IO[bytes]
    sign_ns: int
    """The last sign of life; from here the stall limit counts."""
    started: bool = False
    running_since_ns: int | None = None
    ended: bool = False
    killed_ns: int | None = None
    hung_up_ns: int | None = None
    reason: str = ""
    output_ns: int = 0
    weighed_ns: int = 0
    unfinished: bytes = b""
    """A line without its end: it is not shown yet, because half a URL cannot be redacted."""
    last_line: str = ""


@dataclass(slots=True, eq=False)
class _Lane:
    """One camera.  Frames and counts are shared under the lock; the process belongs to the thread."""

    camera: Camera
    spec: SourceSpec
    state: State = "opening"
    since_ns: int = 0
    waiting: deque[Frame] = field(default_factory=deque)
    held: dict[int, tuple[RingReader, int]] = field(default_factory=dict)
    """Where each frame that was not released lies, by its number."""
    delivered: int = 0
    restarts: int = 0
    last_frame_ns: int | None = None
    given: SourceInfo | None = None
    pid: int | None = None
    reason: str = ""
    end_told: bool = False
    lost_told: bool = False
    released_ns: int = 0
    # The thread's own:
    wanted: Camera | None = None
    """What it is to become once its process is gone."""
    leaving: bool = False
    end_by_ns: int | None = None
    """A process that is to make room is asked to end, and killed at this time."""
    child: _Child | None = None
    failures: int = 0
    retry_ns: int = 0
    lines: int = 0
    lines_since_ns: int = 0

    @property
    def name(self) -> str:
        return self.camera.name


class Supervisor:
    """Runs all cameras.  The thread is its own; `wait`, `pop` and `release` are for one consumer thread."""

    def __init__(self, cameras: Sequence[Camera], clock: Clock, *, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (spreads restarts, guards nothing)
        self._lanes = {camera.name: _Lane(camera, SourceSpec.of(camera)) for camera in cameras}
        self._news = threading.Condition()
        self._notices: deque[Notice] = deque()
        self._lost: dict[tuple[str, LossReason], int] = {}
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._stop_at_ns: int | None = None
        self._wanted: tuple[Camera, ...] | None = None
        """Of the last `rearrange`, until the thread takes it."""
        self._tended_ns = 0
        self._closed = False
        self.beat_ns = clock.monotonic_ns()
        """When the thread last came round: the watchdog looks at it."""

    # For the daemon ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every camera; returns at once."""
        now = self._clock.monotonic_ns()
        for lane in self._lanes.values():
            lane.since_ns = lane.retry_ns = now
        self._thread.start()

    def rearrange(self, cameras: Sequence[Camera]) -> None:
        """Have exactly these cameras from now on; from any thread, returns at once.

        New ones are started. One that has to be opened otherwise is lost, and started again. One that is not among
        them is stopped; what it delivered can still be popped, then comes CameraRemoved. All others go on untouched.
        """
        with self._news:
            self._wanted = tuple(cameras)
        self._wake()

    def stop(self, timeout_s: float) -> None:
        """Ask all children to end, kill those that have not by then.  Frames taken stay until `close`."""
        if self._thread.ident is None or not self._thread.is_alive():
            return
        self._stop_at_ns = self._clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        self._wake()
        self._thread.join(timeout_s + 5.0)
        if self._thread.is_alive():
            log.error("the camera thread does not end; its children die with this process")

    def close(self) -> None:
        """Stop if that was not done, and let go of all frames.  Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.stop(0.0)
        with self._news:
            for lane in self._lanes.values():
                lane.waiting.clear()
                lane.held.clear()
            self._news.notify_all()
        if not self._thread.is_alive():
            self._selector.close()
            self._waker.close()
            self._wakened.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for news.  Returns whether a frame or a notice is there."""
        with self._news:
            self._news.wait_for(lambda: self._closed or self._has_news(), timeout_s)
            return self._has_news()

    def heads(self) -> tuple[tuple[str, int], ...]:
        """The oldest waiting frame of each camera that has one: its name, and when it was grabbed."""
        with self._news:
            return tuple((lane.name, lane.waiting[0].grabbed_ns) for lane in self._lanes.values() if lane.waiting)

    def pop(self, name: str) -> Frame:
        """Take the oldest waiting frame of a camera; it is the caller's until `release`.

        Raises LookupError if there is none.  A camera that stands in `heads` has one, though overflow may have made
        it a newer one since.
        """
        with self._news:
            lane = self._lanes[name]
            if not lane.waiting:
                raise LookupError(f"no frame of {name} waits")
            frame = lane.waiting.popleft()
            self._tell_end(lane)
            return frame

    def release(self, frame: Frame) -> None:
        """Give a popped frame's memory back: its pixels must not be touched again.  Harmless when done twice."""
        with self._news:
            if frame.camera in self._lanes:  # the last frame of a camera that was removed holds its own memory
                self._release(self._lanes[frame.camera], frame.number)

    def take_notices(self) -> tuple[Notice, ...]:
        """What happened since the last call, in order; losses are summed up per camera and reason."""
        with self._news:
            notices = (*self._notices, *(FramesLost(name, n, reason) for (name, reason), n in self._lost.items()))
            self._notices.clear()
            self._lost.clear()
            return notices

    def snapshot(self) -> dict[str, CameraStatus]:
        """The state of every camera, by name."""
        with self._news:
            return {
                lane.name: CameraStatus(
                    lane.state,
                    lane.since_ns,
                    lane.pid,
                    lane.restarts,
                    lane.last_frame_ns,
                    len(lane.waiting),
                    lane.delivered,
                    lane.given,
                    lane.reason,
                )
                for lane in self._lanes.values()
            }

    # Under the lock ----------------------------------------------------------------------------------------------

    def _has_news(self) -> bool:
        return bool(self._notices or self._lost) or any(lane.waiting for lane in self._lanes.values())

    def _release(self, lane: _Lane, number: int) -> None:
        reader, slot = lane.held.pop(number, (None, 0))
        if reader is not None:
            reader.release(slot)
            lane.released_ns = self._clock.monotonic_ns()

    def _notice(self, notice: Notice) -> None:
        if len(self._notices) >= NOTICES:
            self._notices.popleft()  # nobody has asked for a long time; the losses are kept elsewhere, as sums
        self._notices.append(notice)
        self._news.notify_all()

    def _lose(self, lane: _Lane, count: int, reason: LossReason) -> None:
        key = (lane.name, reason)
        self._lost[key] = self._lost.get(key, 0) + count
        self._news.notify_all()

    def _enter(self, lane: _Lane, state: State, now: int) -> None:
        if lane.state != state:
            lane.state, lane.since_ns = state, now

    def _tell_end(self, lane: _Lane) -> None:
        if lane.state == "ended" and not lane.waiting and not lane.end_told:
            lane.end_told = True
            self._notice(CameraEnded(lane.name, self._clock.monotonic_ns(), lane.delivered))

    # The thread --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        try:
            self._waker.send(b"w")
        except OSError:
            pass  # full: it is awake already

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:
            # Cameras without their watchman are no cameras: the children die with this thread.
            log.exception("the camera thread failed")
            now = self._clock.monotonic_ns()
            for lane in self._lanes.values():
                if lane.child:
                    self._bury(lane, lane.child)
                with self._news:
                    lane.reason = "the camera thread failed"
                    self._enter(lane, "lost", now)
                    self._notice(CameraLost(lane.name, now, lane.reason))

    def _turn(self) -> bool:
        """Wait for the next message or moment and act on it.  Returns False when all is over."""
        self.beat_ns = self._clock.monotonic_ns()
        for key, _ in self._selector.select(self._rest_s()):
            if key.data is None:
                self._wakened.recv(64)
                continue
            self._read_messages(*key.data)
        now = self._clock.monotonic_ns()
        if self._stop_at_ns is None and now - self._tended_ns < TEND_EVERY_NS:
            return True
        self._tended_ns = now
        if self._stop_at_ns is None:
            self._rearrange(now)
        for lane in tuple(self._lanes.values()):
            self._tend(lane, now)
        if self._stop_at_ns is None:
            return True
        if now > self._stop_at_ns + KILL_GRACE_S * NS_PER_S:
            for lane in self._lanes.values():
                if lane.child:
                    self._bury(lane, lane.child)
        return any(lane.child for lane in self._lanes.values())

    def _rest_s(self) -> float:
        """Until the next moment at which something is due without a message."""
        now = self._clock.monotonic_ns()
        if self._stop_at_ns is None and now - self._tended_ns < TEND_EVERY_NS:
            return (self._tended_ns + TEND_EVERY_NS - now) / NS_PER_S
        due_ns = min((self._due_ns(lane, now) for lane in self._lanes.values()), default=now + NS_PER_S)
        return min(max(0.0, (due_ns - now) / NS_PER_S), 1.0)

    def _rearrange(self, now: int) -> None:
        """Begin what `rearrange` asked for."""
        with self._news:
            cameras, self._wanted = self._wanted, None
            if cameras is None:
                return
            for camera in cameras:
                lane = self._lanes.get(camera.name)
                if lane is None:
                    self._lanes[camera.name] = _Lane(camera, SourceSpec.of(camera), since_ns=now, retry_ns=now)
                elif lane.leaving or _opened_otherwise(lane.wanted or lane.camera, camera):
                    lane.leaving, lane.wanted = False, camera
                elif lane.wanted is not None:
                    lane.wanted = camera
                else:
                    lane.camera = camera
        names = {camera.name for camera in cameras}
        for lane in self._lanes.values():
            if lane.name not in names:
                lane.leaving, lane.wanted = True, None
            if (lane.leaving or lane.wanted is not None) and lane.child is not None and lane.end_by_ns is None:
                lane.child.reader.stop()
                lane.end_by_ns = now + round(KILL_GRACE_S * NS_PER_S)

    def _renew(self, lane: _Lane, now: int) -> None:
        """Its process is gone: remove the camera, or let it be what it is to become."""
        if lane.wanted is not None:
            with self._news:
                lane.camera, lane.wanted = lane.wanted, None
                lane.spec, lane.given = SourceSpec.of(lane.camera), None
                lane.failures, lane.retry_ns, lane.end_told = 0, now, False
                self._enter(lane, "opening", now)
        elif lane.leaving and not lane.waiting:
            with self._news:
                del self._lanes[lane.name]
                for key in [key for key in self._lost if key[0] == lane.name]:
                    self._notice(FramesLost(lane.name, self._lost.pop(key), key[1]))
                self._notice(CameraRemoved(lane.name, now))

    def _due_ns(self, lane: _Lane, now: int) -> int:
        child = lane.child
        if child is None and (lane.leaving or lane.wanted is not None):
            return now + TEND_EVERY_NS  # until its last frame is popped
        if child is None:
            return now + NS_PER_S if lane.state == "ended" or self._stop_at_ns is not None else lane.retry_ns
        if child.killed_ns is not None and now - child.killed_ns > KILL_GRACE_S * NS_PER_S:
            return now + NS_PER_S  # stuck in a driver: nothing can be done but wait
        if child.hung_up_ns is not None or child.killed_ns is not None:
            return now + round(REAP_EVERY_S * NS_PER_S)
        if self._stop_at_ns is not None:
            return self._stop_at_ns
        return min(self._stalled_ns(lane, child), lane.end_by_ns or 1 << 63)

    def _tend(self, lane: _Lane, now: int) -> None:
        """Everything about one camera that time alone decides."""
        stopping = self._stop_at_ns is not None
        if lane.child is None and (lane.leaving or lane.wanted is not None):
            self._renew(lane, now)
        child = lane.child
        if child is None:
            if not stopping and not lane.leaving and lane.state != "ended" and now >= lane.retry_ns:
                self._spawn(lane, now)
            return
        with self._news:
            child.reader.flush()
        self._look_after(lane, child, now)
        if stopping and child.hung_up_ns is None:
            child.reader.stop()
            if now >= (self._stop_at_ns or 0):
                self._kill(child)
        self._end_replaced(lane, child, now)
        if child.hung_up_ns is None and child.killed_ns is None and now >= self._stalled_ns(lane, child):
            # If it was we who stood still, what it sent meanwhile lies here unread.
            self._read_messages(lane, child)
            if now >= self._stalled_ns(lane, child):
                self._end_hung(lane, child, now)
        if child.hung_up_ns is not None and now - child.hung_up_ns > KILL_GRACE_S * NS_PER_S:
            self._kill(child)
        if (child.hung_up_ns is not None or child.killed_ns is not None) and child.process.poll() is not None:
            # What it sent before it died still counts.
            self._read_messages(lane, child, most=1 << 20)
            self._gone(lane, child, now)

    def _look_after(self, lane: _Lane, child: _Child, now: int) -> None:
        """What is done now and then."""
        if now - child.output_ns >= OUTPUT_EVERY_NS:
            self._read_output(lane, child, now)
        if now - child.weighed_ns >= WEIGH_EVERY_S * NS_PER_S:
            self._weigh(lane, child, now)

    def _weigh(self, lane: _Lane, child: _Child, now: int) -> None:
        """A process that has grown too large is replaced before the box runs out of memory: drivers leak."""
        child.weighed_ns = now
        held = machine.resident_bytes(child.process.pid)
        limit = lane.camera.max_memory_mb << 20
        if held is None or held <= limit or child.killed_ns is not None:
            return
        child.reason = (
            f"the camera process was replaced: it held {held >> 20} MB, more than {lane.camera.max_memory_mb}"
        )
        self._kill(child)

    def _end_hung(self, lane: _Lane, child: _Child, now: int) -> None:
        what = "does not open" if child.running_since_ns is None else "hangs"
        silent_s = (now - child.sign_ns) / NS_PER_S
        child.reason = f"{public(lane.spec.url)} {what}: nothing came for {silent_s:.1f} s"
        self._kill(child)
        # Told now, not when the process is gone: a stuck driver can keep it for ever.
        self._tell_lost(lane, now, child.reason)

    def _stalled_ns(self, lane: _Lane, child: _Child) -> int:
        """When the child counts as hung.  A source that can wait is not, while frames are out: it may be waiting."""
        if not child.started:
            return child.sign_ns + round(START_LIMIT_S * NS_PER_S)
        limit_s = stall_limit_s(lane.spec, lane.given, running=child.running_since_ns is not None)
        since_ns = max(child.sign_ns, lane.released_ns)
        if not lane.spec.live and child.reader.outstanding:
            since_ns = self._clock.monotonic_ns()
        return since_ns + round(limit_s * NS_PER_S)

    def _spawn(self, lane: _Lane, now: int) -> None:
        job = Job(lane.name, lane.spec, lane.camera.ring_frames + SPARE_SLOTS, lane.delivered)
        reader: RingReader | None = None
        try:
            ours, theirs, memory = open_ring()
            reader = RingReader(lane.name, ours, memory, lane.delivered)
            with theirs:
                process = _start(job, theirs.fileno(), memory)
        except OSError as error:
            # No descriptors, processes or memory left, for now.
            if reader is not None:
                reader.close()
            self._down(lane, now, f"the camera process does not start: {error}")
            return
        output = process.stdout
        assert output is not None
        os.set_blocking(output.fileno(), False)
        child = _Child(process, reader, output, now)
        lane.child = child
        self._selector.register(reader, selectors.EVENT_READ, (lane, child))
        with self._news:
            lane.pid = process.pid

    def _read_messages(self, lane: _Lane, child: _Child, most: int = TURN_MESSAGES) -> None:
        if child.hung_up_ns is not None:
            return
        try:
            for _ in range(most):
                with self._news:
                    message = child.reader.receive()
                    if message is None:
                        return
                    child.sign_ns = self._clock.monotonic_ns()
                    if isinstance(message, Received):
                        self._take(lane, child, message)
                    else:
                        self._heed(lane, child, message)
        except Hangup:
            self._hang_up(child)
        except CameraError as error:
            child.reason = child.reason or str(error)
            self._hang_up(child)
            self._kill(child)

    def _take(self, lane: _Lane, child: _Child, received: Received) -> None:
        """One frame has come.  Under the lock."""
        frame = received.frame
        lane.held[frame.number] = (child.reader, received.slot)
        lane.delivered = child.reader.next_number
        lane.last_frame_ns = frame.grabbed_ns
        if lane.spec.live and len(lane.waiting) >= lane.camera.ring_frames:
            self._release(lane, lane.waiting.popleft().number)
            self._lose(lane, 1, "overflow")
        lane.waiting.append(frame)
        if child.running_since_ns is None:
            child.running_since_ns = child.sign_ns
            lane.reason, lane.lost_told = "", False
            self._enter(lane, "running", child.sign_ns)
            self._notice(CameraOpened(lane.name, child.sign_ns, lane.given or SourceInfo("")))
            log.info("camera %s runs: %s", lane.name, lane.given)
        self._news.notify_all()

    def _heed(self, lane: _Lane, child: _Child, note: Note) -> None:
        """One note has come.  Under the lock."""
        fields: dict[str, Any] = note.fields
        if note.kind == "started":
            child.started = True
        elif note.kind == "opened":
            try:
                lane.given = SourceInfo.from_json(fields["given"])
            except (KeyError, TypeError):
                raise CameraError("the camera process sent nonsense: what it opened is unknown") from None
        elif note.kind == "discarded":
            reason, count = fields.get("reason"), fields["count"]
            if reason not in ("no_slot", "stale", "unreadable"):
                raise CameraError("the camera process sent nonsense: an unknown loss")
            lane.delivered = child.reader.next_number
            self._lose(lane, count, reason)
            if reason == "unreadable" and self._quota(lane, child.sign_ns, 1):
                log.warning("camera %s: %s", lane.name, fields.get("detail"))
        elif note.kind == "ended":
            child.ended = True
        elif note.kind == "error":
            child.reason = redact(str(fields.get("message")))

    def _hang_up(self, child: _Child) -> None:
        """No more messages from this child, whatever it does."""
        child.hung_up_ns = self._clock.monotonic_ns()
        self._selector.unregister(child.reader)
        with self._news:
            child.reader.close()

    def _kill(self, child: _Child) -> None:
        if child.killed_ns is None:
            child.killed_ns = self._clock.monotonic_ns()
            child.process.kill()

    def _gone(self, lane: _Lane, child: _Child, now: int) -> None:
        """The process was reaped: decide what becomes of the camera."""
        self._read_output(lane, child, now)
        good_ns = 0 if child.running_since_ns is None else child.sign_ns - child.running_since_ns
        self._bury(lane, child)
        replaced, lane.end_by_ns = lane.end_by_ns is not None, None
        if replaced and self._stop_at_ns is None:
            self._tell_replaced(lane, now)
        elif self._stop_at_ns is not None:
            with self._news:
                self._enter(lane, "ended" if child.ended else "lost", now)
                lane.reason = "" if child.ended else "stopped"
                self._tell_end(lane)
        elif child.ended:
            log.info("camera %s came to its end after %d frames", lane.name, lane.delivered)
            with self._news:
                self._enter(lane, "ended", now)
                self._tell_end(lane)
        else:
            if good_ns >= GOOD_S * NS_PER_S:
                lane.failures = 0
            self._down(lane, now, child.reason or _epitaph(child))

    def _down(self, lane: _Lane, now: int, reason: str) -> None:
        """The camera is lost: set the next try."""
        lane.failures += 1
        wait_s = backoff_s(lane.failures, self._rng)
        lane.retry_ns = now + round(wait_s * NS_PER_S)
        log.debug("camera %s: try %d in %.1f s", lane.name, lane.failures + 1, wait_s)
        with self._news:
            lane.restarts += 1
        self._tell_lost(lane, now, reason)

    def _end_replaced(self, lane: _Lane, child: _Child, now: int) -> None:
        """Kill a process that was to make room and does not end."""
        if lane.end_by_ns is not None and now >= lane.end_by_ns and child.killed_ns is None:
            self._kill(child)
            self._tell_replaced(lane, now)

    def _tell_replaced(self, lane: _Lane, now: int) -> None:
        if not lane.leaving:
            self._tell_lost(lane, now, "its settings were changed: it starts again")

    def _tell_lost(self, lane: _Lane, now: int, reason: str) -> None:
        """Log each new reason once, tell the first of them."""
        if not lane.lost_told or reason != lane.reason:
            log.warning("camera %s is lost: %s", lane.name, reason)
        with self._news:
            lane.reason = reason
            self._enter(lane, "lost", now)
            if not lane.lost_told:
                lane.lost_told = True
                self._notice(CameraLost(lane.name, now, reason))

    def _bury(self, lane: _Lane, child: _Child) -> None:
        """Close all that belongs to a child."""
        if child.hung_up_ns is None:
            self._hang_up(child)
        self._kill(child)
        try:
            child.process.wait(KILL_GRACE_S)
        except subprocess.TimeoutExpired:
            log.warning("camera %s: process %d cannot be killed: it is stuck in a driver", lane.name, lane.pid)
        child.output.close()
        lane.child = None
        with self._news:
            lane.pid = None

    def _read_output(self, lane: _Lane, child: _Child, now: int) -> None:
        """Log what a child prints, at most a few lines per window: FFmpeg repeats itself."""
        child.output_ns = now
        try:
            data = os.read(child.output.fileno(), OUTPUT_BYTES)
        except OSError:
            return
        *lines, rest = (child.unfinished + data).split(b"\n")
        child.unfinished = rest if len(rest) <= LINE_BYTES else b""
        for line in lines[: self._quota(lane, now, len(lines))]:
            log.debug("camera %s: %s", lane.name, _clean(line, lane.spec.url))
        last = next((line for line in reversed(lines) if line.strip()), None)
        if last is not None:
            child.last_line = _clean(last, lane.spec.url)

    def _quota(self, lane: _Lane, now: int, wanted: int) -> int:
        """How many of so many lines may be logged for this camera; those beyond are counted."""
        if now - lane.lines_since_ns >= OUTPUT_WINDOW_NS:
            if lane.lines > OUTPUT_LINES:
                log.debug("camera %s: %d lines more were not logged", lane.name, lane.lines - OUTPUT_LINES)
            lane.lines, lane.lines_since_ns = 0, now
        left = max(0, OUTPUT_LINES - lane.lines)
        lane.lines += wanted
        return min(left, wanted)


def _opened_otherwise(one: Camera, other: Camera) -> bool:
    """Whether a camera process would have to be started with other words."""
    return SourceSpec.of(one) != SourceSpec.of(other) or one.ring_frames != other.ring_frames


def _clean(line: bytes, url: str) -> str:
    """One line of a child's output, short and without credentials."""
    text = line.decode("utf-8", "replace").strip().replace(url, public(url))
    return redact(text)[:300]


def _start(job: Job, link: int, memory: int) -> subprocess.Popen[bytes]:
    """Start a child by exec: a fork would take the locks of all our threads along.  Raises OSError."""
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        **capture_environment(job.spec),
        "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root,
        # One thread does all: pools of the numeric libraries would only cost memory.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    # -P: nothing in the working directory can stand in for a library.
    command = [sys.executable, "-P", "-m", "edge.camera.process", str(link), str(memory), str(os.getpid())]
    process = subprocess.Popen(  # noqa: S603 (our own module)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(link, memory),
        start_new_session=True,
        env=environment,
        bufsize=0,
    )
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            stdin.write(job.to_json().encode("utf-8"))
    except OSError:
        pass  # it died already: its end of the ring says so
    return process


def _epitaph(child: _Child) -> str:
    """Why a child ended that did not say it."""
    code = child.process.returncode
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        how = f"the camera process was killed by signal {-code} ({name})"
    else:
        how = f"the camera process ended with code {code}"
    return f"{how}: {child.last_line}" if child.last_line else how
