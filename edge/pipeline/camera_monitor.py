"""The state of each camera: it opens, is lost, ends, is paused, gives bad pictures or frames of another size."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from edge.camera.notices import CameraEnded, CameraLost, CameraOpened, FramesLost
from edge.config import calibration
from edge.coverage.strip_position import PositionTracker
from edge.frame import Frame
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.redact import redact
from edge.pipeline.camera_session import CameraSession, Outage, PauseState
from edge.pipeline.reporting import Reporter
from edge.pipeline.scheduler import Scheduler
from edge.vision.image_quality import ImageCheck

log = logging.getLogger(__name__)

MAX_MISFITS: Final = 16
"""`calibration.refused` events of one camera, until it gets new settings."""


class CameraMonitor:
    """Keeps the state of each session, and emits its changes.  Owned by the inspection loop."""

    def __init__(self, reporter: Reporter, scheduler: Scheduler, strip: PositionTracker, clock: Clock) -> None:
        self._reporter = reporter
        self._scheduler = scheduler
        self._strip = strip
        self._clock = clock
        self._throttle = LogThrottle(log)

    # ---- the signal ------------------------------------------------------------------------------------

    def opened(self, session: CameraSession, notice: CameraOpened) -> None:
        """The camera delivers frames, for the first time or again."""
        session.counters.account.signal(present=True, now_ns=notice.monotonic_ns)
        session.actual = notice.actual.as_json()
        session.tracking.interrupt()
        self._reporter.enter(session, "opened")
        if session.outage is not None:
            away_s = (notice.monotonic_ns - session.outage.since_ns) / NS_PER_S
            self._reporter.emit(session, "camera.restored", detail={"seconds": round(away_s, 3)})
            self._end_outage(session, notice.monotonic_ns)

    def lost(self, session: CameraSession, notice: CameraLost) -> None:
        """The camera does not deliver. Several failed restarts are one outage."""
        self._no_signal(session, notice.monotonic_ns)
        self._reporter.enter(session, "lost", redact(notice.reason))
        if session.outage is None:
            session.outage = Outage(notice.monotonic_ns, self._strip.at(notice.monotonic_ns))
            self._reporter.emit(session, "camera.lost", detail={"reason": notice.reason})

    def ended(self, session: CameraSession, notice: CameraEnded) -> None:
        """The recording is over."""
        self._no_signal(session, notice.monotonic_ns)
        self._reporter.enter(session, "ended")
        self._reporter.emit(session, "camera.ended", detail={"frames": notice.frames})

    def frames_lost(self, session: CameraSession, notice: FramesLost) -> None:
        """Count frames that never reached the inspection loop."""
        now_ns, count, reason = self._clock.monotonic_ns(), notice.count, notice.reason
        position = self._strip.at(now_ns)
        if reason == "unreadable":
            session.miss("bad_image", now_ns, "bad_image", reason, count, position)
            return
        session.miss("overload", now_ns, "dropped", reason, count, position)
        if reason == "overflow":
            self._scheduler.missed(notice.camera, count)

    def removed(self, session: CameraSession) -> None:
        """The last frame of the camera was inspected."""
        self._end(session)
        self._reporter.enter(session, "removed")

    def stopped(self, session: CameraSession) -> None:
        """The node stops."""
        self._end(session)
        self._reporter.enter(session, "stopped")

    def close_defects(self, session: CameraSession) -> None:
        """Close every open defect: it cannot be followed any further."""
        for change in session.tracking.defects.close_all():
            self._reporter.emit(session, change.type, defect=session.measured(change, self._strip))

    def _no_signal(self, session: CameraSession, at_ns: int) -> None:
        session.counters.account.signal(present=False, now_ns=at_ns)
        self._scheduler.gone(session.name)
        self.close_defects(session)

    def _end_outage(self, session: CameraSession, to_ns: int) -> None:
        """Emit the gap of the time without signal."""
        outage, session.outage = session.outage, None
        if outage is not None:
            positions = outage.position, self._strip.at(to_ns)
            self._reporter.emit_time_gap(session, "no_signal", (outage.since_ns, to_ns), positions)

    def _end(self, session: CameraSession) -> None:
        """Close what is open, so that no time is left unaccounted."""
        self.close_defects(session)
        self._end_outage(session, self._clock.monotonic_ns())
        self.resume(session)

    # ---- pauses ----------------------------------------------------------------------------------------

    def pause(self, session: CameraSession, for_s: float | None, reason: str | None = None) -> None:
        """Stop inspecting, or give a pause that runs another end.  for_s: None: until `resume`."""
        now_ns = self._clock.monotonic_ns()
        until_ns = None if for_s is None else now_ns + int(for_s * NS_PER_S)
        if session.pause is not None:
            session.pause.until_ns = until_ns
            return
        session.pause = PauseState(now_ns, until_ns, self._strip.at(now_ns))
        session.counters.account.pause(on=True, now_ns=now_ns)
        self.close_defects(session)
        self._reporter.emit(session, "camera.paused", detail={"for_s": for_s, "reason": reason})
        self._reporter.enter(session, "paused")

    def resume(self, session: CameraSession) -> None:
        """Inspect again, and emit the gap of the pause.  Without a pause nothing happens."""
        pause, session.pause = session.pause, None
        if pause is None:
            return
        now_ns = self._clock.monotonic_ns()
        session.counters.account.pause(on=False, now_ns=now_ns)
        session.tracking.interrupt()
        seconds = round((now_ns - pause.since_ns) / NS_PER_S, 3)
        self._reporter.emit(session, "camera.resumed", detail={"seconds": seconds})
        positions = pause.position, self._strip.at(now_ns)
        self._reporter.emit_time_gap(session, "paused", (pause.since_ns, now_ns), positions, pause.frames)
        was_paused = session.state.name == "paused"
        self._reporter.change_state(session, "resumed")
        if was_paused:
            self._reporter.publish_state(session)

    def end_pauses(self, sessions: Iterable[CameraSession]) -> None:
        """Resume the cameras whose pause is over."""
        for session in sessions:
            pause = session.pause
            if pause is not None and pause.until_ns is not None and self._clock.monotonic_ns() >= pause.until_ns:
                self.resume(session)

    # ---- the picture -----------------------------------------------------------------------------------

    def update_image_state(self, session: CameraSession, check: ImageCheck, frame: Frame) -> None:
        """Emit that the picture of a camera became bad, or good again, with this frame."""
        if check.started is not None:
            if session.fault_since_ns is None:
                session.fault_since_ns = self._clock.monotonic_ns()
            self._reporter.enter(session, "fault", check.started)
            sentence = f"camera {session.name}: its pictures are not inspected: {check.started}"
            self._throttle.write(logging.WARNING, sentence, self._clock.monotonic_ns())
            self._reporter.emit(session, "image.bad", frame=frame, detail={"reason": check.started})
        elif check.ended is not None:
            now_ns = self._clock.monotonic_ns()
            since_ns, session.fault_since_ns = session.fault_since_ns or now_ns, None
            self._reporter.enter(session, "restored")
            sentence = f"camera {session.name}: its pictures are inspected again"
            self._throttle.write(logging.INFO, sentence, now_ns)
            detail = {"reason": check.ended, "seconds": round((now_ns - since_ns) / NS_PER_S, 3)}
            self._reporter.emit(session, "image.restored", frame=frame, detail=detail)

    def forget_fault(self, session: CameraSession) -> None:
        """The settings are new: the image check starts anew, and finds a fault that is still there."""
        if session.fault_since_ns is None:
            return
        seconds = round((self._clock.monotonic_ns() - session.fault_since_ns) / NS_PER_S, 3)
        reason, was_bad = session.state.fault, session.state.name in ("bad_image", "frozen")
        session.fault_since_ns = None
        self._reporter.change_state(session, "restored")
        if was_bad:
            self._reporter.publish_state(session)
        self._reporter.emit(session, "image.restored", detail={"reason": reason, "seconds": seconds})

    def check_size(self, session: CameraSession, frame: Frame) -> None:
        """Where the frame size changes: report which calibrated parts are not valid for it."""
        height, width = frame.pixels.shape
        tracking = session.tracking
        if tracking.frame_px == (width, height):
            return
        tracking.frame_px = (width, height)
        tracking.misfits = calibration.misfits(session.camera, tracking.frame_px)
        fresh = [misfit for misfit in tracking.misfits if (misfit.part, misfit.frame_px) not in tracking.refused]
        if len(tracking.refused) + len(fresh) > MAX_MISFITS:
            return  # a size that comes and goes: the state message still names the refused parts
        for misfit in fresh:
            tracking.refused.add((misfit.part, misfit.frame_px))
            log.warning("camera %s: %s", session.name, misfit)
            self._reporter.emit(session, "calibration.refused", frame=frame, detail=misfit.as_json())
        if fresh:
            self._reporter.publish_state(session)
