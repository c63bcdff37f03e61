"""How far a tile is from good surface."""

import cv2
import numpy as np
import pytest

from edge.bundle import FP32, load
from edge.errors import ConfigError
from edge.vision.classifier import Scores
from edge.vision.normality import Contrast, Model, Normality, View, fitting, joined

SIDE = 100


def scores_of(count, fill=0.0, features=4):
    return Scores(np.full((count, 6), fill, np.float32), np.full((count, features), fill, np.float32), None)


def plain(size):
    return View(np.eye(size, dtype=np.float32), np.zeros(size, np.float32), 0.0, 1.0)


def normality(sha256="a" * 64):
    return Normality(Model("tiny", "1", sha256), SIDE, (plain(4), plain(6), plain(6)), 3.0, 2.0)


@pytest.mark.parametrize("side", [100, 64, 90])
def test_contrast_is_that_of_each_pixel_against_its_neighbours(side):
    """More tiles than are taken at once, of an even and an odd half: as computed tile by tile with cv2."""
    tiles = np.random.default_rng(side).integers(0, 256, (70, side, side), np.uint8)
    found = Contrast(side)(tiles)
    for tile, spots in zip(tiles, found, strict=True):
        expected, small = [], tile
        for level in (1, 2):
            half = side >> level
            whole = np.ascontiguousarray(small[: 2 * half, : 2 * half])
            small = cv2.resize(whole, (half, half), interpolation=cv2.INTER_AREA)
            wide = small.astype(np.float64)
            contrast = wide - cv2.blur(wide, (5, 5), borderType=cv2.BORDER_REFLECT)
            expected += [np.log(contrast.max() + 0.5), np.log(0.5 - contrast.min()), np.log(abs(contrast).mean() + 0.2)]
        assert spots == pytest.approx(expected, abs=1e-5)


def test_a_spot_of_a_few_pixels_shows():
    """Dark or bright, in the middle or at the border, on smooth surface."""
    surface = np.full((4, SIDE, SIDE), 120, np.uint8)
    surface[1, 50:53, 50:53] = 60
    surface[2, 0:3, 97:100] = 180
    spots = Contrast(SIDE)(surface)
    assert spots[1, 1] > spots[0, 1] + 2
    assert spots[2, 0] > spots[0, 0] + 2
    assert spots[3].tolist() == spots[0].tolist()


def test_views_are_joined_like_a_length():
    """What is common does not count; one view that is far off is enough."""
    common, far = np.array([-3.0], np.float32), np.array([9.0], np.float32)
    assert joined([common, common, common]).tolist() == [0.0]
    assert joined([common, far, common]).tolist() == [10.0]
    assert joined([far, far, far]) == pytest.approx([10 * 3**0.5])


def test_scores_that_are_no_numbers_stay_that():
    """Nobody may take them for good surface."""
    broken = scores_of(2)
    broken.features[1] = np.nan
    found = normality().score(np.zeros((2, SIDE, SIDE), np.uint8), broken)
    assert np.isnan(found).tolist() == [False, True]


def test_a_file_gives_back_what_was_written(tmp_path):
    """Bit for bit, without pickles."""
    made = normality()
    path = tmp_path / "top.npz"
    path.write_bytes(made.coded())
    read = Normality.read(path)
    tiles = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE), np.uint8)
    assert read.score(tiles, scores_of(5, 2.0)).tolist() == made.score(tiles, scores_of(5, 2.0)).tolist()
    assert (read.model, read.threshold, read.doubt) == (made.model, 3.0, 2.0)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-60], lambda b: b"", lambda b: b"PK" + b[:99], lambda b: b + bytes(9 << 20)]
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    """With the key, the file, and what to run."""
    path = tmp_path / "top.npz"
    path.write_bytes(damage(normality().coded()))
    with pytest.raises(ConfigError, match=r"cameras.normality.*calibrate normal"):
        Normality.read(path)
    with pytest.raises(ConfigError, match="No such file"):
        Normality.read(tmp_path / "none.npz")


def test_a_calibration_of_another_model_is_refused():
    """It names both models and the command; the one that fits is found among several; none at all is no fault."""
    card = load("builtin").card
    ours = normality(card.files[FP32])
    assert fitting((), card, "top") is None
    assert fitting((normality(), ours), card, "top") is ours
    with pytest.raises(ConfigError, match=r"tiny 1 \(aaaaaaaaaaaa\).*calibrate normal --camera top.*--bundle"):
        fitting((normality(),), card, "top")
