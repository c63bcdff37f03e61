"""The published confidence is the softmax at another temperature; the likeliest class stays."""

from __future__ import annotations

import numpy as np
import pytest

from edge.model.classifier import Scores
from edge.model.sharpness import sharpened

RNG = np.random.default_rng(3)
LOGITS, GOOD = RNG.normal(0, 3, (40, 5)).astype(np.float32), RNG.normal(0, 3, (40, 1)).astype(np.float32)


@pytest.mark.parametrize("good", [None, GOOD])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 1.8])
def test_sharpened_is_the_softmax_at_the_temperature_over_the_sharpness(good, sharpness):
    """With and without a `good` output."""
    scores = Scores(LOGITS, np.empty((40, 0), np.float32), good)
    found = sharpened(scores.probabilities(1.1), sharpness, has_good=good is not None)
    assert found == pytest.approx(scores.probabilities(1.1 / sharpness), abs=1e-4)


def test_a_damaged_row_stays_damaged():
    """NaN gives NaN, and no warning."""
    rows = np.array([[np.nan, np.nan], [0, 0], [0.9, 0.1]], np.float32)
    found = sharpened(rows, 2.0, has_good=True)
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [0, 0]
    assert found[2, 0] == pytest.approx(0.81 / 0.82)
