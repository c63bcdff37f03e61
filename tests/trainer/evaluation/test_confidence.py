"""The published confidence fits pictures that it was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation import confidence
from trainer.evaluation.statistics import calibration_error_equal_mass, unavoidable_error


def cautious(n, sharpness, seed=0):
    """(probabilities, truth): the labels are drawn from the sharpened rows."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 4))
    rows = np.exp(logits / sharpness)
    exact = np.exp(logits)
    exact /= exact.sum(1, keepdims=True)
    truth = (rng.random((n, 1)) > exact.cumsum(1)).sum(1).clip(0, 3)
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32), truth.astype(np.int64)


@pytest.mark.parametrize("sharpness", [0.7, 1.0, 2.0])
def test_the_sharpness_of_the_labels_is_found(sharpness):
    """Also that of probabilities that claim too much."""
    assert confidence.fit_sharpness(*cautious(4000, sharpness)) == pytest.approx(sharpness, rel=0.1)


def test_a_fold_does_not_judge_the_sharpness_that_it_fitted():
    """Other labels in a fold change the other folds' confidences and not its own."""
    rows, truth = cautious(600, 2.0)
    fold = np.arange(600) % 3
    before = confidence.cross_fitted(rows, truth, fold)
    after = confidence.cross_fitted(rows, np.where(fold == 0, rows.argmin(1), truth), fold)
    assert np.array_equal(before[fold == 0], after[fold == 0])
    assert not np.array_equal(before[fold == 1], after[fold == 1])


def test_the_error_falls_to_what_the_number_of_pictures_leaves():
    """Cautious probabilities, sharpened: the error before is far above, the error after within what chance explains."""
    rows, truth = cautious(2000, 2.0)
    shown = confidence.cross_fitted(rows, truth, np.arange(2000) % 5)
    found = confidence.calibration(rows, shown, rows.argmax(1) == truth, sharpness=2.0, how="")
    assert found.n == 2000
    assert found.before.low > 0.08
    assert found.after.value < 2 * found.expected < 0.05
    assert found.before.low <= found.before.value <= found.before.high


def test_equal_mass_bins_hold_equally_many_predictions():
    """Fifteen bins of ten: a bin that is wrong by half adds a fifteenth of it; few predictions are a bin each."""
    sure, right = np.repeat(np.linspace(0.1, 0.9, 15), 10), np.zeros(150)
    assert calibration_error_equal_mass(sure, right).value == pytest.approx(0.5)
    assert calibration_error_equal_mass([0.8], [True]).value == pytest.approx(0.2)
    assert unavoidable_error(np.ones(30)) == 0.0
    assert unavoidable_error(np.full(30, 0.5)) > unavoidable_error(np.full(3000, 0.5))


def test_few_pictures_that_are_all_right_do_not_make_it_certain():
    """Thirty of thirty at 0.9: published is about what 31 of 32 are."""
    rows = np.repeat(np.array([[0.9, 0.1]], np.float32), 30, 0)
    sharpness = confidence.fit_sharpness(rows, np.zeros(30, np.int64))
    assert confidence.published(rows, sharpness)[0, 0] == pytest.approx(31 / 32, abs=0.005)


def test_without_pictures_nothing_is_sharpened():
    """The probabilities are published as they are."""
    assert confidence.fit_sharpness(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == 1.0
