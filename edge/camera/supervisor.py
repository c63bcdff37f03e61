"""All cameras of a node: when their processes are started, restarted, replaced and given up.

A single thread ("cameras") waits on every process at once. It takes frames out of the rings as they come, so that a
process never waits for inspection; it alone decides that a camera is lost and when it is tried again.

Accounting. Every frame that a source delivered has a number, and for each camera

    delivered = popped + waiting + FramesLost("overflow") + FramesLost("no_slot")

holds whenever no message is in transit; the numbers of popped frames have gaps exactly where frames were lost.
FramesLost("stale") and FramesLost("unreadable") are no delivered frames: pictures from before a stream was open,
and files that contain no picture. They have no numbers. What a killed process had not yet reported stays unknown.
"""

from __future__ import annotations

import logging
import random
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from edge.camera.child import KILL_GRACE_S, Child, start_child
from edge.camera.notices import CameraLost, CameraRemoved, Notice, NoticeQueue
from edge.camera.opening import needs_new_process
from edge.camera.process import Job
from edge.camera.ring import Hangup, Received
from edge.camera.supervised_camera import DEFAULT_LIMITS, CameraStatus, Limits, SupervisedCamera
from edge.config import Camera
from edge.errors import CameraError
from edge.frame import Frame
from edge.host.clock import NS_PER_S, Clock
from edge.host.worker import Worker

log = logging.getLogger(__name__)

TEND_EVERY_NS: Final = NS_PER_S // 100
"""Between two checks of all cameras: checking with every message would leave time for nothing else."""
MAX_MESSAGES: Final = 64
"""Taken from one camera before the others have their turn."""
STOP_GRACE_S: Final = 2 * KILL_GRACE_S
"""At a stop, for killed processes to be gone. One that is stuck in a driver is left to the kernel."""
ALL_MESSAGES: Final = 1 << 20

StartChild = Callable[[Job, Clock], Child]


class Supervisor:
    """Runs all cameras.  The thread is its own; `wait`, `pop` and `release` are for one consumer thread."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        clock: Clock,
        *,
        limits: Limits = DEFAULT_LIMITS,
        start_child: StartChild = start_child,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """start_child: starts the process for a job.  uniform: random numbers from 0 to 1, to spread restarts."""
        self._clock = clock
        self._limits = limits
        self._start_child = start_child
        self._changed = threading.Condition()
        """Guards what the consumer shares; notified when a frame or a notice is there."""
        self._notices = NoticeQueue(self._changed)
        self._supervise = partial(
            SupervisedCamera, notices=self._notices, clock=clock, limits=limits, uniform=uniform, log=log
        )
        self._cameras = {camera.name: self._supervise(camera) for camera in cameras}
        self._selector = selectors.DefaultSelector()
        self._waker = _Waker()
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        self._worker = Worker("cameras", self._run, clock)
        self._stop_at_ns: int | None = None
        self._wanted: tuple[Camera, ...] | None = None
        """From the last `rearrange`, until the thread takes it."""
        self._tended_ns = 0
        self._closed = False

    @property
    def beat_ns(self) -> int:
        """When the thread last came round, for the watchdog."""
        return self._worker.beat_ns

    # For the daemon ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every camera; returns at once."""
        now = self._clock.monotonic_ns()
        for camera in self._cameras.values():
            camera.since_ns = camera.retry_ns = now
        self._worker.start()

    def rearrange(self, cameras: Sequence[Camera]) -> None:
        """Keep exactly these cameras from now on; from any thread, returns at once.

        New ones are started. One that has to be opened differently is lost, and started again. One that is missing
        from the list is stopped; what it delivered can still be popped, then comes CameraRemoved. All others go on
        untouched.
        """
        with self._changed:
            self._wanted = tuple(cameras)
        self._waker.wake()

    def stop(self, timeout_s: float) -> bool:
        """Ask all processes to end, kill those that still run after that time.  Frames taken stay until `close`.

        Waits STOP_GRACE_S longer.  False when the thread still runs then; its processes die with this one.
        """
        if not self._worker.alive:
            return True
        self._stop_at_ns = self._clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        self._waker.wake()
        return self._worker.join(timeout_s + STOP_GRACE_S)

    def close(self) -> None:
        """Stop if that was not done, and let go of all frames.  Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.stop(0.0)
        with self._changed:
            for camera in self._cameras.values():
                camera.drop_frames()
            self._changed.notify_all()
        if not self._worker.alive:
            self._selector.close()
            self._waker.close()

    # For the consumer --------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> bool:
        """Wait for a frame or a notice.  Returns whether one is there."""

        def is_there() -> bool:
            return bool(self._notices) or any(camera.waiting for camera in self._cameras.values())

        with self._changed:
            self._changed.wait_for(lambda: self._closed or is_there(), timeout_s)
            return is_there()

    def heads(self) -> tuple[tuple[str, int], ...]:
        """The oldest waiting frame of each camera that has one: its name, and when it was grabbed."""
        with self._changed:
            return tuple((one.name, one.waiting[0].grabbed_ns) for one in self._cameras.values() if one.waiting)

    def pop(self, name: str) -> Frame:
        """Take the oldest waiting frame of a camera; it is the caller's until `release`.

        Raises LookupError if there is none.  A camera that stands in `heads` has one, but overflow may have replaced
        it by a newer one since.
        """
        with self._changed:
            return self._cameras[name].pop()

    def release(self, frame: Frame) -> None:
        """Give a popped frame's memory back: its pixels must not be touched again.  Harmless when done twice."""
        with self._changed:
            if frame.camera in self._cameras:  # the last frame of a camera that was removed holds its own memory
                self._cameras[frame.camera].release(frame.number)

    def take_notices(self) -> tuple[Notice, ...]:
        """What happened since the last call, in order; losses are summed up per camera and reason."""
        with self._changed:
            return self._notices.take()

    def snapshot(self) -> dict[str, CameraStatus]:
        """The status of every camera, by name."""
        with self._changed:
            return {camera.name: camera.status() for camera in self._cameras.values()}

    # The thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:
            # Cameras without supervision are lost: their processes end with this thread.
            now = self._clock.monotonic_ns()
            for camera in self._cameras.values():
                if camera.child is not None:
                    self._close_child(camera, camera.child)
                with self._changed:
                    camera.reason = "the camera thread failed"
                    camera.enter("down", now)
                    self._notices.put(CameraLost(camera.name, now, camera.reason))
            raise

    def _turn(self) -> bool:
        """Wait for the next message or deadline and act on it.  Returns False when all is over."""
        self._worker.beat()
        for key, _ in self._selector.select(self._idle_s()):
            if key.data is None:
                self._waker.drain()
                continue
            self._read_messages(*key.data)
        now = self._clock.monotonic_ns()
        if self._stop_at_ns is None and now - self._tended_ns < TEND_EVERY_NS:
            return True
        self._tended_ns = now
        if self._stop_at_ns is None:
            self._apply_rearrangement(now)
        for camera in tuple(self._cameras.values()):
            self._tend(camera, now)
        if self._stop_at_ns is None:
            return True
        if now > self._stop_at_ns + KILL_GRACE_S * NS_PER_S:
            for camera in self._cameras.values():
                if camera.child is not None:
                    self._close_child(camera, camera.child, wait_s=0.0)  # killed long ago, and perhaps one of many
        return any(camera.child for camera in self._cameras.values())

    def _idle_s(self) -> float:
        """Until the next moment at which something is due without a message."""
        now = self._clock.monotonic_ns()
        if self._stop_at_ns is None and now - self._tended_ns < TEND_EVERY_NS:
            return (self._tended_ns + TEND_EVERY_NS - now) / NS_PER_S
        due = [one.due_ns(now, self._stop_at_ns, poll_ns=TEND_EVERY_NS) for one in self._cameras.values()]
        return min(max(0.0, (min(due, default=now + NS_PER_S) - now) / NS_PER_S), 1.0)

    def _apply_rearrangement(self, now: int) -> None:
        """Start what `rearrange` asked for."""
        with self._changed:
            wanted, self._wanted = self._wanted, None
            if wanted is None:
                return
            for camera in wanted:
                one = self._cameras.get(camera.name)
                if one is None:
                    self._cameras[camera.name] = self._supervise(camera)
                elif one.is_leaving or needs_new_process(one.replacement or one.camera, camera):
                    one.is_leaving, one.replacement = False, camera
                elif one.replacement is not None:
                    one.replacement = camera
                else:
                    one.camera = camera
        names = {camera.name for camera in wanted}
        for one in self._cameras.values():
            if one.name not in names:
                one.is_leaving, one.replacement = True, None
            if one.is_changing and one.child is not None and one.end_by_ns is None:
                one.child.reader.stop()
                one.end_by_ns = now + round(KILL_GRACE_S * NS_PER_S)

    def _change(self, camera: SupervisedCamera, now: int) -> None:
        """The process is gone: give the camera its new configuration, or remove it once its frames are popped."""
        with self._changed:
            if camera.replacement is not None:
                camera.replace(camera.replacement, now)
            elif camera.is_leaving and not camera.waiting:
                del self._cameras[camera.name]
                self._notices.put_last(CameraRemoved(camera.name, now))

    def _tend(self, camera: SupervisedCamera, now: int) -> None:
        """Everything about one camera that time alone decides."""
        if camera.child is None and camera.is_changing:
            self._change(camera, now)
        child = camera.child
        if child is None:
            may_start = self._stop_at_ns is None and not camera.is_leaving and camera.state != "ended"
            if may_start and now >= camera.retry_ns:
                self._start_process(camera, now)
            return
        with self._changed:
            child.reader.flush()
        child.log_output(camera.log, now)
        if child.exceeds_memory(camera.camera.max_memory_mb, now):
            child.kill(now)  # before this machine runs out of memory
        self._end_in_time(camera, child, now)
        if not child.is_ending and now >= camera.stalled_ns(child):
            # If this thread itself stood still, what the process sent meanwhile waits unread.
            self._read_messages(camera, child)
            if now >= camera.stalled_ns(child):
                child.reason = camera.describe_silence(child, now)
                child.kill(now)
                with self._changed:
                    # Reported now, not when the process is gone: a stuck driver can keep it for ever.
                    camera.report_lost(child.reason, now)
        if child.hung_up_ns is not None and now - child.hung_up_ns > KILL_GRACE_S * NS_PER_S:
            child.kill(now)
        if child.is_ending and child.process.poll() is not None:
            # What it sent before it died still counts.
            self._read_messages(camera, child, ALL_MESSAGES)
            self._process_gone(camera, child, now)

    def _end_in_time(self, camera: SupervisedCamera, child: Child, now: int) -> None:
        """Kill a process that was asked to end, by `stop` or for a change, and does not."""
        if self._stop_at_ns is not None and child.hung_up_ns is None:
            child.reader.stop()
            if now >= self._stop_at_ns:
                child.kill(now)
        if camera.end_by_ns is not None and now >= camera.end_by_ns and child.killed_ns is None:
            child.kill(now)
            with self._changed:
                camera.report_replaced(now)

    def _start_process(self, camera: SupervisedCamera, now: int) -> None:
        try:
            child = self._start_child(camera.job, self._clock)
        except OSError as error:
            # No descriptors, processes or memory are left for now.
            self._retry_later(camera, now, f"the camera process does not start: {error}")
            return
        try:
            self._selector.register(child.reader, selectors.EVENT_READ, (camera, child))
        except OSError as error:
            child.hang_up(now)
            child.kill(now)
            child.reap()
            self._retry_later(camera, now, f"the camera process cannot be watched: {error}")
            return
        camera.child = child
        with self._changed:
            camera.pid = child.process.pid

    def _read_messages(self, camera: SupervisedCamera, child: Child, limit: int = MAX_MESSAGES) -> None:
        if child.hung_up_ns is not None:
            return
        try:
            for _ in range(limit):
                with self._changed:
                    message = child.reader.receive()
                    if message is None:
                        return
                    child.sign_ns = self._clock.monotonic_ns()
                    if isinstance(message, Received):
                        camera.accept_frame(child, message)
                        self._changed.notify_all()
                    else:
                        camera.accept_note(child, message)
        except Hangup:
            self._hang_up(child)
        except CameraError as error:
            child.reason = child.reason or str(error)
            self._hang_up(child)
            child.kill(self._clock.monotonic_ns())

    def _hang_up(self, child: Child) -> None:
        self._selector.unregister(child.reader)
        with self._changed:
            child.hang_up(self._clock.monotonic_ns())

    def _process_gone(self, camera: SupervisedCamera, child: Child, now: int) -> None:
        """The process exited: decide what becomes of the camera."""
        child.log_output(camera.log, now, at_once=True)
        delivered_ns = 0 if child.delivers_since_ns is None else child.sign_ns - child.delivers_since_ns
        self._close_child(camera, child)
        was_asked, camera.end_by_ns = camera.end_by_ns is not None, None
        if was_asked and self._stop_at_ns is None:
            with self._changed:
                camera.report_replaced(now)
        elif child.has_ended or self._stop_at_ns is not None:
            if self._stop_at_ns is None:
                log.info("camera %s came to its end after %d frames", camera.name, camera.delivered)
            with self._changed:
                camera.enter("ended" if child.has_ended else "down", now)
                camera.reason = "" if child.has_ended else "stopped"
                camera.report_end_if_drained()
        else:
            reason = child.reason or child.describe_exit()
            if delivered_ns >= self._limits.stable_s * NS_PER_S:
                camera.backoff.reset()
            if child.has_started and not child.gave_reason:
                with self._changed:
                    if camera.leave_out_fatal_picture(reason, now):
                        camera.backoff.reset()
            self._retry_later(camera, now, reason)

    def _retry_later(self, camera: SupervisedCamera, now: int, reason: str) -> None:
        """The camera is lost: schedule the next attempt."""
        wait_s = camera.backoff.next_s()
        camera.retry_ns = now + round(wait_s * NS_PER_S)
        log.debug("camera %s: attempt %d in %.1f s", camera.name, camera.backoff.attempts + 1, wait_s)
        with self._changed:
            camera.restarts += 1
            camera.report_lost(reason, now)

    def _close_child(self, camera: SupervisedCamera, child: Child, wait_s: float = KILL_GRACE_S) -> None:
        """Kill the process if it still runs, and close all that belongs to it.  wait_s: for its end."""
        if child.hung_up_ns is None:
            self._hang_up(child)
        child.kill(self._clock.monotonic_ns())
        if not child.reap(wait_s):
            log.warning("camera %s: process %d cannot be killed: it is stuck in a driver", camera.name, camera.pid)
        camera.child = None
        with self._changed:
            camera.pid = None


class _Waker:
    """Ends the thread's wait in `select` from another thread."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def fileno(self) -> int:
        return self._theirs.fileno()

    def wake(self) -> None:
        try:
            self._ours.send(b"w")
        except OSError:
            pass  # full: it is awake already

    def drain(self) -> None:
        self._theirs.recv(64)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()
