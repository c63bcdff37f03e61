"""Statistics, compared with their definitions and with textbook values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from edge.model.classifier import Scores
from trainer.evaluation import statistics
from trainer.evaluation.statistics import Count


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(72, 72, 0.9501, 1), (71, 72, 0.9250, 0.9996), (69, 72, 0.8830, 0.9913), (0, 10, 0, 0.3085)],
)
def test_interval_is_clopper_and_pearsons(right, of, low, high):
    """Textbook values of the exact 95 % interval."""
    count = Count.exact(right, of)
    assert (count.low, count.high) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))
    assert count.share == right / of


def test_count_without_data_claims_nothing():
    """Without pictures the interval is 0 to 1 and the share is NaN."""
    nothing = Count.exact(0, 0)
    assert (nothing.low, nothing.high) == (0, 1)
    assert math.isnan(nothing.share)


def test_class_rates_are_scikit_learns():
    """Precision, recall and F1 equal those of scikit-learn; a class that is never predicted has no precision."""
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    rates = statistics.class_rates(statistics.confusion(truth, predicted, 4), "abcd")
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=0)
    assert [r.precision.share for r in rates[:3]] == pytest.approx(precision[:3])
    assert [r.recall.share for r in rates] == pytest.approx(recall)
    assert [r.f1 for r in rates] == pytest.approx(f1, abs=1e-5)
    assert rates[3].precision.of == 0


def test_calibration_error_is_the_distance_of_confidence_from_accuracy():
    """Confidence 90 % with accuracy 70 % gives 0.2; confidence equal to accuracy gives about 0."""
    right = np.arange(1000) % 10 < 7
    assert statistics.calibration_error(statistics.reliability(np.full(1000, 0.9), right)) == pytest.approx(0.2)
    rng = np.random.default_rng(0)
    honest = rng.uniform(0, 1, 200_000)
    bins = statistics.reliability(honest, rng.random(200_000) < honest)
    assert statistics.calibration_error(bins) < 0.005
    assert len(bins) == 15
    assert sum(b.n for b in bins) == 200_000


def test_bins_include_0_and_1():
    """0 is in the first bin, 1 in the last."""
    first, last = statistics.reliability([0.0, 1.0], [False, True])
    assert (first.low, last.high) == (0, 1)


def test_auroc_is_scikit_learns():
    """Also with ties, which count half."""
    rng = np.random.default_rng(0)
    up, down = rng.integers(0, 9, 80) + 2, rng.integers(0, 9, 120)
    expected = roc_auc_score([1] * 80 + [0] * 120, [*up, *down])
    assert statistics.auroc(up, down) == pytest.approx(expected)


def test_interval_is_as_wide_for_copies_as_for_the_originals():
    """Ten crops of each picture are not ten times the evidence."""
    rng = np.random.default_rng(0)
    up, down = rng.normal(1, 1, 40), rng.normal(0, 1, 40)
    plain = statistics.ranking(up, down)
    origin = np.repeat(np.arange(40), 10).tolist()
    copied = statistics.ranking(np.repeat(up, 10), np.repeat(down, 10), positive_from=origin, negative_from=origin)
    naive = statistics.ranking(np.repeat(up, 10), np.repeat(down, 10))
    assert copied.auroc == plain.auroc
    assert copied.high - copied.low == pytest.approx(plain.high - plain.low, rel=0.15)
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_ranking_needs_both_kinds():
    """If one kind is empty, there is no ranking."""
    assert statistics.ranking([], [1.0]) is None


def test_pairs_are_compared_by_the_exact_test():
    """McNemar: 8 against 1 gives p = 0.039; pictures on which both agree do not count."""
    first = np.array([True] * 98 + [False] * 2)
    second = first.copy()
    second[:8] = False
    second[-1] = True
    pair = statistics.paired(first, second)
    assert (pair.both, pair.only_first, pair.only_second, pair.neither) == (90, 8, 1, 1)
    assert pair.p_value == pytest.approx(0.0390625, abs=1e-6)
    assert statistics.paired(first, first).p_value == 1


def test_scores_rank_unknown_tiles_and_defects():
    """Unknown scores rise without a likely class, defect log-odds with a low `good`; large logits do not overflow."""
    logits = np.array([[900, 0, 0], [0.1, 0, 0.1]], np.float32)
    good = np.array([[-5], [5]], np.float32)
    scores = Scores(logits, np.zeros((2, 1), np.float32), good)
    for values in statistics.unknown_scores(scores).values():
        assert values[1] > values[0]
    defect, good_surface = statistics.defect_log_odds(scores)
    assert defect > 0 > good_surface
