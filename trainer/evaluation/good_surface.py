"""Defect-free surface: crops with and without a defect from pictures of defects, and how well a file separates them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edge.frame import Gray
from edge.model.classifier import Classifier
from trainer.data.boxes import Boxes
from trainer.data.pictures import Picture, read
from trainer.data.samples import COARSE, squares_near_boxes
from trainer.evaluation.evaluate import score_images
from trainer.evaluation.outcomes import picture_key
from trainer.evaluation.record import GoodSurface
from trainer.evaluation.statistics import Ranking, defect_log_odds, ranking
from trainer.recipe import TrainingError

SIDES_PX: Final = (100, 64)
"""Sides of the crops: a half and a third of a 200 px tile."""
TRIES: Final = 200
"""Random crop positions tried in each picture."""


@dataclass(frozen=True, slots=True)
class Crops:
    """Square crops of one size from pictures of defects, as native tiles.

    free, defect: (N, T, T) uint8, without and with a defect; T is the side of a tile.
    free_from, defect_from: (N,) keys of their pictures.
    """

    side_px: int
    free: Gray
    defect: Gray
    free_from: tuple[str, ...]
    defect_from: tuple[str, ...]


def cut_crops(
    pictures: Sequence[Picture],
    boxes: Boxes,
    classes: Sequence[str],
    side_px: int,
    *,
    tile_px: int,
    seed: int,
    max_per_picture: int = 2,
) -> Crops:
    """Up to `max_per_picture` crops of each kind from each picture, at native scale, mirror-padded to tile_px.

    Crops without a defect keep BOX_MARGIN_PX away from every box. COARSE classes give none, because their defects
    extend beyond their boxes. Crops with a defect show at least 0.3 of a box, or a box covers 0.3 of them. Both kinds
    are padded in the same way, so that sharpness and repetition cannot separate them. Smaller pictures are skipped.
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
        near, visible = squares_near_boxes(x, y, side_px, np.array(found))
        if classes[picture.label] in COARSE:
            near[:] = True
        for crops, usable in ((free, ~near), (defect, visible)):
            for i in np.flatnonzero(usable)[:max_per_picture]:
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
class CropScores:
    """Log-odds of a defect for crops of one size, without and with a defect; and the key of the picture of each."""

    side_px: int
    free: tuple[float, ...]
    defect: tuple[float, ...]
    free_from: tuple[str, ...]
    defect_from: tuple[str, ...]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CROP_SCORES.dump_json(self) + b"\n")

    @classmethod
    def load(cls, path: Path) -> CropScores:
        """Raises TrainingError if the file does not hold scores of crops."""
        try:
            return CROP_SCORES.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise TrainingError(f"{path}: not a file of crop scores. Delete it, the next run measures again") from error


CROP_SCORES: Final = TypeAdapter(CropScores)


def score_crops(classifier: Classifier, crops: Crops) -> CropScores:
    """Score crops of pictures that the network was not trained on."""

    def odds(tiles: Gray) -> tuple[float, ...]:
        return tuple(defect_log_odds(score_images(classifier, list(tiles))).round(5).tolist()) if len(tiles) else ()

    return CropScores(crops.side_px, odds(crops.free), odds(crops.defect), crops.free_from, crops.defect_from)


def rank_crops(parts: Sequence[CropScores], *, seed: int = 0) -> Ranking | None:
    """AUROC of crops with a defect against crops without, pooled over folds; None if one kind is missing."""
    return ranking(
        [v for part in parts for v in part.defect],
        [v for part in parts for v in part.free],
        positive_from=[key for part in parts for key in part.defect_from],
        negative_from=[key for part in parts for key in part.free_from],
        seed=seed,
    )


def good_surface(variant: str, files: Iterable[Path], how: str) -> tuple[GoodSurface, ...]:
    """One AUROC for each crop size, pooled over the files of the folds.  how: the origin of the crops."""
    by_side: dict[int, list[CropScores]] = {}
    for path in sorted(files):
        scores = CropScores.load(path)
        by_side.setdefault(scores.side_px, []).append(scores)
    ranked = {side: rank_crops(parts) for side, parts in sorted(by_side.items(), reverse=True)}
    return tuple(GoodSurface(variant, side, how, one) for side, one in ranked.items() if one is not None)
