"""Gaussians of good surface, and scores of tiles that they were not fitted on."""

import numpy as np
import pytest

from edge.calibration import gaussian_fit
from edge.calibration.gaussian_fit import Layout
from edge.errors import CalibrationError
from edge.vision.anomaly import LOW_ODDS, ODDS, ODDS_UNIT

LAYOUT = Layout(("logits", "peaks"), np.array([0, 3]))


def tiles(count, seed=0):
    """(count, 8): two views, whose columns are correlated and have different units."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(count, 8)) @ np.random.default_rng(7).normal(size=(8, 8))
    return (mixed * np.geomspace(0.1, 10, 8) + 5).astype(np.float32)


@pytest.mark.parametrize("count", [60, 400, 5000])
def test_scores_are_those_of_tiles_that_were_not_fitted(count):
    """Further tiles exceed a level as often as the counted ones: with cross-validation, and with halves."""
    values, frames = tiles(count), np.arange(count)
    surface, scores, counted = gaussian_fit.scored(values, LAYOUT, frames)
    assert counted.sum() == (count if count < gaussian_fit.SPLIT_FROM else count // 2)
    further = surface.score(tiles(4000, 1))
    level = np.quantile(scores[counted], 0.9)
    assert (further > level).mean() == pytest.approx(0.1, abs=0.3 / np.sqrt(counted.sum()) + 0.01)


def test_an_outlier_in_any_view_is_anomalous():
    """A tile that is far off in one column of either view."""
    surface = gaussian_fit.fitted(tiles(500), LAYOUT)
    usual = np.quantile(surface.score(tiles(500, 1)), 0.999)
    for column in range(8):
        off = tiles(1, 2)
        off[0, column] += 8 * tiles(500)[:, column].std()
        assert surface.score(off)[0] > usual


def test_a_few_defects_do_not_widen_the_gaussians():
    """One tile in twenty is a defect: these have the highest scores."""
    values = tiles(200)
    values[::20, 4] += 12 * values[:, 4].std()
    scores = gaussian_fit.robust_scores(values, LAYOUT, np.arange(200))
    assert set(np.argsort(-scores)[:10].tolist()) == set(range(0, 200, 20))


def test_a_constant_column_does_not_decide_alone():
    """The first small change of a channel that was constant on good surface is no defect; a large one is."""
    values = tiles(400)
    values[:, 5] = 0
    surface = gaussian_fit.fitted(values, LAYOUT)
    others = np.median(values[:, 3:].std(0))
    usual, small, large = (np.tile(values[:50], 1) for _ in range(3))
    small[:, 5], large[:, 5] = 0.05 * others, 10 * others
    ours = [np.median(surface.score(part)) for part in (usual, small, large)]
    assert ours[1] < ours[0] + 0.3
    assert ours[2] > ours[0] + 2


def test_odds_keep_their_unit():
    """The network's opinion counts alike whatever the footage: footage without it cannot show its spread."""
    layout = Layout(("logits", "peaks", ODDS), np.array([0, 3, 8]))
    values = np.concatenate((tiles(60), np.full((60, 1), -9, np.float32)), 1)
    surface, _, _ = gaussian_fit.scored(values, layout, np.arange(60))
    suspect = values.copy()
    suspect[:, 8] = LOW_ODDS + 3 * ODDS_UNIT
    plain, doubted = surface.score(values), surface.score(suspect)
    assert doubted == pytest.approx(np.hypot(plain, 3), abs=1e-3)


def test_all_tiles_of_one_frame_are_refused():
    """No other frame is left to compare them with."""
    with pytest.raises(CalibrationError, match="of a few frames"):
        gaussian_fit.scored(tiles(40), LAYOUT, np.zeros(40, np.intp))
