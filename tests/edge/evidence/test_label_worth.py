"""What the labels say about the model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from edge.calibration.binomial import interval
from edge.evidence.label_worth import is_found, worth
from edge.evidence.labels import Label, Origin

CLASSES = ("crazing", "scratches")
LIMITS = {"top": {"crazing": 0.6, "scratches": 0.5}}


def label(name, *, p=0.9, best=None, blind=True, kind=None, decided=None, how="single", model="m", anomaly=None):
    best = best or (name if name in CLASSES else "scratches")
    kind = kind or ("audit" if blind else "unsure")
    origin = Origin("x", "top", kind, decided or best, best, best, p, anomaly, model, blind=blind)
    return Label(1, "0" * 64, name, "ann", "operator", "t", how, origin)


def row(found, name):
    return next(one for one in found.classes if one.name == name)


def test_recall_counts_blind_labels_alone():
    """Labels of pictures that the model chose are counted, and say nothing of what it misses."""
    labels = [label("crazing", p=0.7)] * 7 + [label("crazing", p=0.2)] * 2 + [label("crazing", blind=False)] * 40
    one = row(worth(labels, CLASSES, interval, thresholds=LIMITS), "crazing")
    assert (one.labels, one.blind, one.found, one.named) == (49, 9, 7, 7)
    assert (one.low, one.high) == pytest.approx((0.39991, 0.97186), abs=1e-5)


def test_found_is_at_the_thresholds_in_use():
    """A change of threshold changes recall at once; without thresholds the verdict of that time counts."""
    labels = [label("crazing", p=0.55, decided="unsure")] * 4
    found = [row(worth(labels, CLASSES, interval, thresholds=limits), "crazing").found for limits in (LIMITS, None)]
    assert found == [0, 0]
    lower = {"top": {"crazing": 0.5, "scratches": 0.5}}
    assert row(worth(labels, CLASSES, interval, thresholds=lower), "crazing").found == 4
    assert is_found(label("crazing", p=0.1, anomaly=1.2).origin, LIMITS)
    assert not is_found(label("crazing", p=0.9, anomaly=0.7).origin, LIMITS)


def test_good_tile_is_right_when_it_raises_no_alarm():
    """The row of good counts tiles without an alarm."""
    labels = [label("good", p=0.1)] * 202 + [label("good", p=0.8)] * 2
    one = row(worth(labels, CLASSES, interval, thresholds=LIMITS), "good")
    assert (one.labels, one.found) == (204, 202)
    assert one.low == pytest.approx(0.965, abs=1e-3)


def test_wrong_name_is_found_and_not_named():
    """A defect that the model finds under another name is found."""
    one = row(worth([label("crazing", best="scratches")], CLASSES, interval, thresholds=LIMITS), "crazing")
    assert (one.found, one.named) == (1, 0)


def test_unclear_labels_and_other_models_are_left_out():
    """Both are counted as left out: a guess of another model says nothing of this one."""
    labels = [label("unclear"), label("crazing", model="old"), label("crazing"), label("crazing", model=None)]
    found = worth(labels, CLASSES, interval, thresholds=LIMITS, models={"top": "m"})
    assert (found.unclear, found.left_out, row(found, "crazing").blind, found.labels) == (1, 1, 2, 3)


def test_advice_names_the_widest_interval_and_the_random_tiles_it_needs():
    """Ten more of that class would narrow most; their share among random tiles says how many those are."""
    labels = [label("crazing")] * 4 + [label("scratches")] * 60 + [label("good", p=0.0)] * 336
    found = worth(labels, CLASSES, interval, thresholds=LIMITS)
    assert found.advice is not None
    assert (found.advice.name, found.advice.random_tiles) == ("crazing", 1000)
    one = row(found, "crazing")
    assert one.high_more - one.low_more < one.high - one.low
    assert worth([], CLASSES, interval).advice is not None
    assert worth([], (), interval).advice is None


def test_false_alarms_come_from_defects_in_random_order():
    """Their share of the labelled defects, times the defects an hour; a grid shows one class, and does not count."""
    labels = [
        label(name, kind="defect", blind=False, how=how)
        for name, how in [("good", "single")] * 2 + [("scratches", "single")] * 18 + [("good", "grid")] * 50
    ]
    one = worth(labels, CLASSES, interval, defects_per_hour=6.0).false_alarms
    assert (one.defects, one.false, one.per_hour) == (20, 2, pytest.approx(0.6))
    low, high = interval(2, 20)
    assert (one.low, one.high) == pytest.approx((6 * low, 6 * high))
    assert worth(labels, CLASSES, interval).false_alarms.per_hour is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_intervals_are_those_of_clopper_and_pearson(found, missed):
    """Against scipy's beta quantiles, for any count."""
    labels = [label("crazing")] * found + [label("crazing", p=0.1)] * missed
    one = row(worth(labels, CLASSES, interval, thresholds=LIMITS), "crazing")
    n = found + missed
    low = beta.ppf(0.025, found, missed + 1) if found else 0.0
    high = beta.ppf(0.975, found + 1, missed) if missed else 1.0
    assert (one.blind, one.found) == (n, found)
    assert (one.low, one.high) == pytest.approx((low, high), abs=1e-9)
    assert one.low <= (found / n if n else 0.5) <= one.high


def test_class_that_the_model_does_not_know_has_a_row():
    """People may name a class of another model; nothing is dropped in silence."""
    found = worth([label("holes", best="scratches")], CLASSES, interval, thresholds=LIMITS)
    assert [one.name for one in found.classes] == ["crazing", "scratches", "holes", "good"]
    assert found.guess_right == 0
