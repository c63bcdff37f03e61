"""One frame in, one verdict out.

The stages are separate calls: `check` compares a frame with the frames before it and lays the tiles out, the owner
decides how many tiles there is time for, `inspect` cuts the tiles, runs the network and decides.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from edge import config
from edge.config import calibration
from edge.coverage.accounting import FrameState
from edge.errors import ImageError
from edge.frame import Box, Float32s, Gray, Indices
from edge.host.clock import Clock
from edge.model.bundle import FP32
from edge.model.classifier import Classifier, Scores
from edge.model.surface import TrainingSurface
from edge.vision import anomaly, image_quality, taught_classes, tiles
from edge.vision.anomaly import AnomalyModel
from edge.vision.boxes import all_within
from edge.vision.decision import NO_DETECTIONS, AnomalyScores, Detections, Ints, Naming, Region, TileScores, decide
from edge.vision.defect_extent import extent
from edge.vision.domain import Suspect
from edge.vision.flatfield import Flatfield
from edge.vision.heat_map import HeatMap, heat_map
from edge.vision.image_quality import GOOD, ImageCheck, ImageStats
from edge.vision.strip_edges import EdgeTrack, StripFollower
from edge.vision.taught_classes import TaughtClasses
from edge.vision.thresholds import Thresholds
from edge.vision.tile_order import TileOrder
from edge.vision.tiles import Rectangle, Roi, TileGrid

log = logging.getLogger(__name__)

MAX_GRIDS: Final = 8
"""Frame sizes remembered. A camera has one; a folder of images may have several."""
MAX_PLACES: Final = 32
"""Places of the strip remembered, where the region follows it."""
MAX_MEASURED: Final = 4
"""Defects of one frame whose extent is measured."""


def never() -> bool:
    """No frame is cut short."""
    return False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What inspection found in one frame, and how long each stage took."""

    state: FrameState
    detections: Detections
    tiles: int
    """Tiles inspected."""
    reason: str = ""
    """The fault of a `bad_image`, or "partial"."""
    preprocess_ns: int = 0
    inference_ns: int = 0
    decide_ns: int = 0
    skipped: int = 0
    """Tiles left out to keep the deadline. Such a frame without a defect is unsure, never ok."""
    broken: int = 0
    """Tiles whose scores are not finite. They are unsure, never ok."""
    outside: int = 0
    """Tiles of the whole frame that lie beside the strip, where the region follows it."""
    anomaly: float | None = None
    """The highest anomaly score of a tile, in units of the threshold; None without an anomaly model."""
    scores: Scores | None = field(default=None, compare=False, repr=False)
    """The network's outputs for each inspected tile, with its own classes."""
    tile_scores: TileScores | None = field(default=None, compare=False, repr=False)
    """What names a defect in each inspected tile: by the taught classes, where there are any."""

    @property
    def features(self) -> Float32s | None:
        """(tiles, F) float32, the network's features of each inspected tile; None where the network has none."""
        return None if self.scores is None or not self.scores.features.size else self.scores.features


@dataclass(slots=True, eq=False)
class Layout:
    """The tiles of one frame size, and their turns."""

    grid: TileGrid
    turns: TileOrder
    gain: Float32s | None = None
    outside: int = 0
    """Tiles of the whole frame that lie beside the strip."""
    has_anomaly_model: bool = True
    """Whether the anomaly model is valid for frames of this size."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFrame:
    """A frame with its image check and its tiles.  pixels: (H, W) uint8, a view, valid as long as the frame's."""

    pixels: Gray
    layout: Layout | None
    """None where the frame cannot be tiled: then the check names the fault."""
    check: ImageCheck = GOOD
    known_stats: ImageStats | None = None
    """Brightness and sharpness, where the check has computed them."""

    @property
    def fault(self) -> str | None:
        """Why the frame must not be inspected; None where it can be."""
        return self.check.fault

    @property
    def tiles(self) -> int:
        """The number of tiles."""
        return 0 if self.layout is None else len(self.layout.grid)

    def boxes(self) -> list[Box]:
        """The tiles, x y w h, px."""
        return (
            [] if self.layout is None else [(int(x), int(y), int(w), int(h)) for x, y, w, h in self.layout.grid.boxes]
        )

    def window(self) -> Gray:
        """The smallest part of the frame that holds all tiles: a view."""
        if self.layout is None:
            return self.pixels
        return _window(self.pixels, self.layout)


@dataclass(slots=True, eq=False)
class Learned:
    """What an inspector has learned about the frames of its camera."""

    watch: image_quality.QualityMonitor
    light: Flatfield | None = None
    follower: StripFollower | None = None
    region: Rectangle | None = None
    """The strip in the last frame; None: the fixed region is in use."""
    anomaly_models: tuple[AnomalyModel, ...] = ()
    """Made by calibrations, each for one network."""
    taught: tuple[TaughtClasses, ...] = ()
    """What the camera was taught, each with one network, the newest first."""
    grids: OrderedDict[tuple[int, int], Layout] = field(default_factory=OrderedDict)
    """Layouts of the fixed region, by frame size, the last used at the end."""
    places: OrderedDict[tuple[tuple[int, int], Rectangle], Layout] = field(default_factory=OrderedDict)
    """Layouts of a region that follows the strip, the last used at the end."""
    batch: Gray = field(default_factory=lambda: np.empty((0, 0, 0), np.uint8))
    """Holds the tiles of the largest grid; overwritten by each frame."""


class Inspector:
    """Inspects the frames of one camera with a classifier that all cameras share. Owned by one thread."""

    def __init__(
        self,
        camera: config.Camera,
        classifier: Classifier,
        clock: Clock,
        *,
        sensor_noise: bool = False,
        learned: Learned | None = None,
    ) -> None:
        """sensor_noise: the source has noise, so that equal frames in a row are frozen.

        learned: taken over from the inspector that this one replaces.
        Raises ConfigError when the flatfield, the anomaly model or taught classes cannot be read, when no anomaly model
        fits the network, or when a threshold names a class that neither the network nor the taught ones have.
        """
        self._camera = camera
        self._classifier = classifier
        self._clock = clock
        self.names_known = True
        """False: the surface is unlike the training's, so defects get no name of a class."""
        if learned is None:
            light = None if camera.flatfield is None else Flatfield.read(camera.flatfield)
            learned = Learned(
                image_quality.QualityMonitor(camera.image_quality, frozen=sensor_noise),
                light,
                _follower(camera),
                anomaly_models=anomaly.known_of(camera),
                taught=taught_classes.known_of(camera),
            )
        self._learned = learned
        self._anomaly = anomaly.fitting(learned.anomaly_models, classifier.card, camera.name)
        self.taught = taught_classes.fitting(learned.taught, classifier.card, camera)
        """The classes that this camera was taught with this model; None: the model's own name its defects."""
        self.calibrated_thresholds = _calibrated_thresholds(camera, classifier, self.taught)
        """The camera's, if they were calibrated for this model and these classes."""
        self.thresholds = Thresholds.of(camera.decision, self.classes, camera.name, self.calibrated_thresholds)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that name a defect."""
        return self._classifier.card.classes if self.taught is None else self.taught.names

    @property
    def naming(self) -> Naming:
        """How far the names of the classes are to be trusted."""
        if self.taught is not None:
            return "taught"
        return "classes" if self.names_known else "unknown"

    @property
    def has_good(self) -> bool:
        """Whether the classes have "no defect" beside them."""
        return self._classifier.card.has_good if self.taught is None else self.taught.has_good

    @property
    def surface(self) -> TrainingSurface | None:
        """What a camera is compared with; None where its classes were taught on it, and where nothing is known."""
        is_watched = self._camera.domain_check and self.taught is None
        return self._classifier.surface if is_watched else None

    @property
    def temperature(self) -> float:
        """The divisor of the logits: calibrated for this camera, that of its taught classes, or the model's own."""
        own = None if self.calibrated_thresholds is None else self.calibrated_thresholds.temperature
        if own is not None:
            return own
        return self._classifier.temperature if self.taught is None else 1.0

    @property
    def sharpness(self) -> float:
        """From the probabilities to the published confidence; 1 where the camera has a temperature of its own."""
        is_own = self.calibrated_thresholds is not None and self.calibrated_thresholds.temperature is not None
        return 1.0 if is_own or self.taught is not None else self._classifier.sharpness

    @property
    def names_from(self) -> str:
        """What names a defect: the digest of the bundle, with the beginning of that of taught classes after a plus."""
        bundle = self._classifier.bundle
        return bundle if self.taught is None else f"{bundle}+{self.taught.sha256[:12]}"

    def named(self, scores: Scores) -> Scores:
        """The scores with the classes that name a defect: the taught ones in place of the model's own."""
        return scores if self.taught is None else self.taught.applied(scores)

    def suspects(self, verdict: Verdict) -> list[Suspect]:
        """The tiles that may show a defect, with their distances from the training's surface: of nothing else is the
        name asked.  None of them without a surface to compare with.
        """
        surface, scores, tiles = self.surface, verdict.scores, verdict.tile_scores
        if surface is None or scores is None or tiles is None:
            return []
        probabilities = scores.probabilities(self.temperature)
        evidence = (np.add if self.has_good else np.maximum).reduce(probabilities, 1)
        suspect = evidence >= self.thresholds.unsure  # false for NaN
        if not suspect.any():
            return []
        distances = surface.distances(scores.outputs()[suspect])
        columns = np.unique(tiles.boxes[:, 0], return_inverse=True)[1]
        return list(map(Suspect, columns[suspect].tolist(), distances.tolist()))

    def fitted(self, classifier: Classifier | None = None, decision: config.Decision | None = None) -> Inspector:
        """A copy with another network or other thresholds that goes on with what this one has learned.

        Raises ConfigError as the constructor does.
        """
        camera = self._camera if decision is None else self._camera.model_copy(update={"decision": decision})
        classifier = classifier or self._classifier
        learned = self._learned
        if classifier.card.input_px != self._classifier.card.input_px:
            learned = Learned(
                learned.watch,
                learned.light,
                learned.follower,
                anomaly_models=learned.anomaly_models,
                taught=learned.taught,
            )
        fresh = Inspector(camera, classifier, self._clock, learned=learned)
        fresh.names_known = self.names_known or fresh.surface is not self.surface
        return fresh

    def check(self, image: Gray, now_ns: int) -> PreparedFrame:
        """Check the next frame of the camera against those before it, and lay its tiles out.

        For every frame in the order of the camera, also for those that there is no time to inspect.
        image: (H, W) uint8, not kept.
        """
        learned = self._learned
        try:
            fixed = self._fixed(image)
        except ImageError as error:
            return PreparedFrame(image, None, learned.watch.record(str(error)))
        layout = self._follow(image, fixed)
        window = _window(image, fixed)
        if learned.light is not None and fixed.gain is not None:
            learned.light.watch(window, fixed.gain, now_ns)
        check = learned.watch.step(window, now_ns)
        return PreparedFrame(image, layout, check, learned.watch.stats if self._camera.image_quality.enabled else None)

    def check_alone(self, image: Gray) -> PreparedFrame:
        """Check a picture by itself, without those before it, and lay its tiles out."""
        try:
            fixed = self._fixed(image)
            layout = self._follow(image, fixed)
        except ImageError as error:
            return PreparedFrame(image, None, ImageCheck(str(error)))
        fault = image_quality.fault(_window(image, fixed))
        return PreparedFrame(image, layout, ImageCheck(fault))

    def prepare(self, image: Gray, *, follow: bool) -> PreparedFrame:
        """Lay the tiles out, without a check.  Raises ImageError where the frame cannot be tiled.

        follow: first find the strip in this frame, where the region follows it.
        """
        fixed = self._fixed(image)
        return PreparedFrame(image, self._follow(image, fixed) if follow else self._at_strip(fixed))

    def stats(self, frame: PreparedFrame) -> ImageStats:
        """Brightness and sharpness of a frame."""
        if frame.known_stats is not None:
            return frame.known_stats
        return image_quality.image_stats(_window(frame.pixels, self._fixed(frame.pixels)))

    @property
    def edges(self) -> Mapping[str, EdgeTrack]:
        """The strip edges that the region follows, by side; empty where the region is fixed."""
        follower = self._learned.follower
        return {} if follower is None else {str(side): edge for side, edge in follower.edges.items()}

    @property
    def network(self) -> str:
        """sha256 of the bundle's fp32 network."""
        return self._classifier.card.files.get(FP32, "")

    def cut(self, frame: PreparedFrame) -> Gray:
        """(N, side, side) uint8: the network's input for a frame that can be tiled, valid until the next call."""
        assert frame.layout is not None
        return frame.layout.grid.cut(frame.pixels, self._learned.batch, gain=frame.layout.gain)

    def inspect_alone(self, image: Gray, *, max_tiles: int | None = None, deadline_ns: int | None = None) -> Verdict:
        """Check and inspect a picture by itself.  preprocess_ns of the verdict includes the check."""
        started_ns = self._clock.monotonic_ns()
        prepared = self.check_alone(image)
        checked_ns = self._clock.monotonic_ns()
        verdict = self.inspect(prepared, max_tiles=max_tiles, deadline_ns=deadline_ns)
        return replace(verdict, preprocess_ns=verdict.preprocess_ns + checked_ns - started_ns)

    def inspect(
        self,
        frame: PreparedFrame,
        *,
        max_tiles: int | None = None,
        deadline_ns: int | None = None,
        is_over: Callable[[], bool] = never,
    ) -> Verdict:
        """Tiles, classifier, decision.

        max_tiles: the number of tiles there is time for.  deadline_ns: no batch of tiles starts that would end later.
        is_over: asked after each batch; true: the other tiles are skipped.
        """
        started_ns = self._clock.monotonic_ns()
        layout = frame.layout
        if frame.fault is not None or layout is None:
            return Verdict("bad_image", NO_DETECTIONS, 0, frame.fault or "")
        grid = layout.grid
        layout.turns.move_to(grid.boxes)
        chosen = self._chosen(layout, max_tiles, cuttable=deadline_ns is not None)
        cut = grid.cut(frame.pixels, self._learned.batch, chosen, layout.gain)
        cut_ns = self._clock.monotonic_ns()
        scores = self._score(cut, deadline_ns, is_over)
        inferred_ns = self._clock.monotonic_ns()
        probabilities = self.named(scores).probabilities(self.temperature)
        boxes, cells = grid.boxes, grid.cells
        if chosen is None and len(probabilities) < len(grid):
            chosen = np.arange(len(grid))
        if chosen is not None:
            chosen = chosen[: len(probabilities)]
            boxes, cells = boxes[chosen], cells[chosen]
        anomaly_scores = None
        if self._anomaly is not None and layout.has_anomaly_model:
            model = self._anomaly
            anomaly_scores = AnomalyScores(model.score(scores), model.threshold, model.unsure_threshold)
        detections = decide(
            probabilities,
            boxes,
            cells,
            self.thresholds,
            has_good=self.has_good,
            anomaly_scores=anomaly_scores,
            naming=self.naming,
            sharpness=self.sharpness,
        )
        detections = self._measured(detections, frame.pixels, cut, boxes, deadline_ns)
        layout.turns.mark_inspected(
            chosen, (*(region.box_px for region in detections.regions), *detections.unsure_boxes)
        )
        skipped = len(grid) - len(probabilities)
        decided_ns = self._clock.monotonic_ns()
        return Verdict(
            _state(detections, skipped),
            detections,
            len(probabilities),
            reason="partial" if skipped else "",
            preprocess_ns=cut_ns - started_ns,
            inference_ns=inferred_ns - cut_ns,
            decide_ns=decided_ns - inferred_ns,
            skipped=skipped,
            broken=len(probabilities) - int(np.isfinite(probabilities).all(axis=1).sum()),
            outside=layout.outside,
            anomaly=None if anomaly_scores is None else anomaly_scores.worst,
            scores=scores,
            tile_scores=TileScores(
                self.thresholds.classes,
                probabilities,
                boxes,
                self.names_from,
                self.has_good,
                anomaly_scores,
            ),
        )

    def _measured(
        self, detections: Detections, image: Gray, cut: Gray, boxes: Ints, deadline_ns: int | None
    ) -> Detections:
        """Measure the extent of the strongest defects, as far as the time allows.  cut, boxes: inspected tiles."""
        regions, spent_ns = list(detections.regions), 0
        for place, region in enumerate(regions[:MAX_MEASURED]):
            start_ns = self._clock.monotonic_ns()
            if deadline_ns is not None and start_ns + spent_ns > deadline_ns:
                break
            heat = self._heat(cut, boxes, region)
            regions[place] = replace(region, extent_px=extent(image, region, self._camera.tile_px, heat))
            spent_ns = self._clock.monotonic_ns() - start_ns
        return replace(detections, regions=tuple(regions)) if regions else detections

    def _heat(self, cut: Gray, boxes: Ints, region: Region) -> HeatMap | None:
        """Where the network sees the defect.  Not for a region of many tiles: the tiles say that well enough."""
        inside = np.flatnonzero(all_within(boxes, region.box_px))
        if len(inside) > self._classifier.batch:
            return None
        cells = self._classifier.cells(cut[inside])
        return None if cells is None else heat_map(cells, boxes[inside], region.box_px)

    def _chosen(self, layout: Layout, max_tiles: int | None, *, cuttable: bool) -> Indices | None:
        """Which tiles to inspect, in which order; None: all, in the order of the grid."""
        count = len(layout.grid)
        wanted = count if max_tiles is None else max(1, min(max_tiles, count))
        if wanted == count and not (cuttable and count > self._classifier.batch):
            return None
        return layout.turns.order(wanted)

    def _score(self, cut: Gray, deadline_ns: int | None, is_over: Callable[[], bool]) -> Scores:
        """Score the tiles batch by batch, as far as the time allows; one batch at least."""
        batch = self._classifier.batch
        if len(cut) <= batch:
            return self._classifier.score(cut)
        parts = []
        for start in range(0, len(cut), batch):
            start_ns = self._clock.monotonic_ns()
            parts.append(self._classifier.score(cut[start : start + batch]))
            now_ns = self._clock.monotonic_ns()
            if is_over() or (deadline_ns is not None and now_ns + (now_ns - start_ns) > deadline_ns):
                break
        return Scores.joined(parts)

    def _follow(self, image: Gray, fixed: Layout) -> Layout:
        """Find the strip in the next frame, where the region follows it.  Returns the tiles on the strip."""
        learned = self._learned
        if learned.follower is None:
            return fixed
        learned.region = learned.follower.step(image)
        try:
            return self._at_strip(fixed)
        except ImageError:
            learned.region = None  # the strip is too narrow for a tile: the fixed region is used
            return fixed

    def _at_strip(self, fixed: Layout) -> Layout:
        """The tiles where the strip was last found.  Raises ImageError where no tile fits."""
        learned = self._learned
        if learned.region is None:
            return fixed
        shape = fixed.grid.frame_shape
        key = (shape, learned.region)
        layout = learned.places.get(key)
        if layout is None:
            layout = self._lay(shape, learned.region, fixed.turns)
            layout.outside = max(0, len(self._grid(shape, None)) - len(layout.grid))
            learned.places[key] = layout
            if len(learned.places) > MAX_PLACES:
                learned.places.popitem(last=False)
        learned.places.move_to_end(key)
        return layout

    def _fixed(self, image: Gray) -> Layout:
        """The tiles of the fixed region.  Raises ImageError, also where the region was calibrated for another size."""
        shape, grids = (image.shape[0], image.shape[1]), self._learned.grids
        layout = grids.get(shape)
        if layout is None:
            for misfit in calibration.misfits(self._camera, (shape[1], shape[0])):
                if misfit.blocks:
                    raise ImageError(misfit.reason)
            layout = grids[shape] = self._lay(shape, self._camera.roi, None)
            if len(grids) > MAX_GRIDS:
                grids.popitem(last=False)
        grids.move_to_end(shape)
        return layout

    def _lay(self, shape: tuple[int, int], roi: Roi, turns: TileOrder | None) -> Layout:
        grid, learned = self._grid(shape, roi), self._learned
        misfits = {misfit.part for misfit in calibration.misfits(self._camera, (shape[1], shape[0]))}
        light = None if "flatfield" in misfits else learned.light
        gain = None if light is None else light.over(shape, grid.window, grid.small)
        if len(grid) > len(learned.batch):
            learned.batch = np.empty((len(grid), grid.input_px, grid.input_px), np.uint8)
        return Layout(grid, turns or TileOrder(grid.boxes), gain, has_anomaly_model="normal" not in misfits)

    def _grid(self, shape: tuple[int, int], roi: Roi) -> TileGrid:
        camera, side = self._camera, self._classifier.card.input_px
        return tiles.lay(
            shape, tile_px=camera.tile_px, input_px=side, overlap=camera.overlap, roi=roi, exclude=camera.exclude
        )


def _follower(camera: config.Camera) -> StripFollower | None:
    """Follows the strip with a rectangular region, as calibration makes it; None for any other region."""
    track, roi = calibration.track(camera), camera.roi
    if track is None or roi is None or isinstance(roi[0], tuple):
        return None
    x, y, w, h = (int(side) for side in roi if not isinstance(side, tuple))
    return StripFollower(track, (x, y, w, h))


def _window(image: Gray, layout: Layout) -> Gray:
    x, y, w, h = layout.grid.window
    return image[y : y + h, x : x + w]


def _calibrated_thresholds(
    camera: config.Camera, classifier: Classifier, taught: TaughtClasses | None
) -> config.CalibratedThresholds | None:
    """The camera's calibrated thresholds; None, with a warning, where they were calibrated for something else."""
    calibrated = camera.calibrated_thresholds
    if calibrated is None:
        return None
    card, other = classifier.card, ""
    if calibrated.bundle not in (None, classifier.bundle):
        other = f"another model than {card.name} {card.version} ({classifier.bundle[:12]})"
    elif calibrated.tile_px not in (None, camera.tile_px):
        other = f"tiles of {calibrated.tile_px} px, not {camera.tile_px}"
    elif calibrated.bundle is not None and calibrated.taught != (None if taught is None else taught.sha256):
        other = "other classes than those that this camera was taught"
    if not other:
        return calibrated
    log.warning(
        "camera %s: thresholds were calibrated for %s: not used. Run `defectd calibrate thresholds --camera %s` again",
        camera.name,
        other,
        camera.name,
    )
    return None


def _state(detections: Detections, skipped: int) -> FrameState:
    if detections.regions:
        return "defect"
    return "unsure" if detections.unsure_boxes or skipped else "ok"
