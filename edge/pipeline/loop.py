"""The inspection loop: one thread takes frames, inspects them, and emits events.

It owns the network's session, the tracks and the counters of all cameras, so that no lock lies on the way of a frame.
It waits for cameras only; the recorder and the publisher, on their own threads, wait for the disk and the network.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from edge import config, event
from edge.camera.notices import CameraEnded, CameraLost, CameraOpened, CameraRemoved, FramesLost, Notice
from edge.coverage.severity import Severities
from edge.coverage.strip_position import PositionTracker, StripPosition, StripReading
from edge.delivery.frame_tap import FrameTap
from edge.frame import Frame
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock
from edge.host.worker import Worker
from edge.pipeline.camera_monitor import CameraMonitor
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.domain_monitor import DomainMonitor
from edge.pipeline.drift_monitor import DriftMonitor
from edge.pipeline.frame_display import FrameDisplay
from edge.pipeline.order_runner import OrderRunner
from edge.pipeline.orders import OrderQueue, SnapshotRequests
from edge.pipeline.reconfiguration import ActiveSetup
from edge.pipeline.reporting import Reporter, Subscribers
from edge.pipeline.scheduler import Head, Scheduler
from edge.pipeline.shadow import Shadow, ShadowSlot
from edge.pipeline.strip_monitor import StripInput, StripMonitor
from edge.pipeline.width_monitor import WidthMonitor
from edge.vision.inspector import PreparedFrame, Verdict

log = logging.getLogger(__name__)

IDLE_S: Final = 0.2
"""Longest wait for a frame: orders, reports and a stop are noticed within it."""


class Cameras(Protocol):
    """Where frames come from: `edge.camera.supervisor.Supervisor`, or a fake."""

    def wait(self, timeout_s: float) -> bool: ...
    def heads(self) -> tuple[Head, ...]: ...
    def pop(self, name: str) -> Frame: ...
    def release(self, frame: Frame) -> None: ...
    def take_notices(self) -> tuple[Notice, ...]: ...


class InspectionLoop:
    """Runs the thread `inspection`. Stop the cameras first, then the loop: it inspects the frames that they left.

    A round that fails ends inspection, not the thread: until the stop it counts every frame as dropped, so that the
    accounts stay right and the defects are closed.
    """

    def __init__(
        self,
        sessions: Sequence[CameraSession],
        cameras: Cameras,
        subscribers: Subscribers,
        clock: Clock,
        *,
        report_s: float,
        orders: OrderQueue | None = None,
        strip: StripInput | None = None,
        shadow: Shadow | None = None,
        tap: FrameTap | None = None,
        severities: Severities | None = None,
    ) -> None:
        """report_s: interval of coverage messages and reports.  strip: speed and coil; None: neither is known.

        tap: gets frames for people who look.  severities: how severe defects are; None: all are minor.
        """
        self._cameras = cameras
        self._clock = clock
        self._snapshots = SnapshotRequests()
        self._shadow = ShadowSlot(shadow)
        self._scheduler = Scheduler()
        strip = strip or StripInput(PositionTracker(config.Travel(), clock.monotonic_ns()))
        self._strip = StripMonitor(strip, subscribers.events, clock)
        self._reporter = Reporter(subscribers, self._strip, self._shadow, clock, report_s)
        if severities is not None:
            self._reporter.severities = severities
        self._monitor = CameraMonitor(self._reporter, self._scheduler, strip.tracker, clock)
        self._drift = DriftMonitor(self._reporter, clock)
        self._width = WidthMonitor(self._reporter, strip.tracker, clock)
        self._domain = DomainMonitor(self._reporter, clock)
        self._display = FrameDisplay(tap or FrameTap(), strip.tracker, clock, lambda: self._reporter.severities)
        self._setup = ActiveSetup(
            sessions, self._scheduler, self._monitor, self._drift, self._reporter, self._shadow, clock
        )
        self._orders = OrderRunner(orders or OrderQueue(), self._snapshots, self._strip, self._monitor, self._setup)
        self._drain_until_ns: int | None = None
        """When a stop was asked for: how long frames are still inspected, monotonic."""
        self._failure: BaseException | None = None
        self._worker = Worker("inspection", self._run, clock)

    @property
    def sessions(self) -> tuple[CameraSession, ...]:
        """The sessions of this moment; any thread may read their counters."""
        return tuple(self._setup.sessions.values())

    @property
    def reading(self) -> StripReading:
        """The state of the strip, some tenths of a second old; any thread may read it."""
        return self._strip.reading

    @property
    def shadow(self) -> Shadow | None:
        """The shadow model in use; any thread may read its tallies."""
        return self._shadow.current

    @property
    def alive(self) -> bool:
        """Whether frames are inspected."""
        return self._worker.alive and self._failure is None

    @property
    def failure(self) -> BaseException | None:
        """What ended inspection, unless it was stopped."""
        return self._failure or self._worker.failure

    @property
    def beat_ns(self) -> int:
        """When the loop last came round, for the watchdog."""
        return self._worker.beat_ns

    def start(self) -> None:
        self._worker.start()

    def stop(self, timeout_s: float, *, drain_s: float | None = None) -> bool:
        """Inspect what the stopped cameras left, close all defects, report.

        timeout_s: how long to wait; False when the thread still runs after that time.  drain_s: how long to inspect;
        what is left then is counted as dropped.  None: until nothing is left.
        """
        if drain_s is not None:
            self._drain_until_ns = self._clock.monotonic_ns() + int(drain_s * NS_PER_S)
        return self._worker.stop(timeout_s)

    def _is_over(self) -> bool:
        """Whether the time to inspect what the cameras left is over."""
        return self._drain_until_ns is not None and self._clock.monotonic_ns() >= self._drain_until_ns

    def _run(self) -> None:
        for session in self.sessions:
            self._reporter.publish_state(session)
        while not (self._worker.is_stopping and not self._cameras.heads()):
            try:
                self.turn()
            except Exception as error:  # whatever it is, the frames still have to be counted
                if self._failure is not None:
                    raise
                log.exception("inspection has failed: frames are only counted until the node stops")
                self._failure = error
        self._finish()

    # ---- the way of a frame ----------------------------------------------------------------------------

    def turn(self) -> None:
        """One round: strip, orders, notices, one frame, and the report when it is due."""
        self._worker.beat()
        if self._failure is None:
            self._strip.update()
            self._orders.run()
        if self._cameras.wait(0.0 if self._worker.is_stopping else IDLE_S):
            for notice in self._cameras.take_notices():
                self._note(notice)
            heads = self._cameras.heads()
            name = self._scheduler.next(heads, self._clock.monotonic_ns())
            if name is not None:
                self._take(self._setup.sessions[name], [head for head in heads if head[0] != name])
        if self._failure is None and self._reporter.is_due():
            self._reporter.report_all(self.sessions)
        self._reporter.send_notes(self.sessions)

    def _take(self, session: CameraSession, others: Sequence[Head]) -> None:
        """Take one frame from the ring to its verdict.  others: the frames of other cameras that wait."""
        name = session.name
        frame = self._cameras.pop(name)
        counted = session.counters.account.delivered()
        try:
            if self._failure is not None:
                session.miss("overload", frame.grabbed_ns, "dropped", "failed")
                return
            dequeued_ns = self._clock.monotonic_ns()
            frame = frame.due(self._scheduler.deadline_ns(name, frame.grabbed_ns))
            self._strip.update()  # speeds that arrived before the frame was grabbed decide its position
            position = self._strip.tracker.at(frame.grabbed_ns)
            self._monitor.check_size(session, frame)
            if self._strip.tracker.is_on:
                session.measure(frame, position)
            self._snapshots.answer(frame)
            if session.pause is not None:
                session.miss("paused", frame.grabbed_ns, "dropped", "paused", position=position)
                self._display.show_missed(session, frame, "dropped", position)
                return
            if self._is_over():
                session.miss("overload", frame.grabbed_ns, "dropped", "stopped", position=position)
                return
            prepared = session.inspector.check(frame.pixels, dequeued_ns)
            self._monitor.update_image_state(session, prepared.check, frame)
            if prepared.fault is not None:  # it shows nothing of the surface: open defects wait for the next frame
                session.miss("bad_image", frame.grabbed_ns, "bad_image", prepared.fault, position=position)
                self._display.show_missed(session, frame, "bad_image", position)
                return
            self._width.measure(session, frame, position)
            checked_ns = self._clock.monotonic_ns()
            max_tiles = self._scheduler.plan(frame, prepared.tiles, others, checked_ns)
            if max_tiles == 0:
                session.miss("overload", frame.grabbed_ns, "late", position=position)
                self._scheduler.missed(name)
                self._display.show_missed(session, frame, "late", position)
                return
            verdict = self._inspect(session, frame, prepared, max_tiles)
            self._record(session, frame, verdict, position, (dequeued_ns, checked_ns))
            self._display.show(session, frame, prepared, verdict, position)
            self._reporter.follow_defects(session, frame, verdict.detections)
            self._reporter.sample(session, frame, verdict, prepared.boxes, position)
            self._drift.compare(session, frame, prepared, verdict)
            self._domain.compare(session, frame, verdict)
            self._scheduler.done(name, verdict.tiles, verdict.inference_ns, self._clock.monotonic_ns() - dequeued_ns)
            if self._shadow.current is not None:
                self._compare(self._shadow.current, session, frame, verdict, position)
        except Exception:
            if session.counters.account.delivered() == counted:
                session.miss("overload", frame.grabbed_ns, "dropped", "failed")
            raise
        finally:
            self._cameras.release(frame)

    def _compare(
        self, shadow: Shadow, session: CameraSession, frame: Frame, verdict: Verdict, position: StripPosition | None
    ) -> None:
        """Let the shadow model inspect the frame too, if there is time."""
        spare_ns = 0 if self._cameras.heads() else self._scheduler.spare_ns()
        dispute = partial(self._reporter.dispute, session, frame, verdict, position)
        shadow.compare(session.name, frame.pixels, verdict, spare_ns, self._is_over, dispute)

    def _inspect(self, session: CameraSession, frame: Frame, prepared: PreparedFrame, max_tiles: int) -> Verdict:
        """The verdict.  Where a canary model fails, the previous model gives it, and decides from then on."""
        try:
            verdict = session.inspector.inspect(
                prepared, max_tiles=max_tiles, deadline_ns=frame.deadline_ns, is_over=self._is_over
            )
            if not verdict.broken or not self._setup.can_fall_back:
                return verdict
            failure = f"the scores of {verdict.broken} tiles are not finite"
        except Exception as error:  # a canary model that fails in any way must not cost a frame
            if not self._setup.can_fall_back:
                raise
            failure = str(error) or type(error).__name__
        self._setup.fall_back(failure)
        prepared = session.inspector.prepare(frame.pixels, follow=False)  # the other model may need other tiles
        return session.inspector.inspect(
            prepared, max_tiles=max_tiles, deadline_ns=frame.deadline_ns, is_over=self._is_over
        )

    def _record(
        self,
        session: CameraSession,
        frame: Frame,
        verdict: Verdict,
        position: StripPosition | None,
        times_ns: tuple[int, int],
    ) -> None:
        """Count the verdict and emit the defects that it opened or closed.  times_ns: dequeued, checked."""
        dequeued_ns, checked_ns = times_ns
        now_ns = self._clock.monotonic_ns()
        session.count_verdict(verdict, frame.grabbed_ns, position)
        changes = session.track(frame, verdict, position, now_ns)
        decided_ns = self._clock.monotonic_ns()
        session.counters.last_verdict_ns = decided_ns
        spent_ns = (
            dequeued_ns - frame.grabbed_ns,
            checked_ns - dequeued_ns + verdict.preprocess_ns,
            verdict.inference_ns,
            verdict.decide_ns + decided_ns - now_ns,
            decided_ns - frame.grabbed_ns,
        )
        for histogram, ns in zip(session.counters.stages.values(), spent_ns, strict=True):
            histogram.add(ns)
        if not changes:
            return
        latency = event.Latency(*(ns / NS_PER_MS for ns in spent_ns))
        for change in changes:
            defect = session.measured(change, self._strip.tracker)
            detections = verdict.detections
            self._reporter.emit(
                session, change.type, defect=defect, frame=frame, detections=detections, latency=latency
            )

    # ---- notices of the cameras ------------------------------------------------------------------------

    def _note(self, notice: Notice) -> None:
        session = self._setup.sessions[notice.camera]
        match notice:
            case CameraOpened():
                self._monitor.opened(session, notice)
            case CameraLost():
                self._monitor.lost(session, notice)
            case CameraEnded():
                self._monitor.ended(session, notice)
            case FramesLost():
                self._monitor.frames_lost(session, notice)
            case CameraRemoved():
                self._monitor.removed(session)
                self._reporter.report([session])
                self._setup.remove(session)

    def _finish(self) -> None:
        """Account for everything before the thread ends."""
        self._orders.refuse_all()
        for notice in self._cameras.take_notices():
            self._note(notice)
        for session in self.sessions:
            self._monitor.stopped(session)
        self._reporter.report_all(self.sessions)
        self._reporter.send_notes(self.sessions, at_once=True)
