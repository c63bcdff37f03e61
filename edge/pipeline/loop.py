"""The line: one thread that takes frames from the cameras, has them judged, and hands events on.

It owns the network's session, the tracks and the accounts of all cameras, so nothing on the way of a frame is
locked. It waits for cameras only; disk and network are the recorder's and the publisher's business.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from edge import config, event
from edge.camera.sources.device import is_live
from edge.camera.supervisor import CameraEnded, CameraLost, CameraOpened, CameraRemoved, FramesLost, Notice
from edge.config import calibration
from edge.coverage import accounting as coverage
from edge.coverage.strip_position import (
    Coil,
    CoilNamed,
    PositionTracker,
    Span,
    Speed,
    StripPosition,
    StripReading,
    StripUpdate,
)
from edge.errors import CommandError, ConfigError
from edge.frame import Box, Frame, Gray
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock, stamp, uuid7
from edge.host.redact import redact
from edge.model.classifier import Classifier
from edge.pipeline.histogram import Counts, Histogram, Summary
from edge.pipeline.scheduler import Head, Scheduler
from edge.pipeline.shadow import Shadow
from edge.vision import drift
from edge.vision.decision import NO_DETECTIONS, Detections
from edge.vision.image_quality import ImageCheck
from edge.vision.inspector import Inspector, Verdict
from edge.vision.metrology import Heading, Ruler
from edge.vision.tracker import Change, Motion, Tracker, open_and_close

log = logging.getLogger(__name__)

STAGES = ("queue", "preprocess", "inference", "decide", "total")
"""Of an inspected frame: grab to dequeue, picture to tiles, the network, scores to events, and all from the grab."""
IDLE_S = 0.2
"""Longest wait for a frame: reports and stops are noticed within it."""
FROZEN = "frozen"
"""The one reason for bad pictures that is a state of its own."""
MAX_MISFITS = 16
"""Parts and frame sizes that are told of one camera, until it is looked at otherwise."""
MAX_ORDERS = 8
"""Commands that may wait for the line."""


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Order: a copy of the next picture that this camera gives."""

    camera: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Order: do not inspect this camera.  for_s: until then; None: until `Resume` or the next start."""

    camera: str
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Order: inspect this camera again."""

    camera: str


@dataclass(frozen=True, slots=True)
class SetThresholds:
    """Order: other thresholds from the next frame on."""

    camera: str
    decision: config.Decision


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Order: other cameras, other thresholds, another network: all of it from the next frame on, or nothing."""

    sessions: Mapping[str, CameraSession] = field(default_factory=dict)
    """New ones, and those that take the place of one of the same name: it keeps its account."""
    thresholds: Mapping[str, config.Decision] = field(default_factory=dict)
    names: frozenset[str] | None = None
    """All cameras that there are to be; None: as before.  One that is not among them goes with its last frame."""
    report_s: float | None = None
    classifier: Classifier | None = None
    former: Classifier | None = None
    """With a network on trial: what to go back to, at once, when it fails."""
    on_failure: Callable[[str], None] | None = None
    """Called by the line when it went back, with the reason."""
    shadow: tuple[Shadow | None] | None = None
    """The model that is to look on, or that none is to; None: as before."""
    then: Callable[[], None] = lambda: None
    """Called by the line between the last event of before and the first after the change."""


@dataclass(frozen=True, slots=True)
class PromoteModel:
    """Order: the trial of the network is over."""


@dataclass(frozen=True, slots=True)
class CoilOrder:
    """Order: a coil begins, or the one that runs is over; show: say how it stands."""

    action: Literal["show", "start", "stop"]
    name: str | None = None


Order = TakeSnapshot | Pause | Resume | SetThresholds | Reconfigure | PromoteModel | CoilOrder


class PendingOrder:
    """An order on its way, and its answer. Exactly one side gets to decide: the line carries it out, or it is void."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._decided = threading.Lock()
        self._answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def claim(self) -> bool:
        """Take the right to carry it out, or to call it off; False if the other side was first."""
        return self._decided.acquire(blocking=False)

    def answer(self, said: Any) -> None:
        self._answer.put(said)

    def wait(self, timeout_s: float) -> Any:
        """The answer.  Raises queue.Empty."""
        return self._answer.get(timeout=timeout_s)


class OrderQueue:
    """Orders to the line from other threads: a few at a time, carried out between two frames."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[PendingOrder] = queue.Queue(MAX_ORDERS)

    def ask(self, order: Order, timeout_s: float) -> Any:
        """Blocks until the line has answered.  Raises CommandError when it did not in time: nothing was changed."""
        asked = PendingOrder(order)
        try:
            self._waiting.put_nowait(asked)
        except queue.Full:
            raise CommandError("busy", "too many orders wait for the line") from None
        try:
            said = asked.wait(timeout_s)
        except queue.Empty:
            if asked.claim():
                who = f"camera {order.camera}" if hasattr(order, "camera") else "the line"
                words = "gives no picture" if isinstance(order, TakeSnapshot) else "is not reached"
                raise CommandError("timeout", f"{who} {words} within {timeout_s:g} s") from None
            try:
                said = asked.wait(timeout_s)  # it is at it
            except queue.Empty:
                raise CommandError("failed", "the line is at it and does not come to an end") from None
        if isinstance(said, CommandError):
            raise said
        return said

    def take(self) -> PendingOrder | None:
        if self._waiting.empty():  # nearly always, and cheaper than the exception
            return None
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None


class Cameras(Protocol):
    """Where frames come from: `edge.camera.supervisor.Supervisor`, or a fake."""

    def wait(self, timeout_s: float) -> bool: ...
    def heads(self) -> tuple[tuple[str, int], ...]: ...
    def pop(self, name: str) -> Frame: ...
    def release(self, frame: Frame) -> None: ...
    def take_notices(self) -> tuple[Notice, ...]: ...


@dataclass(slots=True)
class _Paused:
    """A pause of one camera.  until_ns: monotonic, or for an unknown time."""

    since_ns: int
    until_ns: int | None
    mark: StripPosition | None
    """Where the strip stood at its begin."""
    frames: int = 0


class Sink(Protocol):
    """Where events go: `edge.delivery.recorder.Recorder`, or a fake."""

    def put(self, event: event.Event, picture: Picture | None = None) -> None: ...


Picture = Callable[[float], event.Evidence | None]
"""Asked by whoever stores an event, with the seconds there are: what it may say of its picture."""


class EvidenceSelector(Protocol):
    """Keeps pictures: `edge.evidence.writer.Witness`, or a fake.  Copies what it wants of a frame before it returns."""

    def select(
        self, fact: event.Event, camera: config.Camera, frame: Frame | None, detections: Detections
    ) -> Picture | None: ...
    def sample(self, frame: Frame, verdict: Verdict, boxes: Callable[[Gray], Sequence[Box]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Report:
    """One camera's last window, for the period line."""

    camera: str
    state: str
    fps: float
    latency: Summary
    """From grab to decision."""
    stages: dict[str, Summary]
    coverage: dict[str, Any]
    open_defects: int


class CameraSession:
    """Everything the line knows of one camera."""

    def __init__(self, camera: config.Camera, classifier: Classifier, clock: Clock, *, live: bool) -> None:
        """live: frames may be late.  Raises ConfigError when the camera's thresholds do not fit the model."""
        self.camera = camera
        self.live = live
        self.budget_ns = int(camera.budget_ms * NS_PER_MS)
        url = camera.source.get_secret_value()
        sensor_noise = is_live(url) and not url.startswith("strip:")
        self.inspector = Inspector(camera, classifier, clock, sensor_noise=sensor_noise)
        self.tracks = Tracker(camera.decision, camera.tile_px, lambda: uuid7(clock.wall_ns()))
        self._ruler = None if camera.scale is None else Ruler.of(camera.scale)
        self.frame_px: tuple[int, int] | None = None
        """Width and height of the last frame."""
        self.lost_edges: frozenset[str] = frozenset()
        """Of a region that follows the strip: told as lost."""
        self.misfits: tuple[calibration.Misfit, ...] = ()
        """Calibrated parts that do not hold for such frames."""
        self.told: set[tuple[str, tuple[int, int]]] = set()
        """Parts and sizes of which that was said."""
        reference = calibration.reference(camera)
        self.drift = None if reference is None else drift.DriftDetector(reference, camera.drift_s)
        self.drift_since_ns: int | None = None
        """Wall time since when the camera does not look as calibrated."""
        self._heading = Heading.of(self._ruler, camera.direction)
        self.last_mark: StripPosition | None = None
        """Where the strip stood in the last frame that the tracks were shown."""
        self.account = coverage.Coverage(clock.monotonic_ns())
        self.gaps = coverage.Gaps()
        self.losses: dict[tuple[str, str], int] = {}
        """Frames since the start that nobody looked at, by state and reason."""
        self.stages: dict[str, Histogram] = {stage: Histogram() for stage in STAGES}
        """Since the start; other threads may read them."""
        self.reported: dict[str, Counts] = {}
        """The same, at the last report."""
        self.last_frame_ns: int | None = None
        self.last_verdict_ns: int | None = None
        self.last_number = -1
        self.bad_since_ns: int | None = None
        self.bad_reason = ""
        """When the bad time of the picture began, while it lasts, and why."""
        self.lost_ns: int | None = None
        self.lost_mark: StripPosition | None = None
        self.paused: _Paused | None = None
        self.wanted: list[PendingOrder] = []
        """Who waits for this camera's next picture."""
        self.state, self.reason = "no_signal", "opening"
        self.since_ns = clock.wall_ns()
        self.given: dict[str, Any] | None = None
        self.fps, self.view_m = 0.0, 0.0
        """view_m: metres of strip in the last frame."""
        self.window_from_ns = clock.monotonic_ns()
        self.delivered_before = 0

    def reconfigure(self, other: CameraSession) -> None:
        """Be set as the other is; what was counted and how the camera stands goes on."""
        self.camera, self.live, self.budget_ns = other.camera, other.live, other.budget_ns
        self.inspector, self.tracks = other.inspector, other.tracks
        self._ruler, self.frame_px, self.misfits, self.told = other._ruler, None, (), set()
        self._heading = other._heading
        self.last_number, self.last_mark = -1, None
        ours, new = self.drift, other.drift
        if ours is None or new is None or (ours.reference, ours.window_s) != (new.reference, new.window_s):
            self.drift, self.drift_since_ns = new, None

    @property
    def ruler(self) -> Ruler | None:
        """None where no scale is known for frames of this size."""
        return None if any(misfit.part == "scale" for misfit in self.misfits) else self._ruler

    @property
    def heading(self) -> Heading | None:
        """None where that or the direction is not known."""
        return None if self.ruler is None else self._heading

    def measured(self, change: Change, travel: PositionTracker) -> event.Defect:
        """The defect with its box in mm and its place on the strip, as far as they are known."""
        defect = change.defect
        if self.ruler is None:
            return defect
        box_mm = self.ruler.box_mm(defect.extent_px or defect.box_px)
        if self.heading is None:
            return replace(defect, box_mm=box_mm)
        if change.span is None:
            length_mm = box_mm[3] if self.heading.direction in ("up", "down") else box_mm[2]
            return replace(defect, box_mm=box_mm, length_mm=round(length_mm, 1), coil=travel.coil)
        span = travel.recomputed(change.span)
        coil, m = self.place(span.near.position, travel)
        position_m = None if m is None else round(m, 3)
        return replace(defect, box_mm=box_mm, position_m=position_m, length_mm=span.length_mm, coil=coil)

    def place(self, mark: StripPosition, travel: PositionTracker) -> tuple[str | None, float | None]:
        """The coil that lies at a mark of this camera, and metres from its begin."""
        return travel.on_coil(mark.plus(-self.camera.offset_m))

    def motion(self, mark: StripPosition | None, frame_px: tuple[int, int]) -> Motion | None:
        """How the picture has moved since the last one that the tracks were shown."""
        before, self.last_mark = self.last_mark, mark
        if self.heading is None or mark is None:
            return None
        run_m = mark.since(before)
        return None if run_m is None else Motion(self.heading.drift_px(run_m), frame_px)

    def span(self, box: Box, frame_px: tuple[int, int], mark: StripPosition | None) -> Span | None:
        """What a box takes up of the strip; None where that is not known."""
        return None if self.heading is None or mark is None else self.heading.span(box, frame_px, mark)

    def miss(
        self,
        cause: coverage.Cause,
        at_ns: int,
        state: coverage.FrameState,
        reason: str = "",
        frames: int = 1,
        mark: StripPosition | None = None,
    ) -> None:
        """Book frames that nobody looked at.  mark: where the strip stood."""
        if self.paused is not None and cause == "paused":
            self.account.count_paused()
            self.paused.frames += frames  # one gap, told at the end of the pause
        else:
            self.account.count(state, frames)
            self.gaps.miss(cause, at_ns, state, frames, reason if state == "bad_image" else "", mark)
        key = (state, reason or state)
        if key not in self.losses and len(self.losses) >= coverage.MAX_REASONS:
            key = (state, "other")
        self.losses[key] = self.losses.get(key, 0) + frames


class InspectionLoop:
    """Runs the thread `line`. `start`, then `stop` once the cameras have been stopped: what they left is drained."""

    def __init__(
        self,
        sessions: Sequence[CameraSession],
        cameras: Cameras,
        sink: Sink,
        clock: Clock,
        *,
        retain_state: Callable[[str, dict[str, Any]], object],
        retain_coverage: Callable[[str, dict[str, Any]], object],
        on_report: Callable[[Sequence[Report]], None],
        report_s: float,
        control: OrderQueue | None = None,
        on_removed: Callable[[str], None] = lambda _camera: None,
        witness: EvidenceSelector | None = None,
        shadow: Shadow | None = None,
        travel: PositionTracker | None = None,
        news: Callable[[], Iterable[StripUpdate]] = tuple,
        why_stale: Callable[[], str] = str,
    ) -> None:
        """retain_*: called with the camera's name and the latest retained message.  on_report: each report_s.

        on_removed: called after the last message about a camera.  news: what was told of the strip since the last
        call.  why_stale: what else is known when it tells no speed.
        """
        self._sessions = {session.camera.name: session for session in sessions}
        self._cameras = cameras
        self._sink = sink
        self._clock = clock
        self._retain_state = retain_state
        self._retain_coverage = retain_coverage
        self._on_report = on_report
        self._control = control or OrderQueue()
        self._on_removed = on_removed
        self._witness = witness
        self._travel = travel or PositionTracker(config.Travel(), clock.monotonic_ns())
        self._news = news
        self._why_stale = why_stale
        self._stale_since_ns = 0
        self._report_ns = int(report_s * NS_PER_S)
        self._next_report_ns = clock.monotonic_ns() + self._report_ns
        self._stopping = threading.Event()
        self._scheduler = Scheduler()
        for session in sessions:
            self._schedule(session)
        self._names = frozenset(self._sessions)
        self._former: Classifier | None = None
        self._on_failure: Callable[[str], None] = lambda _reason: None
        self._shadow = shadow
        self._classifier: Classifier | None = None
        """Of the last order that brought one."""
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""
        self._reading = self._travel.reading(clock.monotonic_ns())
        self.beat_ns = clock.monotonic_ns()
        """When the loop last came round: the watchdog looks at it."""

    def _schedule(self, session: CameraSession) -> None:
        camera = session.camera
        self._scheduler.add(
            camera.name, budget_ns=session.budget_ns, live=session.live, tile_revisit_frames=camera.tile_revisit_frames
        )

    @property
    def sessions(self) -> tuple[CameraSession, ...]:
        """Those of this moment; any thread may read what they count."""
        return tuple(self._sessions.values())

    @property
    def reading(self) -> StripReading:
        """How the strip runs, of the last report; any thread may ask."""
        return self._reading

    @property
    def shadow(self) -> Shadow | None:
        return self._shadow

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Drain what the stopped cameras left, close all tracks, report.  False when it takes too long."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            for session in self._sessions.values():
                self._tell_state(session)
            while not (self._stopping.is_set() and not self._cameras.heads()):
                self.turn()
            self._finish()
        except BaseException as error:  # the top of a thread: the daemon must see it and end
            log.exception("the line broke")
            self.failure = error

    def turn(self) -> None:
        """One round: orders, notices, one frame, and the report when it is due."""
        self.beat_ns = self._clock.monotonic_ns()
        self._hear()
        self._obey()
        if self._cameras.wait(0.0 if self._stopping.is_set() else IDLE_S):
            for notice in self._cameras.take_notices():
                self._note(notice)
            heads = self._cameras.heads()
            name = self._scheduler.next(heads, self._clock.monotonic_ns())
            if name is not None:
                self._take(self._sessions[name], [head for head in heads if head[0] != name])
        if self._clock.monotonic_ns() >= self._next_report_ns:
            self._report()

    def _take(self, session: CameraSession, others: Sequence[Head]) -> None:
        """One frame from the ring to its state.  others: the frames of other cameras that wait."""
        name = session.camera.name
        frame = self._cameras.pop(name)
        try:
            dequeued_ns = self._clock.monotonic_ns()
            session.last_frame_ns = frame.grabbed_ns
            self._hear()  # a frame is never placed by what was known before it was grabbed
            mark = self._travel.at(frame.grabbed_ns)
            self._fit(session, frame)
            self._measure(session, frame, mark)
            self._show(session, frame)
            if session.paused is not None:
                session.miss("paused", frame.grabbed_ns, "dropped", "paused", mark=mark)
                return
            look = session.inspector.look(frame.pixels, dequeued_ns)
            self._heed(session, look, frame)
            if look.fault is not None:
                # Says nothing of the surface: the tracks wait.
                session.miss("bad_image", frame.grabbed_ns, "bad_image", look.fault, mark=mark)
                return
            looked_ns = self._clock.monotonic_ns()
            count = session.inspector.tiles(frame.pixels)
            most = self._scheduler.plan(name, frame.number, frame.grabbed_ns, count, others, looked_ns)
            if most == 0:
                session.miss("overload", frame.grabbed_ns, "late", mark=mark)
                self._scheduler.missed(name)
                return
            verdict = self._inspect(session, frame, most)
            self._settle(session, frame, verdict, mark, dequeued_ns, looked_ns)
            self._compare(session, frame, verdict)
            self._scheduler.done(name, verdict.tiles, verdict.inference_ns, self._clock.monotonic_ns() - dequeued_ns)
            if self._shadow is not None:
                spare_ns = 0 if self._cameras.heads() else self._scheduler.spare_ns()
                self._shadow.watch(name, frame.pixels, verdict, spare_ns)
        finally:
            self._cameras.release(frame)

    def _fit(self, session: CameraSession, frame: Frame) -> None:
        """Where frames begin to have another size: tell which calibrated parts do not hold for it."""
        height, width = frame.pixels.shape
        if session.frame_px == (width, height):
            return
        session.frame_px = (width, height)
        session.misfits = calibration.misfits(session.camera, session.frame_px)
        fresh = [misfit for misfit in session.misfits if (misfit.part, misfit.frame_px) not in session.told]
        if len(session.told) + len(fresh) > MAX_MISFITS:
            return  # the size comes and goes: the state topic says how it stands
        for misfit in fresh:
            session.told.add((misfit.part, misfit.frame_px))
            log.warning("camera %s: %s", session.camera.name, misfit)
            self._tell(session, "calibration.refused", frame=frame, detail=misfit.as_json())
        if fresh:
            self._tell_state(session)

    def _inspect(self, session: CameraSession, frame: Frame, most: int) -> Verdict:
        """The verdict.  Where a network on trial fails, the former one gives it, and goes on."""
        deadline_ns = frame.grabbed_ns + session.budget_ns if session.live else None
        try:
            verdict = session.inspector.inspect(frame.pixels, looked=True, most=most, deadline_ns=deadline_ns)
            if self._former is None or not verdict.broken:
                return verdict
            failure = f"the scores of {verdict.broken} tiles are no numbers"
        except Exception as error:  # whatever a network on trial does wrong, it costs no frame
            if self._former is None:
                raise
            failure = str(error) or type(error).__name__
        self._fall_back(failure)
        return session.inspector.inspect(frame.pixels, looked=True, most=most, deadline_ns=deadline_ns)

    def _fall_back(self, reason: str) -> None:
        former, self._former = self._former, None
        self._classifier = former
        for session in self._sessions.values():
            session.inspector = session.inspector.fitted(former)
        log.error("the model on trial failed, the former one goes on: %s", reason)
        self._on_failure(reason)

    def _measure(self, session: CameraSession, frame: Frame, mark: StripPosition | None) -> None:
        """Book the metres that have run by until this frame."""
        if session.heading is not None and self._travel.is_on:
            session.view_m = session.heading.view_m(_size_px(frame))
            session.account.locate_frame(mark)

    def _settle(
        self,
        session: CameraSession,
        frame: Frame,
        verdict: Verdict,
        mark: StripPosition | None,
        dequeued_ns: int,
        looked_ns: int,
    ) -> None:
        """Book the verdict and tell what it changed."""
        now_ns = self._clock.monotonic_ns()
        session.account.count(verdict.state)
        session.account.count_tiles(verdict.tiles, verdict.skipped, verdict.outside)
        if verdict.skipped:
            session.gaps.skip(frame.grabbed_ns, verdict.skipped, mark)
        if mark is not None and session.heading is not None and verdict.state != "bad_image":
            session.account.add_inspected(mark, session.view_m, whole=not verdict.skipped)
        changes = self._changes(session, frame, verdict, mark, now_ns)
        decided_ns = self._clock.monotonic_ns()
        session.last_verdict_ns = decided_ns
        spent_ns = (
            dequeued_ns - frame.grabbed_ns,
            looked_ns - dequeued_ns + verdict.preprocess_ns,
            verdict.inference_ns,
            verdict.decide_ns + decided_ns - now_ns,
            decided_ns - frame.grabbed_ns,
        )
        for histogram, ns in zip(session.stages.values(), spent_ns, strict=True):
            histogram.add(ns)
        latency = event.Latency(*(ns / NS_PER_MS for ns in spent_ns))
        for change in changes:
            defect = session.measured(change, self._travel)
            self._tell(session, change.type, defect=defect, frame=frame, detections=verdict.detections, latency=latency)
        if self._witness is not None:
            self._witness.sample(frame, verdict, session.inspector.boxes)

    def _compare(self, session: CameraSession, frame: Frame, verdict: Verdict) -> None:
        """Hold an inspected frame against the calibration, now and then, and tell when the camera has drifted."""
        watch, now_ns = session.drift, self._clock.monotonic_ns()
        if watch is None or not watch.due(now_ns) or any(misfit.part == "reference" for misfit in session.misfits):
            return
        sight, distance, unsure = session.inspector.sight(frame.pixels), None, None
        if not verdict.skipped:  # what was looked at first is no fair sample
            distance = watch.distance(verdict.features, session.inspector.network)
            unsure = bool(verdict.detections.unsure_boxes)
        change = watch.step(drift.Figures(sight.brightness, sight.sharpness, distance, unsure), now_ns)
        if change is None:
            return
        wall_ns = self._clock.wall_ns()
        if change.started:
            session.drift_since_ns = session.drift_since_ns or wall_ns
            figures = {name: told for name, told in watch.figures().items() if told["drifted"]}
            log.warning("camera %s no longer looks as calibrated: %s", session.camera.name, ", ".join(figures))
            self._enter_running(session)
            detail = {"began": list(change.started), "window_s": watch.window_s, "figures": figures}
            self._tell(session, "camera.drifted", frame=frame, detail=detail)
        elif session.drift_since_ns is not None:
            self._settled(session, session.drift_since_ns, {"recalibrated": False})

    def _settled(self, session: CameraSession, since_ns: int, detail: dict[str, Any]) -> None:
        """It looks as calibrated again, or will be compared with something else from now on."""
        session.drift_since_ns = None
        log.info("camera %s looks as calibrated again", session.camera.name)
        if session.state == "running":
            self._enter_running(session)
        seconds = round((self._clock.wall_ns() - since_ns) / NS_PER_S, 3)
        self._tell(session, "camera.drift_cleared", detail={"seconds": seconds, **detail})

    def _changes(
        self, session: CameraSession, frame: Frame, verdict: Verdict, mark: StripPosition | None, now_ns: int
    ) -> list[Change]:
        size = _size_px(frame)

        def place(box: Box) -> Span | None:
            return session.span(box, size, mark)

        if session.camera.mode == "parts":
            return open_and_close(verdict.detections, lambda: uuid7(self._clock.wall_ns()), place)
        elapsed = frame.number - session.last_number if session.last_number >= 0 else 1
        session.last_number = frame.number
        return session.tracks.step(verdict.detections, now_ns, elapsed, session.motion(mark, size), place)

    # ---- how the strip runs --------------------------------------------------------------------------

    def _hear(self) -> None:
        """Take in what was told of speed and coil, and tell when the speed is no longer known."""
        for told in self._news():
            match told:
                case Speed(at_ns=at_ns, m_per_s=m_per_s):
                    self._travel.sample(at_ns, m_per_s)
                case CoilNamed():
                    over = self._travel.name_coil(told)
                    if over is not None:
                        self._tell_coil(over, "topic")
        now_ns = self._clock.monotonic_ns()
        match self._travel.check_stale(now_ns):
            case "stale":
                self._stale_since_ns = now_ns - self._travel.silent_ns(now_ns)
                silent_s = round(self._travel.silent_ns(now_ns) / NS_PER_S, 3)
                detail = {"silent_s": silent_s, "reason": self._why_stale() or None}
                log.warning("no speed of the strip for %.1f s: positions are unknown. %s", silent_s, self._why_stale())
                self._tell_node("speed.stale", detail)
            case "restored":
                seconds = round((now_ns - self._stale_since_ns) / NS_PER_S, 3)
                log.info("the speed of the strip is known again; positions begin with the next coil")
                self._tell_node("speed.restored", {"seconds": seconds})

    def _tell_coil(self, over: Coil, by: str) -> None:
        """What ended and what began."""
        if over.name is not None:
            length_m = None if over.length_m is None else round(over.length_m, 3)
            self._tell_node("coil.ended", {"coil": over.name, "length_m": length_m, "by": by})
        if self._travel.coil is not None:
            reading = self._travel.reading(self._clock.monotonic_ns())
            known = reading.position_m is not None
            self._tell_node("coil.started", {"coil": self._travel.coil, "position_known": known, "by": by})

    def _tell_node(self, kind: event.EventType, detail: dict[str, Any]) -> None:
        self._sink.put(event.Event.now(self._clock, event.NODE_CAMERA, kind, detail))

    def _order_coil(self, order: CoilOrder) -> dict[str, Any]:
        now_ns = self._clock.monotonic_ns()
        if order.action == "start" and order.name is not None:
            self._tell_coil(self._travel.start_coil(order.name, now_ns), "command")
        elif order.action == "stop":
            self._tell_coil(self._travel.end_coil(now_ns), "command")
        self._reading = self._travel.reading(now_ns)
        return self._reading.as_json()

    # ---- what is ordered -----------------------------------------------------------------------------

    def _obey(self) -> None:
        """Carry out what was ordered, and end the pauses whose time is over."""
        while (asked := self._control.take()) is not None:
            if isinstance(asked.order, Reconfigure | PromoteModel | CoilOrder):
                if asked.claim():
                    asked.answer(self._carry_out_for_all(asked.order))
                continue
            session = self._sessions.get(asked.order.camera)
            if session is None:
                asked.answer(CommandError("unknown_camera", f"no camera {asked.order.camera!r} is inspected here"))
            elif isinstance(asked.order, TakeSnapshot):
                session.wanted = [*session.wanted[-MAX_ORDERS:], asked]
            elif asked.claim():
                try:
                    asked.answer(self._carry_out(session, asked.order))
                except CommandError as error:
                    asked.answer(error)
        for session in self._sessions.values():
            pause = session.paused
            if pause is not None and pause.until_ns is not None and self._clock.monotonic_ns() >= pause.until_ns:
                self._resume(session)

    def _carry_out_for_all(self, order: Reconfigure | PromoteModel | CoilOrder) -> CommandError | dict[str, Any] | None:
        match order:
            case CoilOrder():
                return self._order_coil(order)
            case PromoteModel():
                self._former = None
            case Reconfigure():
                try:
                    self._refit(order)
                except ConfigError as error:
                    return CommandError("bad_value", str(error.problems[0]))
        return None

    def _refit(self, order: Reconfigure) -> None:
        """All or nothing.  Raises ConfigError when thresholds do not fit the network: then it was nothing."""
        inspectors = {
            name: session.inspector.fitted(order.classifier, order.thresholds.get(name))
            for name, session in self._sessions.items()
            if name not in order.sessions and (order.classifier is not None or name in order.thresholds)
        }
        for fresh in order.sessions.values():
            if self._classifier is not None:  # it may be another one by now than when the session was made
                fresh.inspector = fresh.inspector.fitted(self._classifier)
        for name in order.sessions:
            if name in self._sessions:
                self._close_tracks(self._sessions[name])
        order.then()
        self._adopt(order)
        for name, inspector in inspectors.items():
            self._sessions[name].inspector = inspector
        for name, decision in order.thresholds.items():
            session = self._sessions[name]
            session.camera = session.camera.model_copy(update={"decision": decision})
            self._tell(session, "thresholds.changed", detail=_thresholds(decision))
            self._tell_state(session)
        for name, fresh in order.sessions.items():
            self._place(name, fresh)

    def _adopt(self, order: Reconfigure) -> None:
        """What holds for all cameras."""
        self._names = self._names if order.names is None else order.names
        if order.shadow is not None:
            (self._shadow,) = order.shadow
        if order.report_s is not None:
            self._report_ns = int(order.report_s * NS_PER_S)
        if order.classifier is not None:
            self._classifier = order.classifier
            self._former, self._on_failure = order.former, order.on_failure or (lambda _reason: None)

    def _place(self, name: str, fresh: CameraSession) -> None:
        """A new camera, or one that is looked at otherwise."""
        known = self._sessions.get(name)
        if known is None:
            self._sessions = {**self._sessions, name: fresh}  # other threads read them
        else:
            since_ns = known.drift_since_ns
            known.reconfigure(fresh)
            self._forget_fault(known)
            if since_ns is not None and known.drift_since_ns is None:
                self._settled(known, since_ns, {"recalibrated": True})
        self._schedule(known or fresh)
        self._tell_state(known or fresh)

    def _carry_out(self, session: CameraSession, order: Order) -> dict[str, Any]:
        now_ns = self._clock.monotonic_ns()
        match order:
            case Pause(for_s=for_s):
                until_ns = None if for_s is None else now_ns + int(for_s * NS_PER_S)
                if session.paused is not None:
                    session.paused.until_ns = until_ns
                else:
                    session.paused = _Paused(now_ns, until_ns, self._travel.at(now_ns))
                    session.account.pause(on=True, now_ns=now_ns)
                    self._close_tracks(session)
                    self._tell(session, "camera.paused", detail={"for_s": for_s})
                    self._enter(session, session.state, session.reason)
            case Resume():
                self._resume(session)
            case SetThresholds(decision=decision):
                try:
                    session.inspector.judge_by(decision)
                except ConfigError as error:
                    raise CommandError("bad_value", str(error.problems[0])) from None
                session.camera = session.camera.model_copy(update={"decision": decision})
                self._tell(session, "thresholds.changed", detail=_thresholds(decision))
                self._tell_state(session)
        return {"camera": session.camera.name, "state": session.state, "paused": session.paused is not None}

    def _resume(self, session: CameraSession) -> None:
        pause, session.paused = session.paused, None
        if pause is None:
            return
        now_ns = self._clock.monotonic_ns()
        session.account.pause(on=False, now_ns=now_ns)
        session.last_number, session.last_mark = -1, None
        seconds = round((now_ns - pause.since_ns) / NS_PER_S, 3)
        self._tell(session, "camera.resumed", detail={"seconds": seconds})
        frames: dict[coverage.FrameState, int] = {"dropped": pause.frames}
        marks = pause.mark, self._travel.at(now_ns)
        self._tell_gap(session, coverage.Gap("paused", pause.since_ns, now_ns, frames, 0, 0, {}, *marks))
        if session.state == "paused":
            self._enter_running(session)

    @staticmethod
    def _show(session: CameraSession, frame: Frame) -> None:
        if session.wanted:
            picture: Gray = frame.pixels.copy()  # the ring's memory is not ours after this turn
            for asked in session.wanted:
                if asked.claim():
                    asked.answer((picture, frame.number, frame.label))
            session.wanted = []

    # ---- what cameras do -----------------------------------------------------------------------------

    def _note(self, notice: Notice) -> None:
        session = self._sessions[notice.camera]
        match notice:
            case CameraRemoved():
                self._remove(session)
            case CameraOpened():
                self._opened(session, notice)
            case CameraLost(reason=reason):
                self._gone(session, notice.monotonic_ns, reason)
                if session.lost_ns is None:
                    session.lost_ns = notice.monotonic_ns
                    session.lost_mark = self._travel.at(notice.monotonic_ns)
                    self._tell(session, "camera.lost", detail={"reason": reason})
            case CameraEnded(frames=frames):
                self._gone(session, notice.monotonic_ns, "end of recording")
                self._tell(session, "camera.ended", detail={"frames": frames})
            case FramesLost(count=count, reason=reason):
                now_ns = self._clock.monotonic_ns()
                mark = self._travel.at(now_ns)
                if reason == "unreadable":
                    session.miss("bad_image", now_ns, "bad_image", reason, count, mark)
                else:
                    session.miss("overload", now_ns, "dropped", reason, count, mark)
                    if reason == "overflow":
                        self._scheduler.missed(notice.camera, count)

    def _remove(self, session: CameraSession) -> None:
        """The last of its frames was inspected: close its account."""
        self._close_tracks(session)
        self._tell_silence(session, self._clock.monotonic_ns())
        self._resume(session)
        self._enter(session, "no_signal", "removed")
        self._report([session])
        if session.camera.name in self._names:
            return  # it is wanted again already
        self._sessions = {name: kept for name, kept in self._sessions.items() if kept is not session}
        self._scheduler.remove(session.camera.name)
        self._on_removed(session.camera.name)

    def _forget_fault(self, session: CameraSession) -> None:
        """A camera that is looked at otherwise: whether its picture is bad will be found anew."""
        if session.bad_since_ns is not None:
            seconds = round((self._clock.monotonic_ns() - session.bad_since_ns) / NS_PER_S, 3)
            session.bad_since_ns = None
            if session.state in ("bad_image", "frozen"):
                self._enter_running(session)
            self._tell(session, "image.restored", detail={"reason": session.bad_reason, "seconds": seconds})

    def _opened(self, session: CameraSession, notice: CameraOpened) -> None:
        session.account.signal(present=True, now_ns=notice.monotonic_ns)
        session.given = notice.given.as_json()
        session.last_number, session.last_mark = -1, None
        self._enter_running(session)
        if session.lost_ns is not None:
            away_s = (notice.monotonic_ns - session.lost_ns) / NS_PER_S
            self._tell(session, "camera.restored", detail={"seconds": round(away_s, 3)})
            self._tell_silence(session, notice.monotonic_ns)

    def _tell_silence(self, session: CameraSession, to_ns: int) -> None:
        """The time without a picture, now that it is over."""
        if session.lost_ns is not None:
            marks = session.lost_mark, self._travel.at(to_ns)
            gap = coverage.Gap("no_signal", session.lost_ns, to_ns, {}, 0, 0, {}, *marks)
            session.lost_ns = None
            self._tell_gap(session, gap)

    def _gone(self, session: CameraSession, now_ns: int, reason: str) -> None:
        """No more frames for now: what is open can no longer be followed."""
        session.account.signal(present=False, now_ns=now_ns)
        self._scheduler.gone(session.camera.name)
        self._close_tracks(session)
        self._enter(session, "no_signal", redact(reason))

    def _close_tracks(self, session: CameraSession) -> None:
        for change in session.tracks.close_all():
            self._tell(session, change.type, defect=session.measured(change, self._travel))

    def _enter_running(self, session: CameraSession) -> None:
        """A camera that comes back shows the same bad picture until it has shown good ones."""
        if session.bad_since_ns is None:
            drifted = () if session.drift is None else session.drift.drifted
            self._enter(session, "running", f"drifted: {', '.join(drifted)}" if drifted else "")
        else:
            self._enter(session, "frozen" if session.bad_reason == FROZEN else "bad_image", session.bad_reason)

    def _heed(self, session: CameraSession, look: ImageCheck, frame: Frame) -> None:
        """Tell where a bad time of the picture begins and ends."""
        now_ns = self._clock.monotonic_ns()
        if look.started is not None:
            if session.bad_since_ns is None:
                session.bad_since_ns = now_ns
            session.bad_reason = look.started
            self._enter_running(session)
            self._tell(session, "image.bad", frame=frame, detail={"reason": look.started})
        elif look.ended is not None:
            since_ns, session.bad_since_ns = session.bad_since_ns or now_ns, None
            self._enter_running(session)
            seconds = round((now_ns - since_ns) / NS_PER_S, 3)
            detail = {"reason": look.ended, "seconds": seconds}
            self._tell(session, "image.restored", frame=frame, detail=detail)

    # ---- telling ---------------------------------------------------------------------------------------

    def _enter(self, session: CameraSession, state: str, reason: str) -> None:
        if session.paused is not None and state in ("running", "bad_image", "frozen"):
            state, reason = "paused", "by a command"
        if (state, reason) != (session.state, session.reason):
            session.state, session.reason, session.since_ns = state, reason, self._clock.wall_ns()
        self._tell_state(session)

    def _tell_state(self, session: CameraSession) -> None:
        self._retain_state(
            session.camera.name,
            {
                "schema": "defectd.state/1",
                "state": session.state,
                "reason": session.reason or None,
                "since": stamp(session.since_ns),
                "fps": round(session.fps, 2),
                "mode": session.camera.mode,
                "given": session.given,
                "thresholds": _thresholds(session.camera.decision),
                "calibrated_thresholds": _calibrated_thresholds(session),
                "calibration": _calibration(session),
                "drift": _drift(session),
                "shadow": None if self._shadow is None else self._shadow.as_json(session.camera.name),
                "strip": self._reading.as_json(),
            },
        )

    def _tell(
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
        fact = event.Event.now(self._clock, session.camera.name, kind, detail)
        ref = None if frame is None else event.FrameRef(frame.number, frame.label)
        fact = replace(fact, defect=defect, frame=ref, latency_ms=latency)
        picture = None if self._witness is None else self._witness.select(fact, session.camera, frame, detections)
        self._sink.put(fact, picture)

    def _tell_gap(self, session: CameraSession, gap: coverage.Gap) -> None:
        detail = gap.as_json(self._clock.wall_ns(), self._clock.monotonic_ns())
        if gap.from_position is not None and session.heading is not None:
            coil, from_m = session.place(gap.from_position, self._travel)
            run_m = None if gap.to_position is None else gap.to_position.since(gap.from_position)
            if from_m is not None and run_m is not None:
                to_m = from_m + max(0.0, run_m) + session.view_m
                detail |= {"from_m": round(from_m, 3), "to_m": round(to_m, 3), "coil": coil}
        self._tell(session, "coverage.gap", detail=detail)

    def _report(self, sessions: Sequence[CameraSession] | None = None) -> None:
        """Tell the window that ends now, of some sessions or of all."""
        now_ns = self._clock.monotonic_ns()
        if sessions is None:
            self._next_report_ns = now_ns + self._report_ns
        self._reading = self._travel.reading(now_ns)
        mark = self._travel.at(now_ns)
        reports = []
        for session in self.sessions if sessions is None else sessions:
            window_s = max(1e-9, (now_ns - session.window_from_ns) / NS_PER_S)
            delivered = session.account.delivered()
            session.fps = (delivered - session.delivered_before) / window_s
            session.delivered_before, session.window_from_ns = delivered, now_ns
            if session.state == "no_signal" and mark is not None and session.heading is not None and session.view_m:
                session.account.advance_to(mark)  # what runs by unseen is not seen later either
            message = session.account.report(now_ns)
            for gap in session.gaps.take():
                self._tell_gap(session, gap)
            _log_edges(session)
            self._retain_coverage(session.camera.name, message)
            self._tell_state(session)
            counts = {stage: histogram.counts() for stage, histogram in session.stages.items()}
            stages = {stage: c.since(session.reported.get(stage)).summary() for stage, c in counts.items()}
            session.reported = counts
            name, state, still_open = session.camera.name, session.state, len(session.tracks)
            reports.append(Report(name, state, session.fps, stages["total"], stages, message, still_open))
        self._on_report(reports)

    def _finish(self) -> None:
        for notice in self._cameras.take_notices():
            self._note(notice)
        for session in self._sessions.values():
            self._close_tracks(session)
            self._tell_silence(session, self._clock.monotonic_ns())
            self._resume(session)
            self._enter(session, "no_signal", "stopped")
        self._report()


def _drift(session: CameraSession) -> dict[str, Any] | None:
    """How the camera looks against its calibration; None where there is nothing to compare with."""
    if session.drift is None:
        return None
    since = None if session.drift_since_ns is None else stamp(session.drift_since_ns)
    return {"drifted": list(session.drift.drifted), "since": since, "figures": session.drift.figures()}


def _log_edges(session: CameraSession) -> None:
    """Say which edges of the strip are lost, and which are seen again."""
    lost = frozenset(side for side, edge in session.inspector.edges.items() if edge.state == "lost")
    for side in sorted(lost - session.lost_edges):
        words = "camera %s: the %s edge of the strip is lost: the fixed region holds there until it is seen"
        log.warning(words, session.camera.name, side)
    for side in sorted(session.lost_edges - lost):
        log.info("camera %s: the %s edge of the strip is seen again", session.camera.name, side)
    session.lost_edges = lost


def _calibration(session: CameraSession) -> dict[str, Any] | None:
    """Which calibrated parts are in use, and which are refused for frames of this size."""
    parts = calibration.made_px(session.camera)
    if not parts:
        return None
    refused = {misfit.part: misfit.as_json() for misfit in session.misfits}
    told: dict[str, Any] = {"used": [part for part in parts if part not in refused], "refused": list(refused.values())}
    if session.inspector.edges:
        told["edges"] = {
            side: {"sight": edge.state, "px": edge.at_px, "lost_frames": edge.lost_frames}
            for side, edge in session.inspector.edges.items()
        }
    return told


def _calibrated_thresholds(session: CameraSession) -> dict[str, Any] | None:
    """Thresholds that were calibrated for the model in use."""
    calibrated_thresholds = session.inspector.calibrated_thresholds
    return (
        None
        if calibrated_thresholds is None
        else {"temperature": calibrated_thresholds.temperature, "classes": dict(calibrated_thresholds.classes)}
    )


def _size_px(frame: Frame) -> tuple[int, int]:
    """Width and height."""
    return int(frame.pixels.shape[1]), int(frame.pixels.shape[0])


def _thresholds(decision: config.Decision) -> dict[str, Any]:
    return {"confidence": decision.confidence, "unsure": decision.unsure, "classes": dict(decision.classes)}
