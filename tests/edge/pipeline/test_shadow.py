"""The model that looks on: its share, its time, and what it judges otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from fakes import FakeClock

from edge.host.clock import NS_PER_MS, NS_PER_S
from edge.pipeline.shadow import MAX_FAILURES, Shadow
from edge.vision.decision import Detections, Region
from edge.vision.inspector import Verdict

OK = Verdict("ok", Detections((), ()), 8, inference_ns=2 * NS_PER_MS)
FLAW = replace(OK, state="defect", detections=Detections((Region("scratches", 0.9, (0, 0, 9, 9), 1),), ()))
OTHER = replace(FLAW, detections=Detections((Region("patches", 0.9, (0, 0, 9, 9), 1),), ()))
PIXELS = np.zeros((4, 4), np.uint8)


class Second:
    """A second model that says what it is told to, and takes its time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.says: Verdict | Exception = OK
        self.takes_ms = 4
        self.asked = 0

    def follow(self, _pixels: Any) -> None:
        """Its region is fixed."""

    def tiles(self, _pixels: Any) -> int:
        return 8

    def inspect(self, _pixels: Any, *, looked: bool) -> Verdict:
        assert looked
        self.asked += 1
        self.clock.advance(self.takes_ms * NS_PER_MS / NS_PER_S)
        if isinstance(self.says, Exception):
            raise self.says
        return replace(self.says, inference_ns=self.takes_ms * NS_PER_MS)


def scene(share: float = 1.0) -> tuple[Shadow, Second]:
    clock = FakeClock()
    second: Any = Second(clock)
    return Shadow({"name": "second"}, share, {"top": second}, clock), second


def test_it_judges_its_share_of_the_frames_and_counts_what_is_otherwise():
    """By both states, and by class where the state is the same."""
    shadow, second = scene(0.25)
    for n in range(40):
        second.says = (OK, FLAW, OTHER, FLAW)[n // 10]
        shadow.watch("top", PIXELS, OK if n < 20 else FLAW, NS_PER_S)
    tally = shadow.tallies["top"]
    assert second.asked == tally.frames == 10
    assert set(tally.otherwise) == {"ok>defect", "class"}
    assert tally.disagreed == sum(tally.otherwise.values()) == 5
    assert shadow.as_json("top") == {"model": {"name": "second"}, "share": 0.25, **tally.as_json()}
    assert shadow.as_json("side") is None


def test_it_never_runs_without_time_to_spare():
    """At first its cost is that of the other model, then its own, with half as much again."""
    shadow, second = scene()
    shadow.watch("top", PIXELS, OK, int(2.9 * NS_PER_MS))
    assert second.asked == 0
    shadow.watch("top", PIXELS, OK, int(3.1 * NS_PER_MS))
    assert second.asked == 1
    shadow.watch("top", PIXELS, OK, int(5.9 * NS_PER_MS))
    assert second.asked == 1
    shadow.watch("top", PIXELS, OK, int(6.1 * NS_PER_MS))
    assert second.asked == 2
    assert (shadow.tallies["top"].frames, shadow.tallies["top"].no_time) == (2, 2)


def test_frames_that_were_not_judged_whole_are_no_comparison():
    """Cut down, or no picture of the surface."""
    shadow, second = scene()
    shadow.watch("top", PIXELS, replace(OK, skipped=3), NS_PER_S)
    shadow.watch("top", PIXELS, replace(OK, state="bad_image"), NS_PER_S)
    assert second.asked == 0


def test_one_that_keeps_failing_is_left_alone(caplog):
    """A call that fails, scores that are no numbers: counted, told once, never raised."""
    shadow, second = scene()
    second.says = ValueError("broken")
    for _ in range(MAX_FAILURES - 1):
        shadow.watch("top", PIXELS, OK, NS_PER_S)
    second.says = OK
    shadow.watch("top", PIXELS, OK, NS_PER_S)
    second.says = replace(OK, broken=1)
    for _ in range(2 * MAX_FAILURES):
        shadow.watch("top", PIXELS, OK, NS_PER_S)
    assert second.asked == 2 * MAX_FAILURES
    assert shadow.tallies["top"].failed == 2 * MAX_FAILURES - 1
    assert caplog.text.count("left alone") == 1
