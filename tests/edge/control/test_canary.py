"""A canary is compared with the previous model; differences by chance do not count."""

from __future__ import annotations

import pytest

from edge.control.canary import Canary, Record
from edge.host.clock import NS_PER_S

BEFORE = {"top": Record(1000, 1000, 20, 10)}
AT = {"top": Record(5000, 5000, 100, 50)}


def judgement_of(new: Record, seconds: float = 1, before: dict[str, Record] = BEFORE) -> tuple[str, str]:
    counted = Record(*(a + b for a, b in zip(AT["top"].as_tuple(), new.as_tuple(), strict=True)))
    return Canary(before, AT, 0, 60).judge({"top": counted}, int(seconds * NS_PER_S))


@pytest.mark.parametrize(
    ("new", "words"),
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
def test_canary_fails_by_shares_that_rise_beyond_chance(new, words):
    """A share may double within the margin; it may not rise by more than that."""
    judgement, reason = judgement_of(new)
    assert (judgement in ("unsure", "missed")) == bool(words)
    assert words in reason


def test_canary_is_watched_for_its_time_and_enough_frames():
    """Without frames there is no promotion, however long it takes."""
    assert judgement_of(Record(1000, 1000, 20, 0), 59)[0] == "watching"
    assert judgement_of(Record(1000, 1000, 20, 0), 61)[0] == "good"
    assert judgement_of(Record(50, 50, 0, 0), 10_000)[0] == "watching"


def test_comparison_gives_the_counts_that_are_judged():
    """Of the previous model, and of the canary since the change."""
    canary = Canary(BEFORE, AT, 0, 60)
    found = canary.comparison({"top": Record(5100, 5090, 103, 51)})
    assert found == {"top": {"before": BEFORE["top"].as_json(), "after": Record(100, 90, 3, 1).as_json()}}
    assert canary.canary_s == 60


def test_camera_without_earlier_frames_is_not_compared():
    """The record of the previous model at that camera is unknown."""
    assert judgement_of(Record(1000, 1000, 900, 900), 1, {})[0] == "watching"
    assert judgement_of(Record(1000, 1000, 900, 900), 1, {"top": Record(10, 10, 0, 0)})[0] == "watching"


def test_one_bad_camera_of_several_is_enough():
    """Its share is not averaged with those of healthy cameras."""
    before = dict.fromkeys("abcd", BEFORE["top"])
    now = {**{name: Record(1000, 1000, 20, 0) for name in "abc"}, "d": Record(500, 500, 400, 0)}
    judgement, reason = Canary(before, {}, 0, 60).judge(now, 1)
    assert (judgement, reason.split(":")[0]) == ("unsure", "camera d")


def test_excused_share_counts_as_usual_from_then_on():
    """After frames were missed on a busy machine only a further rise counts; unsure frames count as usual."""
    canary = Canary(BEFORE, {}, 0, 60)
    busy = {"top": Record(1000, 900, 20, 400)}
    assert canary.judge(busy, 1)[0] == "missed"
    canary.excuse(busy)
    assert canary.judge({"top": Record(2000, 1800, 40, 800)}, 1)[0] == "watching"
    assert canary.judge({"top": Record(2000, 1800, 40, 1200)}, 1)[0] == "missed"
    assert canary.judge({"top": Record(2000, 1800, 400, 800)}, 1)[0] == "unsure"
