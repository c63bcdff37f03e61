"""Crops with and without a defect show what they should, and are ranked over folds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.camera.sources.simulator import Strip
from edge.model.bundle import load
from edge.model.classifier import Classifier
from trainer.data.pictures import Picture
from trainer.evaluation import good_surface
from trainer.recipe import TrainingError

CLASSES = ("patches", "crazing")


@pytest.fixture(scope="module")
def shipped():
    return Classifier(load("builtin"))


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """White squares on black, with their boxes; three of them of a class whose boxes are coarse."""
    folder = tmp_path_factory.mktemp("boxed")
    pictures, boxes = [], {}
    for n in range(6):
        image = np.zeros((200, 200), np.uint8)
        x, y = 10 + 12 * n, 20 * (n % 3)
        image[y : y + 60, x : x + 60] = 255
        cv2.imwrite(str(folder / f"{n}.png"), image)
        boxes[f"{n}"] = [(x, y, x + 60, y + 60)]
        pictures.append(Picture(folder / f"{n}.png", n % 2))
    return pictures, boxes


@pytest.mark.parametrize("side_px", [64, 100])
def test_crops_without_a_defect_touch_no_box(boxed, side_px):
    """They are black, the others are not; all are whole tiles; a coarse class gives none without a defect."""
    pictures, boxes = boxed
    found = good_surface.cut_crops(pictures, boxes, CLASSES, side_px, tile_px=200, seed=0)
    assert found.free.shape == (6, 200, 200)
    assert found.defect.shape == (12, 200, 200)
    assert found.free.max() == 0
    assert (found.defect.max((1, 2)) == 255).all()
    assert len(set(found.free_from)) == 3
    assert len(set(found.defect_from)) == 6
    again = good_surface.cut_crops(pictures[::-1], boxes, CLASSES, side_px, tile_px=200, seed=0)
    assert sorted(again.defect.mean((1, 2))) == sorted(found.defect.mean((1, 2)))


def test_crops_of_pictures_of_several_sizes_are_tiles_of_one_size(boxed, tmp_path):
    """Large pictures give crops at the same scale; pictures smaller than a crop give none."""
    pictures, boxes = boxed
    for name, size in (("large", 330), ("small", 90)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((size, size), np.uint8))
    added = [Picture(tmp_path / f"{name}.png", 0) for name in ("large", "small")]
    boxes = boxes | {"large": [(300, 300, 320, 320)], "small": [(0, 0, 4, 4)]}
    found = good_surface.cut_crops([*pictures, *added], boxes, CLASSES, 100, tile_px=200, seed=0)
    assert found.free.shape == (8, 200, 200)
    assert good_surface.cut_crops(added, boxes, CLASSES, 100, tile_px=64, seed=0).free.shape == (0, 64, 64)


def test_no_boxes_no_crops(boxed, shipped):
    """Without crops there is no ranking, and no error."""
    found = good_surface.cut_crops(boxed[0], {}, CLASSES, 64, tile_px=200, seed=0)
    scores = good_surface.score_crops(shipped, found)
    assert (scores.free, scores.defect) == ((), ())
    assert good_surface.rank_crops([scores]) is None


def test_crop_scores_can_be_written_and_read(boxed, shipped, tmp_path):
    """The file restores the scores; a damaged file is refused by name."""
    found = good_surface.cut_crops(*boxed, CLASSES, 64, tile_px=200, seed=0)
    scores = good_surface.score_crops(shipped, found)
    scores.write(tmp_path / "good" / "64-0.json")
    assert good_surface.CropScores.load(tmp_path / "good" / "64-0.json") == scores
    (tmp_path / "damaged.json").write_bytes(b"{")
    with pytest.raises(TrainingError, match=r"damaged\.json: not a file of crop scores"):
        good_surface.CropScores.load(tmp_path / "damaged.json")


def test_defect_free_steel_ranks_below_defects_pooled_over_folds(shipped, tmp_path):
    """Generated tiles with and without defects, in two files, give one AUROC near 1."""
    strip, plain = Strip(seed=5, spacing_px=500), Strip(seed=5, spacing_px=1_000_000)
    free = [plain.frame(n)[:200, :200] for n in range(8)]
    defect = []
    for n in range(0, 400, 4):
        for _, (x, y, w, h) in strip.truth(n):
            if w > 40 and h > 40 and 0 <= y < 150 and x < 550:
                defect.append(strip.frame(n)[y : y + 200, x : x + 200])
    defect = [d for d in defect if d.shape == (200, 200)]
    for i in (0, 1):
        half = good_surface.Crops(
            200, np.stack(free[i::2]), np.stack(defect[i::2]), ("a",) * 4, ("b",) * len(defect[i::2])
        )
        good_surface.score_crops(shipped, half).write(tmp_path / f"fp32-200-{i}.json")
    (found,) = good_surface.good_surface("fp32", tmp_path.glob("*.json"), "generated")
    assert (found.variant, found.side_px, found.how) == ("fp32", 200, "generated")
    assert found.ranking.negatives == 8
    assert found.ranking.positives == len(defect) > 5
    assert found.ranking.auroc > 0.9
