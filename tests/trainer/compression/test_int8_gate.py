"""int8 is refused for a loss that chance does not explain, or that is large; not for counting noise."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.compression.int8_gate import Gate, Pairs, detectable, guarantee, pooled, refusals

CORRUPTIONS = [f"corruption {n}" for n in range(15)]


def measured(n=128, **changes):
    """int8 and fp32 alike on n pictures, clean and under 15 corruptions."""
    return {
        "n": n, "lost": 0, "won": 0, "agreement": 1.0, "corrupted_lost_won": {name: [0, 0] for name in CORRUPTIONS},
        "worse_better": [0, 0], "times_fp32": {"1": 2.0, "18": 2.0, "32": 2.0}, **changes,
    }  # fmt: skip


ONE_EACH = {"corrupted_lost_won": {name: [1, 0] for name in CORRUPTIONS}}


def under(lost, won=0):
    return {"corrupted_lost_won": {name: [0, 0] for name in CORRUPTIONS[1:]} | {CORRUPTIONS[0]: [lost, won]}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"lost": 2}, None),
        ({"lost": 4}, "gets 4 of 128 pictures wrong that fp32 gets right"),
        ({"lost": 9, "won": 8}, None),
        (under(3), None),
        (under(5, 2), None),
        (under(8), "under corruption 0 it gets 8 of 128"),
        (under(20, 6), "under corruption 0"),
        ({"worse_better": [9, 1]} | ONE_EACH, "over 15 corruptions"),
        ({"worse_better": [9, 7]} | ONE_EACH, None),
        ({"agreement": 1 - 5 / 128}, None),
        ({"agreement": 1 - 8 / 128}, "agrees with fp32 on 93.8%"),
        ({"times_fp32": {"1": 1.3, "18": 1.05, "32": 2.0}}, "1.05 times as long for 18 tiles"),
    ],
)
def test_what_is_refused_and_what_is_not(changes, reason):
    """Three lost pictures of 128 prove nothing; four without one won do, and so do many over all corruptions."""
    found = refusals(Gate(), measured(**changes))
    assert len(found) == (reason is not None), found
    assert reason is None or reason in found[0]


def test_a_large_loss_on_few_pictures_is_refused_without_a_test():
    """Three of 20 lost is 15 points: chance could be the reason, and it is refused."""
    assert Pairs(3, 0, 20).p_value > 0.05
    assert refusals(Gate(), measured(20, lost=3))
    assert not refusals(Gate(), measured(20, lost=2))


def test_a_picture_counts_once_over_all_corruptions():
    """Worse or better by its sum; equal where losses and wins are as many."""
    assert pooled({0: 3, 1: -1, 2: 0, 3: 1}) == Pairs(2, 1, 4)


def test_the_statement_says_what_could_not_have_been_found():
    """More pictures find smaller losses; the report names the share."""
    shares = [detectable(n) for n in (3, 30, 128, 1000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert 0.055 < shares[2] < 0.065
    assert "A loss on 5.9% of the pictures or more" in guarantee(Gate(), measured(lost=1))
    assert "Too few pictures" in guarantee(Gate(), measured(3))


def test_equal_networks_are_kept_in_nine_of_ten_trainings():
    """Simulated: pictures at the edge of a class flip either way, more often when corrupted, in clusters by picture."""
    rng = np.random.default_rng(1)
    refused = dict.fromkeys((40, 128, 400), 0)
    for n in refused:
        for _ in range(200):
            unsure = rng.beta(0.3, 6, n)  # the chance that a picture flips under a corruption: few do, these often
            flips = rng.random((15, n)) < unsure
            sign = np.where(rng.random((15, n)) < 0.5, 1, -1) * flips
            net = sign.sum(0)
            clean = np.where(rng.random(n) < 0.5, 1, -1) * (rng.random(n) < 0.2 * unsure)
            found = measured(
                n, lost=int((clean > 0).sum()), won=int((clean < 0).sum()), agreement=1 - float((clean != 0).mean()),
                corrupted_lost_won={
                    name: [int((row > 0).sum()), int((row < 0).sum())]
                    for name, row in zip(CORRUPTIONS, sign, strict=True)
                },
                worse_better=[int((net > 0).sum()), int((net < 0).sum())],
            )  # fmt: skip
            refused[n] += bool(refusals(Gate(), found))
    assert all(count <= 20 for count in refused.values()), refused
