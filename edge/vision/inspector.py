"""One frame in, one verdict out."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
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
from edge.vision import anomaly, image_quality, tiles
from edge.vision.anomaly import AnomalyModel
from edge.vision.decision import NO_DETECTIONS, AnomalyScores, Detections, decide
from edge.vision.defect_extent import extent
from edge.vision.flatfield import Flatfield
from edge.vision.strip_edges import EdgeTrack, StripFollower
from edge.vision.thresholds import Thresholds
from edge.vision.tile_order import TileOrder
from edge.vision.tiles import Rectangle, Roi, TileGrid

log = logging.getLogger(__name__)

GRIDS_KEPT: Final = 8
"""A camera has one frame size; a folder of images may have several."""
PLACES_KEPT: Final = 32
"""Of a region that follows the strip."""
MAX_MEASURED: Final = 4
"""Flaws of a frame whose extent is told."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What inspection found in one frame, and what each step cost."""

    state: FrameState
    detections: Detections
    tiles: int
    """Inspected."""
    reason: str = ""
    """Why, for `bad_image`."""
    preprocess_ns: int = 0
    inference_ns: int = 0
    decide_ns: int = 0
    skipped: int = 0
    """Tiles left out to keep the deadline: then a frame in which nothing was found is unsure, never ok."""
    broken: int = 0
    """Tiles whose scores are no numbers: they are unsure, never ok."""
    outside: int = 0
    """Tiles of the frame that lie beside the strip, where the region follows it."""
    anomaly: float | None = None
    """The strangest tile, in units of the threshold; None without a calibration of good surface."""
    features: Float32s | None = field(default=None, compare=False, repr=False)
    """(tiles, F) float32: what the network saw."""


@dataclass(slots=True, eq=False)
class _Layout:
    """The tiles of one frame size and their turns."""

    grid: TileGrid
    turns: TileOrder
    gain: Float32s | None = None
    outside: int = 0
    is_known: bool = True
    """Whether what is known of good surface holds for frames of this size."""


@dataclass(slots=True, eq=False)
class Learned:
    """What an inspector knows of its camera's pictures."""

    watch: image_quality.QualityMonitor
    light: Flatfield | None = None
    follower: StripFollower | None = None
    region: Rectangle | None = None
    """Of the strip in this frame; None: the fixed one."""
    normal: tuple[AnomalyModel, ...] = ()
    """Good surface, as each model sees it that a calibration was made with."""
    grids: OrderedDict[tuple[int, int], _Layout] = field(default_factory=OrderedDict)
    places: OrderedDict[tuple[tuple[int, int], Rectangle], _Layout] = field(default_factory=OrderedDict)
    """The same for regions that follow the strip."""
    batch: Gray = field(default_factory=lambda: np.empty((0, 0, 0), np.uint8))
    """As long as the largest grid needs it; written anew for each frame."""


class Inspector:
    """Judges the frames of one camera with a classifier that cameras share. Owned by one thread."""

    def __init__(
        self,
        camera: config.Camera,
        classifier: Classifier,
        clock: Clock,
        *,
        sensor_noise: bool = False,
        learned: Learned | None = None,
    ) -> None:
        """sensor_noise: two equal pictures in a row are no coincidence, the picture is frozen.

        learned: by an inspector of the same camera whose place this one takes.
        Raises ConfigError when the map of gains or the calibration of good surface cannot be used, when the latter was
        made with other models only, or when a threshold names a class the model does not know.
        """
        self._camera = camera
        self._classifier = classifier
        self._clock = clock
        self.calibrated_thresholds = _holding(camera, classifier)
        """Of the camera's, those that hold for this model."""
        self._thresholds = self._by(camera.decision)
        if learned is None:
            light = None if camera.flatfield is None else Flatfield.read(camera.flatfield)
            learned = Learned(
                image_quality.QualityMonitor(camera.image_quality, frozen=sensor_noise),
                light,
                _follower(camera),
                normal=anomaly.known_of(camera),
            )
        self._learned = learned
        self._anomaly = anomaly.fitting(learned.normal, classifier.card, camera.name)

    def judge_by(self, decision: config.Decision) -> None:
        """Use other thresholds from the next frame on.  Raises ConfigError for a class that the model does not know."""
        self._thresholds = self._by(decision)
        self._camera = self._camera.model_copy(update={"decision": decision})

    def _by(self, decision: config.Decision) -> Thresholds:
        return Thresholds.of(decision, self._classifier.card.classes, self._camera.name, self.calibrated_thresholds)

    @property
    def temperature(self) -> float:
        """What logits are divided by at this camera."""
        own = None if self.calibrated_thresholds is None else self.calibrated_thresholds.temperature
        return self._classifier.temperature if own is None else own

    @property
    def thresholds(self) -> Thresholds:
        return self._thresholds

    def fitted(self, classifier: Classifier | None = None, decision: config.Decision | None = None) -> Inspector:
        """One with another network or other thresholds, to take the place of this one: what is learned goes on.

        Raises ConfigError as the constructor.
        """
        camera = self._camera if decision is None else self._camera.model_copy(update={"decision": decision})
        classifier = classifier or self._classifier
        learned = self._learned
        if classifier.card.input_px != self._classifier.card.input_px:
            learned = Learned(learned.watch, learned.light, learned.follower, normal=learned.normal)
        return Inspector(camera, classifier, self._clock, learned=learned)

    def look(self, image: Gray, now_ns: int) -> image_quality.ImageCheck:
        """Health, in the order of the camera's frames, whether or not they are inspected after it."""
        try:
            layout = self._fixed(image)
        except ImageError as error:
            return self._learned.watch.record(str(error))
        self.follow(image)
        x, y, w, h = layout.grid.window
        window = image[y : y + h, x : x + w]
        if self._learned.light is not None and layout.gain is not None:
            self._learned.light.watch(window, layout.gain, now_ns)
        return self._learned.watch.step(window, now_ns)

    def follow(self, image: Gray) -> None:
        """Find the strip in the next frame, where the region follows it: `look` does so, too."""
        learned = self._learned
        if learned.follower is None:
            return
        learned.region = learned.follower.step(image)
        try:
            self._layout(image)
        except ImageError:
            learned.region = None  # so narrow that no tile fits: the fixed region holds

    @property
    def edges(self) -> Mapping[str, EdgeTrack]:
        """How the edges stand that the region follows, by side; none where it is fixed."""
        follower = self._learned.follower
        return {} if follower is None else {str(side): edge for side, edge in follower.edges.items()}

    @property
    def network(self) -> str:
        """sha256 of the bundle's fp32 network."""
        return self._classifier.card.files.get(FP32, "")

    def sight(self, image: Gray) -> image_quality.ImageStats:
        """Brightness and sharpness of a frame that was just looked at.  Raises ImageError."""
        known = self._learned.watch.stats if self._camera.image_quality.enabled else None
        if known is not None:
            return known
        x, y, w, h = self._fixed(image).grid.window
        return image_quality.image_stats(image[y : y + h, x : x + w])

    def window(self, image: Gray) -> Gray:
        """What is inspected of a frame: a view of it.  Raises ImageError."""
        x, y, w, h = self._layout(image).grid.window
        return image[y : y + h, x : x + w]

    def tiles(self, image: Gray) -> int:
        """How many tiles a frame of this size has.  Raises ImageError where `look` finds an fault."""
        return len(self._layout(image).grid)

    def boxes(self, image: Gray) -> list[Box]:
        """Where the tiles of a frame of this size lie, x y w h.  Raises ImageError."""
        return [(int(x), int(y), int(w), int(h)) for x, y, w, h in self._layout(image).grid.boxes]

    def cut(self, image: Gray) -> Gray:
        """(N, side, side) uint8: the network's input for this frame, valid until the next.  Raises ImageError."""
        layout = self._layout(image)
        return layout.grid.cut(image, self._learned.batch, gain=layout.gain)

    def inspect(
        self, image: Gray, *, looked: bool = False, most: int | None = None, deadline_ns: int | None = None
    ) -> Verdict:
        """Tiles, classifier, decision.  image: (H, W) uint8, not kept.

        looked: `look` found nothing; otherwise the picture is looked at here, on its own.
        most: tiles there is time for.  deadline_ns: no batch of tiles is begun that would end after it.
        """
        started = self._clock.monotonic_ns()
        try:
            x, y, w, h = self._fixed(image).grid.window
            if not looked:
                self.follow(image)
            layout = self._layout(image)
        except ImageError as error:
            return Verdict("bad_image", NO_DETECTIONS, 0, str(error))
        grid = layout.grid
        fault = None if looked else image_quality.fault(image[y : y + h, x : x + w])
        if fault is not None:
            return Verdict("bad_image", NO_DETECTIONS, 0, fault, self._clock.monotonic_ns() - started)
        layout.turns.move_to(grid.boxes)
        chosen = self._chosen(layout, most, cuttable=deadline_ns is not None)
        cut = grid.cut(image, self._learned.batch, chosen, layout.gain)
        prepared = self._clock.monotonic_ns()
        scores = self._score(cut, deadline_ns)
        inferred = self._clock.monotonic_ns()
        probabilities = scores.probabilities(self.temperature)
        boxes, cells = grid.boxes, grid.cells
        if chosen is not None:
            chosen = chosen[: len(probabilities)]
            boxes, cells = boxes[chosen], cells[chosen]
        anomaly_scores = None
        if self._anomaly is not None and layout.is_known:
            known = self._anomaly
            anomaly_scores = AnomalyScores(known.score(scores), known.threshold, known.unsure_threshold)
        detections = decide(
            probabilities,
            boxes,
            cells,
            self._thresholds,
            has_good=self._classifier.card.has_good,
            anomaly_scores=anomaly_scores,
        )
        detections = self._measured(detections, image, deadline_ns)
        layout.turns.mark_inspected(
            chosen, (*(region.box_px for region in detections.regions), *detections.unsure_boxes)
        )
        skipped = len(grid) - len(probabilities)
        decided = self._clock.monotonic_ns()
        return Verdict(
            _state(detections, skipped),
            detections,
            len(probabilities),
            reason="partial" if skipped else "",
            preprocess_ns=prepared - started,
            inference_ns=inferred - prepared,
            decide_ns=decided - inferred,
            skipped=skipped,
            broken=len(probabilities) - int(np.isfinite(probabilities).all(axis=1).sum()),
            outside=layout.outside,
            anomaly=None if anomaly_scores is None else anomaly_scores.worst,
            features=scores.features,
        )

    def _measured(self, detections: Detections, image: Gray, deadline_ns: int | None) -> Detections:
        """With the extent of the strongest flaws, as far as the time goes."""
        regions, spent_ns = list(detections.regions), 0
        for place, region in enumerate(regions[:MAX_MEASURED]):
            begun_ns = self._clock.monotonic_ns()
            if deadline_ns is not None and begun_ns + spent_ns > deadline_ns:
                break
            regions[place] = replace(region, extent_px=extent(image, region, self._camera.tile_px))
            spent_ns = self._clock.monotonic_ns() - begun_ns
        return replace(detections, regions=tuple(regions)) if regions else detections

    def _chosen(self, layout: _Layout, most: int | None, *, cuttable: bool) -> Indices | None:
        """Which tiles, in which order; None for all as they lie."""
        count = len(layout.grid)
        wanted = count if most is None else max(1, min(most, count))
        if wanted == count and not (cuttable and count > self._classifier.batch):
            return None
        return layout.turns.order(wanted)

    def _score(self, cut: Gray, deadline_ns: int | None) -> Scores:
        """Scores of the first tiles, batch by batch, as far as the time goes; one batch at least."""
        batch = self._classifier.batch
        if deadline_ns is None or len(cut) <= batch:
            return self._classifier.score(cut)
        parts = []
        for start in range(0, len(cut), batch):
            begun = self._clock.monotonic_ns()
            parts.append(self._classifier.score(cut[start : start + batch]))
            now = self._clock.monotonic_ns()
            if now + (now - begun) > deadline_ns:
                break
        return Scores.joined(parts)

    def _layout(self, image: Gray) -> _Layout:
        """The tiles of this frame, wherever the strip is.  Raises ImageError."""
        fixed, learned = self._fixed(image), self._learned
        if learned.region is None:
            return fixed
        key = (fixed.grid.frame_shape, learned.region)
        layout = learned.places.get(key)
        if layout is None:
            layout = self._lay(fixed.grid.frame_shape, learned.region, fixed.turns)
            whole = self._grid(fixed.grid.frame_shape, None)
            layout.outside = max(0, len(whole) - len(layout.grid))
            learned.places[key] = layout
            if len(learned.places) > PLACES_KEPT:
                learned.places.popitem(last=False)
        learned.places.move_to_end(key)
        return layout

    def _fixed(self, image: Gray) -> _Layout:
        """The tiles of the fixed region.  Raises ImageError, also where the region was calibrated for another size."""
        shape, grids = (image.shape[0], image.shape[1]), self._learned.grids
        layout = grids.get(shape)
        if layout is None:
            for misfit in calibration.misfits(self._camera, (shape[1], shape[0])):
                if misfit.blocks:
                    raise ImageError(misfit.reason)
            layout = grids[shape] = self._lay(shape, self._camera.roi, None)
            if len(grids) > GRIDS_KEPT:
                grids.popitem(last=False)
        grids.move_to_end(shape)
        return layout

    def _lay(self, shape: tuple[int, int], roi: Roi, turns: TileOrder | None) -> _Layout:
        grid, learned = self._grid(shape, roi), self._learned
        unfit = {misfit.part for misfit in calibration.misfits(self._camera, (shape[1], shape[0]))}
        light = None if "flatfield" in unfit else learned.light
        gain = None if light is None else light.over(shape, grid.window, grid.small)
        if len(grid) > len(learned.batch):
            learned.batch = np.empty((len(grid), grid.input_px, grid.input_px), np.uint8)
        return _Layout(grid, turns or TileOrder(grid.boxes), gain, is_known="normal" not in unfit)

    def _grid(self, shape: tuple[int, int], roi: Roi) -> TileGrid:
        camera, side = self._camera, self._classifier.card.input_px
        return tiles.lay(
            shape, tile_px=camera.tile_px, input_px=side, overlap=camera.overlap, roi=roi, exclude=camera.exclude
        )


def _follower(camera: config.Camera) -> StripFollower | None:
    """Only a rectangle follows the strip; that is what calibration makes."""
    track, roi = calibration.track(camera), camera.roi
    if track is None or roi is None or isinstance(roi[0], tuple):
        return None
    x, y, w, h = (int(side) for side in roi if not isinstance(side, tuple))
    return StripFollower(track, (x, y, w, h))


def _holding(camera: config.Camera, classifier: Classifier) -> config.CalibratedThresholds | None:
    calibrated_thresholds = camera.calibrated_thresholds
    if calibrated_thresholds is None:
        return None
    card, why = classifier.card, ""
    if calibrated_thresholds.bundle not in (None, classifier.bundle):
        why = f"another model than {card.name} {card.version} ({classifier.bundle[:12]})"
    elif calibrated_thresholds.tile_px not in (None, camera.tile_px):
        why = f"tiles of {calibrated_thresholds.tile_px} px, not {camera.tile_px}"
    if why:
        again = f"Run `defectd calibrate thresholds --camera {camera.name}` again"
        log.warning("camera %s: thresholds were calibrated for %s: not used. %s", camera.name, why, again)
        return None
    return calibrated_thresholds


def _state(detections: Detections, skipped: int) -> FrameState:
    if detections.regions:
        return "defect"
    return "unsure" if detections.unsure_boxes or skipped else "ok"
