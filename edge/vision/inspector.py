"""One frame in, one verdict out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from edge import config
from edge.clock import Clock
from edge.errors import ImageError
from edge.frame import Gray
from edge.vision import health, tiles
from edge.vision.classifier import Classifier
from edge.vision.decision import Findings, Thresholds, decide
from edge.vision.tiles import TileGrid

FrameState = Literal["ok", "defect", "unsure", "bad_image", "late", "dropped"]
NOTHING: Final = Findings((), ())
GRIDS_KEPT: Final = 8
"""A camera has one frame size; a folder of images may have several."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What inspection found in one frame, and what each step cost."""

    state: FrameState
    findings: Findings
    tiles: int
    reason: str = ""
    """Why, for `bad_image`."""
    preprocess_ns: int = 0
    inference_ns: int = 0
    decide_ns: int = 0


class Inspector:
    """Judges the frames of one camera with a classifier that cameras share. Owned by one thread."""

    def __init__(
        self, camera: config.Camera, classifier: Classifier, clock: Clock, *, sensor_noise: bool = False
    ) -> None:
        """sensor_noise: two equal pictures in a row are no coincidence, the picture is frozen.

        Raises ConfigError when a threshold names a class that the model does not know.
        """
        self._camera = camera
        self._classifier = classifier
        self._clock = clock
        self._thresholds = Thresholds.of(camera.decision, classifier.card.classes, camera.name)
        self._watch = health.Watch(camera.health, frozen=sensor_noise)
        self._grids: OrderedDict[tuple[int, int], TileGrid] = OrderedDict()
        self._batch = np.empty((0, 0, 0), np.uint8)
        """As long as the largest grid needs it; written anew for each frame."""

    def look(self, image: Gray, now_ns: int) -> health.Look:
        """Health, in the order of the camera's frames, whether or not they are inspected after it."""
        try:
            x, y, w, h = self._grid(image).window
        except ImageError as error:
            return self._watch.tell(str(error))
        return self._watch.step(image[y : y + h, x : x + w], now_ns)

    def inspect(self, image: Gray, *, looked: bool = False) -> Verdict:
        """Tiles, classifier, decision.  image: (H, W) uint8, not kept.

        looked: `look` found nothing; otherwise the picture is looked at here, on its own.
        """
        started = self._clock.monotonic_ns()
        try:
            grid = self._grid(image)
        except ImageError as error:
            return Verdict("bad_image", NOTHING, 0, str(error))
        x, y, w, h = grid.window
        ailment = None if looked else health.ailment(image[y : y + h, x : x + w])
        if ailment is not None:
            return Verdict("bad_image", NOTHING, 0, ailment, self._clock.monotonic_ns() - started)
        cut = grid.cut(image, self._batch)
        prepared = self._clock.monotonic_ns()
        scores = self._classifier.score(cut)
        inferred = self._clock.monotonic_ns()
        probabilities = scores.probabilities(self._classifier.card.temperature)
        findings = decide(
            probabilities, grid.boxes, grid.cells, self._thresholds, has_good=self._classifier.card.has_good
        )
        decided = self._clock.monotonic_ns()
        return Verdict(
            _state(findings),
            findings,
            len(grid),
            preprocess_ns=prepared - started,
            inference_ns=inferred - prepared,
            decide_ns=decided - inferred,
        )

    def _grid(self, image: Gray) -> TileGrid:
        shape = (image.shape[0], image.shape[1])
        grid = self._grids.get(shape)
        if grid is None:
            camera, side = self._camera, self._classifier.card.input_px
            grid = tiles.lay(shape, tile_px=camera.tile_px, input_px=side, overlap=camera.overlap, roi=camera.roi)
            if len(grid) > len(self._batch):
                self._batch = np.empty((len(grid), side, side), np.uint8)
            self._grids[shape] = grid
            if len(self._grids) > GRIDS_KEPT:
                self._grids.popitem(last=False)
        self._grids.move_to_end(shape)
        return grid


def _state(findings: Findings) -> FrameState:
    if findings.regions:
        return "defect"
    return "unsure" if findings.suspects else "ok"
