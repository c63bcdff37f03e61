"""What the inspection loop knows of one camera: its settings, its state, and what it has counted.

A reload replaces `settings` and `tracking` as a whole and leaves everything else: counters, state and image fault
survive because no code touches them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, Self

from edge import config, event
from edge.camera.sources import registry
from edge.config import calibration
from edge.config.camera_calibration import Reference
from edge.coverage import accounting as coverage
from edge.coverage.lanes import lanes_of
from edge.coverage.runs import Run
from edge.coverage.strip_position import PositionTracker, Span, StripPosition
from edge.coverage.strip_trace import RunsNote
from edge.coverage.width_curve import WidthCurve, WidthLimits
from edge.frame import Box, Frame, Gray
from edge.host.clock import NS_PER_MS, Clock, uuid7
from edge.model.classifier import Classifier
from edge.model.surface import TrainingSurface
from edge.pipeline.camera_state import CameraState
from edge.pipeline.histogram import Counts, Histogram
from edge.vision import drift
from edge.vision.domain import DomainWatch, Suspect
from edge.vision.image_quality import ImageStats
from edge.vision.inspector import Inspector, PreparedFrame, Verdict
from edge.vision.metrology import Crosswise, Heading, Ruler
from edge.vision.strip_edges import EdgeTrack
from edge.vision.taught_classes import TaughtClasses
from edge.vision.tracker import Change, Motion, Tracker, open_and_close

STAGES: Final = ("queue", "preprocess", "inference", "decide", "total")
"""The time of an inspected frame: grab to dequeue, image check and tiles, the network, scores to events; and the total
from the grab on."""
MAX_LOSS_KINDS: Final = coverage.MAX_REASONS


class FrameInspector(Protocol):
    """What the inspection loop uses of `edge.vision.inspector.Inspector`."""

    names_known: bool

    @property
    def edges(self) -> Mapping[str, EdgeTrack]: ...
    @property
    def network(self) -> str: ...
    @property
    def calibrated_thresholds(self) -> config.CalibratedThresholds | None: ...
    @property
    def taught(self) -> TaughtClasses | None: ...
    @property
    def surface(self) -> TrainingSurface | None: ...

    def check(self, image: Gray, now_ns: int) -> PreparedFrame: ...
    def prepare(self, image: Gray, *, follow: bool) -> PreparedFrame: ...
    def stats(self, frame: PreparedFrame) -> ImageStats: ...
    def suspects(self, verdict: Verdict) -> list[Suspect]: ...
    def inspect(
        self, frame: PreparedFrame, *, max_tiles: int | None, deadline_ns: int | None, is_over: Callable[[], bool]
    ) -> Verdict: ...
    def fitted(
        self, classifier: Classifier | None = None, decision: config.Decision | None = None
    ) -> FrameInspector: ...


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How one camera is inspected. Never changed: a reload, other thresholds or another model replace it."""

    camera: config.Camera
    budget_ns: int | None
    """From grab to verdict; None for a recording, whose frames can wait."""
    inspector: FrameInspector
    ruler: Ruler | None
    heading: Heading | None
    """None where the scale or the direction is not known."""
    crosswise: Crosswise | None
    """None where the scale or the operator side is not known."""
    reference: Reference | None
    """What the camera's figures are compared with, to find drift."""

    @classmethod
    def of(cls, camera: config.Camera, classifier: Classifier, clock: Clock, *, live: bool) -> Self:
        """live: frames have a deadline.  Raises ConfigError when the camera's thresholds do not fit the model."""
        sensor_noise = registry.find(camera.source.get_secret_value()).has_sensor_noise
        ruler = None if camera.scale is None else Ruler.of(camera.scale)
        return cls(
            camera,
            int(camera.budget_ms * NS_PER_MS) if live else None,
            Inspector(camera, classifier, clock, sensor_noise=sensor_noise),
            ruler,
            Heading.of(ruler, camera.direction),
            Crosswise.of(ruler, camera.operator_side, camera.across_at_mm),
            calibration.reference(camera),
        )

    def with_model(self, classifier: Classifier) -> Self:
        """The same for another model.  Raises ConfigError when the camera's thresholds do not fit it."""
        return replace(self, inspector=self.inspector.fitted(classifier))

    def with_thresholds(self, decision: config.Decision, classifier: Classifier | None = None) -> Self:
        """The same with other thresholds, and another model if one is given.  Raises ConfigError as `with_model`."""
        camera = self.camera.model_copy(update={"decision": decision})
        return replace(self, camera=camera, inspector=self.inspector.fitted(classifier, decision))


@dataclass(slots=True)
class Counters:
    """What was counted at a camera since the start. The loop counts; other threads may read."""

    account: coverage.Coverage
    gaps: coverage.Gaps = field(default_factory=coverage.Gaps)
    losses: dict[tuple[str, str], int] = field(default_factory=dict)
    """Frames that were not inspected, by state and reason."""
    stages: dict[str, Histogram] = field(default_factory=lambda: {stage: Histogram() for stage in STAGES})
    reported_stages: dict[str, Counts] = field(default_factory=dict)
    """The stages at the last report."""
    last_verdict_ns: int | None = None
    fps: float = 0.0
    """Frames per second in the last window."""
    window_from_ns: int = 0
    delivered_before: int = 0
    """Frames up to the start of this window."""
    view_m: float = 0.0
    """Meters of strip in the last frame."""


@dataclass(slots=True)
class Tracking:
    """What the loop follows from frame to frame. It starts anew with each new settings."""

    defects: Tracker
    frame_px: tuple[int, int] | None = None
    """Width and height of the last frame."""
    misfits: tuple[calibration.Misfit, ...] = ()
    """Calibrated parts that are not valid for frames of this size."""
    refused: set[tuple[str, tuple[int, int]]] = field(default_factory=set)
    """Parts and frame sizes for which `calibration.refused` was emitted."""
    last_number: int = -1
    last_position: StripPosition | None = None
    """Where the strip was in the last frame that the tracker saw."""

    def interrupt(self) -> None:
        """The next frame does not continue the last one."""
        self.last_number, self.last_position = -1, None


@dataclass(slots=True)
class PauseState:
    """A pause of one camera.  until_ns: monotonic; None: until `Resume`."""

    since_ns: int
    until_ns: int | None
    position: StripPosition | None
    """Where the strip was when the pause started."""
    frames: int = 0


@dataclass(slots=True)
class WidthState:
    """The width of the strip at one camera.  limits: None: it is measured, never judged."""

    limits: WidthLimits | None = None
    curve: WidthCurve = field(default_factory=WidthCurve)
    out_since_ns: int | None = None
    """Wall time since when the width is out of its limits."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without signal that still lasts."""

    since_ns: int
    position: StripPosition | None
    """Where the strip was when the signal was lost."""


class CameraSession:
    """One camera, from its first frame to its removal.  Owned by the inspection loop."""

    def __init__(self, settings: SessionSettings, clock: Clock) -> None:
        self._clock = clock
        now_ns = clock.monotonic_ns()
        self.settings = settings
        self.counters = Counters(coverage.Coverage(now_ns), window_from_ns=now_ns)
        self.tracking = self._fresh_tracking()
        self.state = CameraState()
        self.state_since_ns = clock.wall_ns()
        self.fault_since_ns: int | None = None
        """When the picture went bad, while it is bad."""
        self.outage: Outage | None = None
        self.pause: PauseState | None = None
        self.drift = _drift_watch(settings)
        self.drift_since_ns: int | None = None
        """Wall time since when the camera has drifted."""
        self.domain: DomainWatch | None = None
        """Compares the surface with the training's; made with the first frame."""
        self.domain_since_ns: int | None = None
        """Wall time since when the surface is unlike the training's."""
        self.lost_edges: frozenset[str] = frozenset()
        """Strip edges that were logged as lost."""
        self.width = WidthState(_width_limits(settings))
        self.actual: dict[str, Any] | None = None
        """The format that the camera delivers."""

    @classmethod
    def of(cls, camera: config.Camera, classifier: Classifier, clock: Clock, *, live: bool) -> Self:
        """A session of a new camera.  Raises ConfigError as `SessionSettings.of`."""
        return cls(SessionSettings.of(camera, classifier, clock, live=live), clock)

    @property
    def camera(self) -> config.Camera:
        return self.settings.camera

    @property
    def name(self) -> str:
        return self.settings.camera.name

    @property
    def inspector(self) -> FrameInspector:
        return self.settings.inspector

    def _fresh_tracking(self) -> Tracking:
        camera, clock = self.settings.camera, self._clock
        return Tracking(Tracker(camera.decision, camera.tile_px, lambda: uuid7(clock.wall_ns())))

    def reconfigure(self, settings: SessionSettings) -> None:
        """Take new settings. The drift figures gathered so far stay, if they are compared with the same reference."""
        if settings.camera.strip_width != self.camera.strip_width:
            self.width = WidthState(_width_limits(settings))
        is_outside = self.domain is not None and self.domain.answer == "outside"
        if is_outside and self.domain is not None and settings.inspector.surface is self.domain.surface:
            settings.inspector.names_known = False
        self.settings = settings
        self.tracking = self._fresh_tracking()
        ours, wanted = self.drift, (settings.reference, settings.camera.drift_s)
        if ours is None or (ours.reference, ours.window_s) != wanted:
            self.drift, self.drift_since_ns = _drift_watch(settings), None

    # ---- measures ------------------------------------------------------------------------------------

    @property
    def ruler(self) -> Ruler | None:
        """None where no scale is known for frames of this size."""
        misfits = self.tracking.misfits
        return None if misfits and any(misfit.part == "scale" for misfit in misfits) else self.settings.ruler

    @property
    def heading(self) -> Heading | None:
        """None where the scale or the direction is not known."""
        return None if self.ruler is None else self.settings.heading

    def measured(self, change: Change, strip: PositionTracker) -> event.Defect:
        """The defect with its box in mm and its position on the strip, as far as they are known."""
        defect = replace(change.defect, surface=self.camera.surface)
        if self.inspector.taught is not None:
            defect = replace(defect, taught=self.inspector.taught.sha256[:12])
        if self.ruler is None:
            return self._in_lanes(defect, None, strip)
        box_mm = self.ruler.box_mm(defect.extent_px or defect.box_px)
        defect = replace(defect, across_mm=self._across_mm(box_mm))
        if self.heading is None:
            return self._in_lanes(replace(defect, box_mm=box_mm), None, strip)
        if change.span is None:
            length_mm = box_mm[3] if self.heading.direction in ("up", "down") else box_mm[2]
            defect = replace(defect, box_mm=box_mm, length_mm=round(length_mm, 1), coil=strip.coil)
            return self._in_lanes(defect, None, strip)
        span = strip.recomputed(change.span)
        coil, m = self.on_coil(span.near.position, strip)
        position_m = None if m is None else round(m, 3)
        defect = replace(defect, box_mm=box_mm, position_m=position_m, length_mm=span.length_mm, coil=coil)
        return self._in_lanes(defect, span.near.position, strip)

    def _in_lanes(self, defect: event.Defect, position: StripPosition | None, strip: PositionTracker) -> event.Defect:
        """The defect with its lanes, and where it lies on their coils.  position: of its end that passes first."""
        if not self.camera.lanes:
            return defect
        main, touched = lanes_of(self.camera.lanes, defect.across_mm)
        coils = []
        for lane in touched:
            coil, m = (strip.coil_of(lane), None) if position is None else self.on_coil(position, strip, lane)
            if coil is not None:
                coils.append(event.LaneCoil(lane, coil, None if m is None else round(m, 3)))
        return replace(defect, lane=main, lane_coils=tuple(coils))

    def _across_mm(self, box_mm: tuple[float, float, float, float]) -> tuple[float, float] | None:
        crosswise, frame_px = self.settings.crosswise, self.tracking.frame_px
        if crosswise is None or frame_px is None:
            return None
        edge = self.inspector.edges.get(crosswise.side)
        return crosswise.across_mm(box_mm, frame_px, None if edge is None or edge.state == "lost" else edge.middle_px)

    def width_across_mm(self, box_mm: tuple[float, float, float, float] | None) -> float | None:
        """The extent of a box across the strip; None where the scale or the direction is not known."""
        if box_mm is None or self.camera.direction is None:
            return None
        return box_mm[2] if self.camera.direction in ("up", "down") else box_mm[3]

    def width_mm(self, frame_px: tuple[int, int]) -> float | None:
        """The width of the strip in the last frame; None unless a scale is known and both edges are seen in it."""
        if self.ruler is None:
            return None
        edges, upright = self.inspector.edges, self.camera.direction not in ("left", "right")
        first, last = (edges.get(side) for side in (("left", "right") if upright else ("top", "bottom")))
        if first is None or last is None or first.state != "seen" or last.state != "seen":
            return None
        assert first.middle_px is not None
        assert last.middle_px is not None
        from_mm, to_mm = (
            self.ruler.across_mm(edge, frame_px, upright=upright) for edge in (first.middle_px, last.middle_px)
        )
        return abs(to_mm - from_mm)

    def on_coil(
        self, position: StripPosition, strip: PositionTracker, lane: str | None = None
    ) -> tuple[str | None, float | None]:
        """The coil at this position of this camera, and the meters from the start of the coil."""
        return strip.on_coil(position.plus(-self.camera.offset_m), lane)

    def take_runs(self, strip: PositionTracker) -> list[RunsNote]:
        """The runs that became final since the last call, by coil, in meters of the coil: of the strip and its lanes.

        Strip whose place is unknown, and that between two coils, gives no runs, but says that the camera is there.
        """
        offset_m = self.camera.offset_m
        final = [
            replace(run, from_m=run.from_m - offset_m, to_m=run.to_m - offset_m)
            for run in self.counters.account.take_runs()
        ]
        named = strip.lanes
        lanes = [None, *(lane.name for lane in self.camera.lanes if lane.name in named)]
        return [note for lane in lanes for note in self._runs_of(lane, final, strip)]

    def _runs_of(self, lane: str | None, runs: Sequence[Run], strip: PositionTracker) -> list[RunsNote]:
        found: list[tuple[str | None, list[Run]]] = []
        for run in runs:
            for coil, piece in strip.pieces(run, lane):
                if not found or found[-1][0] != coil:
                    found.append((coil, []))
                if piece is not None:
                    found[-1][1].append(piece)
        return [RunsNote(self.name, coil, tuple(pieces), lane) for coil, pieces in found]

    # ---- counts --------------------------------------------------------------------------------------

    def measure(self, frame: Frame, position: StripPosition | None) -> None:
        """Count the meters that have passed until this frame, where the direction and the scale are known."""
        if self.heading is not None:
            self.counters.view_m = self.heading.view_m(size_px(frame))
            self.counters.account.locate_frame(position)

    def miss(
        self,
        cause: coverage.Cause,
        at_ns: int,
        state: coverage.FrameState,
        reason: str = "",
        frames: int = 1,
        position: StripPosition | None = None,
    ) -> None:
        """Count frames that were not inspected.  position: where the strip was."""
        counters = self.counters
        if position is not None and self.heading is not None:
            counters.account.lose(cause, position, counters.view_m)
        if self.pause is not None and cause == "paused":
            counters.account.count_paused()
            self.pause.frames += frames  # one gap, emitted at the end of the pause
        else:
            counters.account.count(state, frames)
            counters.gaps.miss(cause, at_ns, state, frames, reason if state == "bad_image" else "", position)
        key = (state, reason or state)
        if key not in counters.losses and len(counters.losses) >= MAX_LOSS_KINDS:
            key = (state, "other")
        counters.losses[key] = counters.losses.get(key, 0) + frames

    def count_verdict(self, verdict: Verdict, grabbed_ns: int, position: StripPosition | None) -> None:
        """Count an inspected frame, its tiles, and the meters that it shows."""
        account = self.counters.account
        account.count(verdict.state)
        account.count_tiles(verdict.tiles, verdict.skipped, verdict.outside)
        if verdict.skipped:
            self.counters.gaps.skip(grabbed_ns, verdict.skipped, position)
        if position is not None and self.heading is not None and verdict.state != "bad_image":
            account.add_inspected(position, self.counters.view_m, whole=not verdict.skipped)

    # ---- tracks --------------------------------------------------------------------------------------

    def track(self, frame: Frame, verdict: Verdict, position: StripPosition | None, now_ns: int) -> list[Change]:
        """Follow the defects of an inspected frame.  Returns the defects that opened or closed with it."""
        frame_px, heading, tracking = size_px(frame), self.heading, self.tracking

        def span(box: Box) -> Span | None:
            return None if heading is None or position is None else heading.span(box, frame_px, position)

        if self.camera.mode == "parts":
            return open_and_close(verdict.detections, lambda: uuid7(self._clock.wall_ns()), span)
        elapsed = frame.number - tracking.last_number if tracking.last_number >= 0 else 1
        tracking.last_number = frame.number
        motion = self._motion(position, frame_px, heading)
        return tracking.defects.step(verdict.detections, now_ns, elapsed, motion, span)

    def _motion(
        self, position: StripPosition | None, frame_px: tuple[int, int], heading: Heading | None
    ) -> Motion | None:
        """How far the picture has moved since the last frame that the tracker saw; None where that is not known."""
        before, self.tracking.last_position = self.tracking.last_position, position
        if heading is None or position is None:
            return None
        run_m = position.since(before)
        return None if run_m is None else Motion(heading.drift_px(run_m), frame_px)


def _width_limits(settings: SessionSettings) -> WidthLimits | None:
    wanted = settings.camera.strip_width
    return None if wanted is None else WidthLimits(wanted.nominal_mm, wanted.tolerance_mm)


def size_px(frame: Frame) -> tuple[int, int]:
    """Width and height."""
    return int(frame.pixels.shape[1]), int(frame.pixels.shape[0])


def _drift_watch(settings: SessionSettings) -> drift.DriftDetector | None:
    return None if settings.reference is None else drift.DriftDetector(settings.reference, settings.camera.drift_s)
