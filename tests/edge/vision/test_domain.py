"""Whether a camera shows steel like the training's: the first answer, and changes of it."""

from __future__ import annotations

import math
from typing import Any

from edge.host.clock import NS_PER_S
from edge.vision.domain import INSIDE, OUTSIDE, DomainWatch, Suspect


def fed(watch: DomainWatch, distance: float, parts: int, start_s: float = 0.0) -> list[Any]:
    """Answers that changed while frames with two suspect tiles a second arrive.  A part ends with each 11th second."""
    found = []
    for second in range(11 * parts):
        answer = watch.step([Suspect(0, distance)] * 2, int((start_s + second) * NS_PER_S))
        found += [answer] if answer else []
    return found


def watch() -> DomainWatch:
    return DomainWatch(None)  # type: ignore[arg-type]  # the distances are given


def test_answer_needs_some_parts() -> None:
    """Two are not enough; frames without a suspect tile count nothing."""
    one = watch()
    assert fed(one, 3.0, 2) == []
    for second in range(100):
        assert one.step([], (30 + second) * NS_PER_S) is None
    assert one.answer is None
    assert fed(one, 3.0, 1, 200) == ["outside"]
    assert (one.median, one.answer) == (3.0, "outside")


def test_answer_does_not_flicker_between_the_limits() -> None:
    """Outside ends only below the lower limit, and after several medians there."""
    one = watch()
    assert fed(one, OUTSIDE + 0.1, 12) == ["outside"]
    assert fed(one, (INSIDE + OUTSIDE) / 2, 30, 200) == []
    assert fed(one, INSIDE - 0.1, 7, 600) == []
    assert fed(one, INSIDE - 0.1, 6, 800) == ["inside"]
    assert fed(one, OUTSIDE - 0.01, 30, 1000) == []


def test_mark_that_repeats_in_one_column_is_outvoted() -> None:
    """A mark of a roll is in most of the tiles, but in one column only; the same distance in most columns counts."""
    one, other = watch(), watch()
    for second in range(40):
        mark, defects = [Suspect(2, 3.0)] * 5, [Suspect(second % 4, 0.8)]
        one.step(mark + defects, second * NS_PER_S)
        other.step([Suspect(second % 4, 3.0), Suspect(2, 0.8)], second * NS_PER_S)
    assert (one.answer, other.answer) == ("inside", "outside")


def test_distances_that_are_no_numbers_are_left_out() -> None:
    """A broken network says nothing about the surface."""
    one = watch()
    for second in range(60):
        assert one.step([Suspect(0, math.nan)] * 4, second * NS_PER_S) is None
    assert (one.tiles, one.answer) == (0, None)
