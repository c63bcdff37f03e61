"""What the inspection loop publishes: events, state and coverage messages, gaps, and the reports of each window."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from edge import config, event
from edge.config import calibration
from edge.coverage import accounting as coverage
from edge.coverage.severity import SEVERITIES, Severities
from edge.coverage.strip_position import StripPosition
from edge.coverage.strip_trace import SpeedNote, TraceNote
from edge.frame import Box, Frame
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.camera_state import Trigger
from edge.pipeline.histogram import Summary
from edge.pipeline.shadow import ShadowSlot
from edge.pipeline.strip_monitor import Sink, StripMonitor
from edge.vision.decision import NO_DETECTIONS, Detections
from edge.vision.inspector import Verdict

log = logging.getLogger(__name__)

NOTES_NS: Final = NS_PER_S
"""Between two notes along the strip."""
MAX_NOTES: Final = 1000
SPEED_CHANGE: Final = 0.01
"""Smaller changes of the speed are not noted."""
Picture = Callable[[float], event.Evidence | None]
"""Waits at most that long, s; returns the evidence reference of an event, or None."""


class EventSink(Sink, Protocol):
    """Where events go: `edge.delivery.recorder.Recorder`, or a fake."""

    def put(self, event: event.Event, picture: Picture | None = None) -> None: ...


class EvidenceSelector(Protocol):
    """Keeps pictures: `edge.evidence.selector.EvidenceSelector`, or a fake.  Copies what it needs of a frame."""

    def select(
        self, fact: event.Event, camera: config.Camera, frame: Frame | None, detections: Detections
    ) -> Picture | None: ...
    def follow(
        self, camera: config.Camera, frame: Frame, defects: Sequence[event.Defect], detections: Detections
    ) -> None: ...
    def sample(
        self,
        frame: Frame,
        verdict: Verdict,
        boxes: Callable[[], Sequence[Box]],
        place: Callable[[], tuple[str | None, float | None]],
    ) -> None: ...
    def dispute(
        self,
        frame: Frame,
        ours: Verdict,
        theirs: Verdict,
        shadow: Mapping[str, str],
        place: Callable[[], tuple[str | None, float | None]],
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Report:
    """One camera's last window."""

    camera: str
    state: str
    fps: float
    latency: Summary
    """From grab to verdict."""
    stages: dict[str, Summary]
    coverage: dict[str, Any]
    open_defects: int
    bad_images: Mapping[str, int] = field(default_factory=dict)
    """Pictures of the window that could not be inspected, by reason."""
    width_mm: float | None = None
    """The last width of the strip."""
    reason: str = ""
    """Why the camera is in its state; empty where it runs."""


def _ignore(*_: object) -> None:
    """Receives messages without a subscriber."""


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Who receives what the inspection loop publishes.  All are called on the loop thread, and must not block."""

    events: EventSink
    state: Callable[[str, dict[str, Any]], object] = _ignore
    """Called with the camera's name and its latest state message."""
    coverage: Callable[[str, dict[str, Any]], object] = _ignore
    """Called with the camera's name and its latest coverage message."""
    reports: Callable[[Sequence[Report]], object] = _ignore
    """Called at each report, with the window of each camera."""
    removed: Callable[[str], object] = _ignore
    """Called after the last message about a removed camera, with its name."""
    evidence: EvidenceSelector | None = None
    notes: Callable[[Sequence[TraceNote]], object] = _ignore
    """Called about once a second with what was noted along the strip: runs, width, speed."""


class Reporter:
    """Builds every message of the inspection loop and gives it to the subscribers."""

    def __init__(
        self, subscribers: Subscribers, strip: StripMonitor, shadow: ShadowSlot, clock: Clock, report_s: float
    ) -> None:
        self._subscribers = subscribers
        self._strip = strip
        self._shadow = shadow
        self._clock = clock
        self._interval_ns = int(report_s * NS_PER_S)
        self._due_ns = clock.monotonic_ns() + self._interval_ns
        self._notes: list[TraceNote] = []
        """Since the last `send_notes`; a camera adds at most one width for each meter or second."""
        self._notes_due_ns = 0
        self._last_speed: SpeedNote | None = None
        self.severities = Severities()
        """The rules that decide how severe a defect is; replaced as a whole."""

    # ---- events ----------------------------------------------------------------------------------------

    def emit(
        self,
        session: CameraSession,
        kind: event.EventType,
        *,
        defect: event.Defect | None = None,
        frame: Frame | None = None,
        detections: Detections = NO_DETECTIONS,
        latency: event.Latency | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Emit an event of a camera, with its picture if there is one.  frame: the frame that caused it."""
        fact = event.Event.now(self._clock, session.name, kind, detail)
        ref = None if frame is None else event.FrameRef(frame.number, frame.label)
        if defect is not None:
            defect = replace(defect, severity=self._severity(session, defect))
        fact = replace(fact, defect=defect, frame=ref, latency_ms=latency)
        evidence = self._subscribers.evidence
        picture = None if evidence is None else evidence.select(fact, session.camera, frame, detections)
        self._subscribers.events.put(fact, picture)

    def _severity(self, session: CameraSession, defect: event.Defect) -> event.DefectSeverity:
        """The worst of what it is for the coils that it lies on."""
        width_mm = session.width_across_mm(defect.box_mm)
        coils: list[str | None] = [each.coil for each in defect.lane_coils]
        if defect.coil is not None or not coils:
            coils.append(defect.coil)
        found = [
            self.severities.of(coil, defect.class_name, defect.length_mm, width_mm, defect.surface) for coil in coils
        ]
        return max(found, key=SEVERITIES.index)

    def follow_defects(self, session: CameraSession, frame: Frame, detections: Detections) -> None:
        """Let the evidence selector see the open defects of an inspected frame: it may show more of one."""
        evidence = self._subscribers.evidence
        if evidence is not None and detections.regions:
            defects = session.tracking.defects.in_view()
            if defects:
                evidence.follow(session.camera, frame, defects, detections)

    def sample(
        self,
        session: CameraSession,
        frame: Frame,
        verdict: Verdict,
        boxes: Callable[[], Sequence[Box]],
        position: StripPosition | None,
    ) -> None:
        """Let the evidence selector keep tiles of an inspected frame.

        boxes: gives its tiles.  position: where the strip was.
        """

        def place() -> tuple[str | None, float | None]:
            return (None, None) if position is None else session.on_coil(position, self._strip.tracker)

        if self._subscribers.evidence is not None:
            self._subscribers.evidence.sample(frame, verdict, boxes, place)

    def dispute(
        self, session: CameraSession, frame: Frame, ours: Verdict, position: StripPosition | None, theirs: Verdict
    ) -> None:
        """Let the evidence selector keep a tile about which the shadow model disagrees.  position: of the strip."""
        shadow = self._shadow.current
        if self._subscribers.evidence is None or shadow is None:
            return

        def place() -> tuple[str | None, float | None]:
            return (None, None) if position is None else session.on_coil(position, self._strip.tracker)

        self._subscribers.evidence.dispute(frame, ours, theirs, shadow.model, place)

    def emit_gap(self, session: CameraSession, gap: coverage.Gap) -> None:
        """Emit `coverage.gap`, with its meters on the coil where they are known."""
        detail = gap.as_json(self._clock.wall_ns(), self._clock.monotonic_ns())
        if gap.from_position is not None and session.heading is not None:
            coil, from_m = session.on_coil(gap.from_position, self._strip.tracker)
            run_m = None if gap.to_position is None else gap.to_position.since(gap.from_position)
            if from_m is not None and run_m is not None:
                to_m = from_m + max(0.0, run_m) + session.counters.view_m
                detail |= {"from_m": round(from_m, 3), "to_m": round(to_m, 3), "coil": coil}
        self.emit(session, "coverage.gap", detail=detail)

    def emit_time_gap(
        self,
        session: CameraSession,
        cause: coverage.Cause,
        times_ns: tuple[int, int],
        positions: tuple[StripPosition | None, StripPosition | None],
        dropped: int = 0,
    ) -> None:
        """Emit `coverage.gap` for a time without inspection.  times_ns, positions: its start and its end."""
        frames: dict[coverage.FrameState, int] = {"dropped": dropped} if cause == "paused" else {}
        self.emit_gap(session, coverage.Gap(cause, *times_ns, frames, 0, 0, {}, *positions))

    # ---- states ----------------------------------------------------------------------------------------

    def enter(self, session: CameraSession, trigger: Trigger, reason: str = "") -> None:
        """Change the state of a camera and publish it."""
        self.change_state(session, trigger, reason)
        self.publish_state(session)

    def change_state(self, session: CameraSession, trigger: Trigger, reason: str = "") -> None:
        """Change the state of a camera without a message."""
        before = session.state
        session.state = before.after(trigger, reason, () if session.drift is None else session.drift.drifted)
        if (session.state.name, session.state.reason) != (before.name, before.reason):
            session.state_since_ns = self._clock.wall_ns()

    def publish_state(self, session: CameraSession) -> None:
        """Publish the state message of a camera."""
        self._subscribers.state(
            session.name,
            {
                "schema": "defectd.state/1",
                "state": session.state.name,
                "reason": session.state.reason or None,
                "since": stamp(session.state_since_ns),
                "fps": round(session.counters.fps, 2),
                "mode": session.camera.mode,
                "actual": session.actual,
                "thresholds": thresholds_json(session.camera.decision),
                "calibrated_thresholds": _calibrated_thresholds_json(session),
                "calibration": _calibration_json(session),
                "drift": _drift_json(session),
                "width": _width_json(session),
                "taught": _taught_json(session),
                "domain": _domain_json(session),
                "shadow": self._shadow.as_json(session.name),
                "strip": self._strip.reading.as_json(),
            },
        )

    def forget(self, session: CameraSession) -> None:
        """The last message about a camera was published."""
        self._subscribers.removed(session.name)

    # ---- reports ---------------------------------------------------------------------------------------

    def set_interval(self, report_s: float) -> None:
        """Report every so many seconds, from the next report on."""
        self._interval_ns = int(report_s * NS_PER_S)

    def is_due(self) -> bool:
        """Whether it is time for the next report."""
        return self._clock.monotonic_ns() >= self._due_ns

    def report_all(self, sessions: Iterable[CameraSession]) -> None:
        """End the window of all cameras, and start the next one."""
        self._due_ns = self._clock.monotonic_ns() + self._interval_ns
        self.report(sessions)

    def report(self, sessions: Iterable[CameraSession]) -> None:
        """End the window of these cameras: publish gaps, coverage and state."""
        now_ns = self._clock.monotonic_ns()
        self._strip.read(now_ns)
        position = self._strip.tracker.at(now_ns)
        self._subscribers.reports([self._report(session, position, now_ns) for session in sessions])

    def _report(self, session: CameraSession, position: StripPosition | None, now_ns: int) -> Report:
        counters, account = session.counters, session.counters.account
        window_s = max(1e-9, (now_ns - counters.window_from_ns) / NS_PER_S)
        delivered = account.delivered()
        counters.fps = (delivered - counters.delivered_before) / window_s
        counters.delivered_before, counters.window_from_ns = delivered, now_ns
        _pass_blind(session, position)
        message = {**account.report(now_ns), "time": stamp(self._clock.wall_ns())}
        bad_images: dict[str, int] = {}
        for gap in counters.gaps.take():
            self.emit_gap(session, gap)
            if gap.cause == "bad_image":
                bad_images = gap.reasons
        _log_edges(session)
        self._subscribers.coverage(session.name, message)
        self.publish_state(session)
        counts = {stage: histogram.counts() for stage, histogram in counters.stages.items()}
        stages = {stage: c.since(counters.reported_stages.get(stage)).summary() for stage, c in counts.items()}
        counters.reported_stages = counts
        open_defects = len(session.tracking.defects)
        return Report(
            session.name,
            session.state.name,
            counters.fps,
            stages["total"],
            stages,
            message,
            open_defects,
            bad_images,
            None if session.width.curve.figures is None else session.width.curve.figures.last,
            session.state.reason,
        )

    # ---- notes along the strip -------------------------------------------------------------------------

    def note(self, note: TraceNote) -> None:
        """Keep a note for the next `send_notes`."""
        if len(self._notes) < MAX_NOTES:
            self._notes.append(note)

    def send_notes(self, sessions: Iterable[CameraSession], *, at_once: bool = False) -> None:
        """Send what was noted along the strip, once a second: first of all the runs that are final."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._notes_due_ns and not at_once:
            return
        self._notes_due_ns = now_ns + NOTES_NS
        tracker = self._strip.tracker
        position = tracker.at(now_ns)
        notes: list[TraceNote] = []
        for session in sessions:
            _pass_blind(session, position)
            notes += session.take_runs(tracker)
        notes += self._notes
        self._notes.clear()
        speed = self._speed_note(now_ns)
        if speed is not None:
            notes.append(speed)
        if notes:
            self._subscribers.notes(notes)

    def _speed_note(self, now_ns: int) -> SpeedNote | None:
        """The speed, where it has changed."""
        reading = self._strip.tracker.reading(now_ns)
        last = self._last_speed
        if last is not None and last.coil == reading.coil and (last.at_m is None) == (reading.position_m is None):
            before, now = last.m_per_s or 0.0, reading.m_per_s or 0.0
            if abs(now - before) <= SPEED_CHANGE * max(before, now):
                return None
        if last is None and reading.m_per_s is None:
            return None
        self._last_speed = SpeedNote(reading.coil, reading.position_m, reading.m_per_s)
        return self._last_speed


def _pass_blind(session: CameraSession, position: StripPosition | None) -> None:
    """Strip that passes a camera without signal is never inspected."""
    is_blind = session.state.name == "no_signal"
    if is_blind and position is not None and session.heading is not None and session.counters.view_m:
        session.counters.account.advance_to(position)


def thresholds_json(decision: config.Decision) -> dict[str, Any]:
    """Thresholds, as events and state messages carry them."""
    return {"confidence": decision.confidence, "unsure": decision.unsure, "classes": dict(decision.classes)}


def _calibrated_thresholds_json(session: CameraSession) -> dict[str, Any] | None:
    calibrated = session.inspector.calibrated_thresholds
    if calibrated is None:
        return None
    return {"temperature": calibrated.temperature, "classes": dict(calibrated.classes)}


def _drift_json(session: CameraSession) -> dict[str, Any] | None:
    """None where there is no reference to compare the camera with."""
    if session.drift is None:
        return None
    since = None if session.drift_since_ns is None else stamp(session.drift_since_ns)
    return {"drifted": list(session.drift.drifted), "since": since, "figures": session.drift.figures()}


def _taught_json(session: CameraSession) -> dict[str, Any] | None:
    """The taught classes in use; None where the model's own classes name the defects."""
    taught = session.inspector.taught
    return None if taught is None else {"sha256": taught.sha256[:12], "classes": list(taught.names)}


def _domain_json(session: CameraSession) -> dict[str, Any] | None:
    """Whether the surface is like the training's; None where that is not watched."""
    watch = session.domain
    if watch is None:
        return None
    since = None if session.domain_since_ns is None else stamp(session.domain_since_ns)
    return {"answer": watch.answer, "distance": watch.median, "tiles": watch.tiles, "since": since}


def _calibration_json(session: CameraSession) -> dict[str, Any] | None:
    """Which calibrated parts are in use, and which are refused for frames of this size."""
    parts = calibration.made_px(session.camera)
    overruled = session.camera.calibration.overruled.get(session.inspector.network, ())
    if not parts and not overruled:
        return None
    refused = {misfit.part: misfit.as_json() for misfit in session.tracking.misfits}
    used = [part for part in parts if part not in refused]
    edges = {
        side: {"sight": edge.state, "px": edge.at_px, "lost_frames": edge.lost_frames}
        for side, edge in session.inspector.edges.items()
    }
    return {
        "used": used,
        "refused": list(refused.values()),
        **({"overruled": list(overruled)} if overruled else {}),
        **({"edges": edges} if edges else {}),
    }


def _log_edges(session: CameraSession) -> None:
    """Log which edges of the strip were lost since the last report, and which are seen again."""
    lost = frozenset(side for side, edge in session.inspector.edges.items() if edge.state == "lost")
    for side in sorted(lost - session.lost_edges):
        log.warning(
            "camera %s: the %s edge of the strip is lost: the fixed region is used until it is seen again",
            session.name,
            side,
        )
    for side in sorted(session.lost_edges - lost):
        log.info("camera %s: the %s edge of the strip is seen again", session.name, side)
    session.lost_edges = lost


def _width_json(session: CameraSession) -> dict[str, Any] | None:
    """The width in a state message; None before the first sample."""
    state = session.width
    figures = state.curve.figures
    if figures is None:
        return None
    return {
        "last_mm": round(figures.last, 2),
        "least_mm": round(figures.least, 2),
        "most_mm": round(figures.most, 2),
        "mean_mm": round(figures.mean, 2),
        "out_since": None if state.out_since_ns is None else stamp(state.out_since_ns),
    }
