"""Good surface: squares with and without a defect out of pictures of defects, and how well a file tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edge.frame import Gray
from edge.model.classifier import Classifier
from trainer.data.index import Boxes, Picture, read
from trainer.data.samples import COARSE, touched
from trainer.evaluation.evaluate import score_images
from trainer.evaluation.outcomes import picture_key
from trainer.evaluation.record import GoodSurface
from trainer.evaluation.statistics import Ranking, defectiveness, ranking
from trainer.recipe import TrainingError

SIDES_PX: Final = (100, 64)
"""Crops that are measured: half a tile and a third of one."""
TRIES: Final = 200
"""Places for a crop that are looked at in each picture."""


@dataclass(frozen=True, slots=True)
class Crops:
    """Squares of one size out of pictures of defects, as native tiles.

    free, defect: (N, T, T) uint8, T the side of a tile; without and with a defect.  free_from, defect_from: (N,)
    keys of the pictures that they come from.
    """

    side_px: int
    free: Gray
    defect: Gray
    free_from: tuple[str, ...]
    defect_from: tuple[str, ...]


def crops_for_good(
    pictures: Sequence[Picture],
    boxes: Boxes,
    classes: Sequence[str],
    side_px: int,
    *,
    tile_px: int,
    seed: int,
    most: int = 2,
) -> Crops:
    """Up to `most` squares of each kind from each picture, at their own scale, mirrored out to tile_px.

    Free ones keep 4 px away from every box; of the COARSE classes, whose boxes do not tell where the surface is sound,
    there are none. Defective ones show at least 0.3 of a box, or are covered by it to 0.3. Both come to the network in
    the same way, so that neither sharpness nor repetition tells them apart. Smaller pictures are left out.
    """
    free: list[tuple[str, Gray]] = []
    defect: list[tuple[str, Gray]] = []
    for picture in pictures:
        found = boxes.get(picture.path.stem)
        if not found or picture.label >= len(classes):
            continue
        image = read(picture.path)
        height, width = image.shape
        if min(height, width) < side_px or tile_px < side_px:
            continue
        key = picture_key(picture)
        rng = np.random.default_rng([seed, side_px, int(key, 16)])
        x = rng.integers(0, width - side_px + 1, TRIES)
        y = rng.integers(0, height - side_px + 1, TRIES)
        near, shown = touched(x, y, side_px, np.array(found))
        if classes[picture.label] in COARSE:
            near[:] = True
        for crops, usable in ((free, ~near), (defect, shown)):
            for i in np.flatnonzero(usable)[:most]:
                crop = image[y[i] : y[i] + side_px, x[i] : x[i] + side_px]
                crops.append((key, np.pad(crop, (0, tile_px - side_px), mode="symmetric")))
    empty = np.empty((0, tile_px, tile_px), np.uint8)
    return Crops(
        side_px,
        np.stack([crop for _, crop in free]) if free else empty,
        np.stack([crop for _, crop in defect]) if defect else empty,
        tuple(key for key, _ in free),
        tuple(key for key, _ in defect),
    )


@dataclass(frozen=True, slots=True)
class GoodScores:
    """Log-odds of a defect, of crops of one side without and with one, and the key of the picture of each."""

    side_px: int
    free: tuple[float, ...]
    defect: tuple[float, ...]
    free_from: tuple[str, ...]
    defect_from: tuple[str, ...]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GOOD_SCORES.dump_json(self) + b"\n")

    @classmethod
    def load(cls, path: Path) -> GoodScores:
        """Raises TrainingError for a file that is none."""
        try:
            return GOOD_SCORES.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise TrainingError(f"{path}: no scores of crops. Delete it: they are measured again") from error


GOOD_SCORES: Final = TypeAdapter(GoodScores)


def good_scores(classifier: Classifier, crops: Crops) -> GoodScores:
    """What the file says of the crops of a fold that it was not trained on."""

    def odds(tiles: Gray) -> tuple[float, ...]:
        return tuple(defectiveness(score_images(classifier, list(tiles))).round(5).tolist()) if len(tiles) else ()

    return GoodScores(crops.side_px, odds(crops.free), odds(crops.defect), crops.free_from, crops.defect_from)


def good_ranking(parts: Sequence[GoodScores], *, seed: int = 0) -> Ranking | None:
    """AUROC of defective against free crops, pooled over folds; None where there are none of one kind."""
    return ranking(
        [v for part in parts for v in part.defect],
        [v for part in parts for v in part.free],
        positive_from=[key for part in parts for key in part.defect_from],
        negative_from=[key for part in parts for key in part.free_from],
        seed=seed,
    )


def good_surface(variant: str, files: Iterable[Path], how: str) -> tuple[GoodSurface, ...]:
    """One figure for each side, pooled over the files of the folds.  how: what the pictures are."""
    by_side: dict[int, list[GoodScores]] = {}
    for path in sorted(files):
        scores = GoodScores.load(path)
        by_side.setdefault(scores.side_px, []).append(scores)
    ranked = {side: good_ranking(parts) for side, parts in sorted(by_side.items(), reverse=True)}
    return tuple(GoodSurface(variant, side, how, one) for side, one in ranked.items() if one is not None)
