"""When a new model has done worse than the one before it, and when that is only chance."""

from __future__ import annotations

import pytest

from edge.control.canary import Canary, Record
from edge.host.clock import NS_PER_S

BEFORE = {"top": Record(1000, 1000, 20, 10)}
AT = {"top": Record(5000, 5000, 100, 50)}


def judged(new: Record, seconds: float = 1, before: dict[str, Record] = BEFORE) -> tuple[str, str]:
    counted = Record(*(a + b for a, b in zip(AT["top"].as_tuple(), new.as_tuple(), strict=True)))
    return Canary(before, AT, 0, 60).judge({"top": counted}, int(seconds * NS_PER_S))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (Record(1000, 1000, 25, 10), ""),
        (Record(1000, 1000, 60, 10), ""),
        (Record(1000, 1000, 120, 10), "unsure frames: 12.0% of 1000, with the previous model 2.0% of 1000"),
        (Record(1000, 900, 20, 100), "frames late, dropped or inspected in part: 10.0% of 1000"),
        (Record(110, 110, 11, 0), "unsure"),
        (Record(90, 90, 90, 0), ""),
        (Record(1000, 1000, 0, 0), ""),
    ],
)
def test_new_model_is_judged_by_what_rises_beyond_chance(new, said):
    """A share that doubles within the margin is no complaint; one that rises by more than that is."""
    judgement, reason = judged(new)
    assert (judgement in ("unsure", "missed")) == bool(said)
    assert said in reason


def test_trial_lasts_until_its_time_is_over_and_enough_was_seen():
    """Without frames nothing is proven, however long it takes."""
    assert judged(Record(1000, 1000, 20, 0), 59)[0] == "watching"
    assert judged(Record(1000, 1000, 20, 0), 61)[0] == "good"
    assert judged(Record(50, 50, 0, 0), 10_000)[0] == "watching"


def test_camera_without_a_past_is_not_compared():
    """Nothing is known of what the predecessor would have done there."""
    assert judged(Record(1000, 1000, 900, 900), 1, {})[0] == "watching"
    assert judged(Record(1000, 1000, 900, 900), 1, {"top": Record(10, 10, 0, 0)})[0] == "watching"


def test_one_bad_camera_of_several_is_enough():
    """Its share is not watered down by those at which all is well."""
    before = dict.fromkeys("abcd", BEFORE["top"])
    now = {**{name: Record(1000, 1000, 20, 0) for name in "abc"}, "d": Record(500, 500, 400, 0)}
    judgement, reason = Canary(before, {}, 0, 60).judge(now, 1)
    assert (judgement, reason.split(":")[0]) == ("unsure", "camera d")


def test_what_is_excused_is_usual_from_then_on():
    """Frames missed because the box is busy: only more of them are a complaint; doubt is judged as before."""
    probation = Canary(BEFORE, {}, 0, 60)
    busy = {"top": Record(1000, 900, 20, 400)}
    assert probation.judge(busy, 1)[0] == "missed"
    probation.excuse(busy)
    assert probation.judge({"top": Record(2000, 1800, 40, 800)}, 1)[0] == "watching"
    assert probation.judge({"top": Record(2000, 1800, 40, 1200)}, 1)[0] == "missed"
    assert probation.judge({"top": Record(2000, 1800, 400, 800)}, 1)[0] == "unsure"
