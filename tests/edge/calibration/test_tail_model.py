"""How often good surface exceeds a level: counted within the footage, extrapolated beyond it."""

import math

import numpy as np
import pytest

from edge.calibration import tail_model
from edge.calibration.tail_model import Tail


def runs_of(*lengths):
    return np.repeat(np.arange(len(lengths)), lengths)


@pytest.mark.parametrize(("count", "probability"), [(19, 0.05), (99, 0.01), (118, 0.01), (118, 0.05), (400, 0.05)])
def test_a_counted_level_is_exceeded_no_more_often_than_allowed(count, probability):
    """For any distribution, here one with a heavy tail: the mean over 1,000 recordings."""
    rng = np.random.default_rng(count)
    seen = rng.standard_cauchy((1000, count))
    levels = np.array([tail_model.conformal(one, probability) for one in seen])
    share = float((rng.standard_cauchy((1000, 200)) > levels[:, None]).mean())
    assert probability - 1.5 / (count + 1) < share < probability * 1.1


def test_too_little_footage_gives_no_counted_level():
    """One alarm in a hundred pieces cannot be counted on 98 of them."""
    assert tail_model.conformal(np.arange(98.0), 0.01) is None
    assert tail_model.conformal(np.arange(99.0), 0.01) == 98.0
    assert tail_model.conformal_share(np.arange(98.0), np.arange(98), 0.01) is None


def test_share_of_tiles_is_counted_in_frames():
    """Ten frames of ten tiles are ten pieces: all tiles of a further one might be anomalous."""
    frames = np.repeat(np.arange(10), 10)
    assert tail_model.conformal_share(np.arange(100.0), frames, 0.05) is None
    level = tail_model.conformal_share(np.arange(100.0), frames, 0.2)
    assert level is not None
    assert (np.arange(100.0) > level).mean() * 10 + 1 <= 0.2 * 11


def test_with_one_tile_in_each_frame_both_counts_are_equal():
    """A share of tiles is then a share of frames."""
    scores = np.random.default_rng(3).normal(size=300)
    for probability in (0.01, 0.05, 0.3):
        assert tail_model.conformal_share(scores, np.arange(300), probability) == tail_model.conformal(
            scores, probability
        )


@pytest.mark.parametrize(
    ("draw", "beyond"),
    [
        (lambda rng: rng.exponential(size=1000), lambda t: math.exp(-t)),
        (lambda rng: rng.standard_normal(1000), lambda t: math.erfc(t / math.sqrt(2)) / 2),
        (
            lambda rng: np.exp(0.5 * rng.standard_normal(1000)),
            lambda t: math.erfc(math.log(t) / 0.5 / math.sqrt(2)) / 2,
        ),
    ],
    ids=["exponential", "normal", "log-normal"],
)
def test_a_level_far_beyond_the_footage_is_right_on_average(draw, beyond):
    """One in ten thousand from a thousand pieces, over ten recordings; and the interval covers the truth."""
    true, covered = [], 0
    for seed in range(10):
        found = Tail.of(draw(np.random.default_rng(seed)))
        level = found.level(1e-4)
        estimate = found.beyond(level)
        assert estimate.mean == pytest.approx(1e-4, rel=0.01)
        true.append(beyond(level))
        covered += estimate.low <= true[-1] <= estimate.high
    assert np.mean(true) < 3e-4
    assert covered >= 7


@pytest.mark.parametrize("count", [25, 100])
@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_a_level_from_few_pieces_is_not_exceeded_more_often_than_allowed(count, sigma):
    """Ten times rarer than the pieces show: the mean over 60 recordings, a few of which may be unlucky."""
    probability, true = 0.1 / count, []
    for seed in range(60):
        level = Tail.of(np.exp(sigma * np.random.default_rng(seed).standard_normal(count))).level(probability)
        true.append(math.erfc(math.log(level) / sigma / math.sqrt(2)) / 2)
    assert np.mean(true) < 1.2 * probability


def test_equal_scores_give_a_level():
    """Footage that never changes must not raise an error."""
    found = Tail.of(np.ones(50))
    assert found.level(1e-6) >= 1.0


def test_an_alarm_needs_the_confirming_frames():
    """2 of 3: the second largest of the last three frames, never over a break."""
    largest = np.array([9.0, 1.0, 8.0, 2.0, 2.0, 7.0, 7.0])
    assert tail_model.confirmed(largest, runs_of(5, 2), 2, 3).tolist() == [-np.inf, 1.0, 8.0, 2.0, 2.0, -np.inf, 7.0]
    assert tail_model.confirmed(largest, runs_of(5, 2), 1, 1) is largest


def test_surface_that_stays_for_ten_frames_is_one_piece():
    """Independent frames are pieces of their own; ten frames that show the same surface are one."""
    rng = np.random.default_rng(1)
    fresh = rng.normal(size=3000)
    assert tail_model.correlation_length(fresh, runs_of(3000)) == 1
    assert 7 <= tail_model.correlation_length(np.repeat(fresh[:300], 10), runs_of(3000)) <= 13
    assert tail_model.pieces_of(runs_of(5, 3), 2).tolist() == [0, 0, 1, 1, 2, 3, 3, 4]
