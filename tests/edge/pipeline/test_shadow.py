"""The shadow model: its share of the frames, its time, and its disagreements."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from fakes.clock import FakeClock

from edge.host.clock import NS_PER_MS, NS_PER_S
from edge.pipeline.shadow import MAX_FAILURES, Shadow
from edge.vision.decision import Detections, Region
from edge.vision.inspector import Verdict

OK = Verdict("ok", Detections((), ()), 8, inference_ns=2 * NS_PER_MS)
DEFECT = replace(OK, state="defect", detections=Detections((Region("scratches", 0.9, (0, 0, 9, 9), 1),), ()))
OTHER = replace(DEFECT, detections=Detections((Region("patches", 0.9, (0, 0, 9, 9), 1),), ()))
PIXELS = np.zeros((4, 4), np.uint8)


class ShadowInspector:
    """An inspector with a scripted verdict and duration."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.verdict: Verdict | Exception = OK
        self.duration_ms = 4
        self.inspected = 0

    def prepare(self, _pixels: Any, *, follow: bool) -> Any:
        assert follow, "its own inspector finds the strip"
        return SimpleNamespace(tiles=8)

    def inspect(self, _prepared: Any, *, is_over: Any = None) -> Verdict:
        self.inspected += 1
        self.clock.advance(self.duration_ms * NS_PER_MS / NS_PER_S)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return replace(self.verdict, inference_ns=self.duration_ms * NS_PER_MS)


def shadowed(share: float = 1.0) -> tuple[Shadow, ShadowInspector]:
    clock = FakeClock()
    inspector: Any = ShadowInspector(clock)
    return Shadow({"name": "second"}, share, {"top": inspector}, clock), inspector


def test_shadow_inspects_its_share_and_counts_disagreements():
    """By both states, and by class where the state is the same."""
    shadow, inspector = shadowed(0.25)
    for n in range(40):
        inspector.verdict = (OK, DEFECT, OTHER, DEFECT)[n // 10]
        shadow.compare("top", PIXELS, OK if n < 20 else DEFECT, NS_PER_S)
    tally = shadow.tallies["top"]
    assert inspector.inspected == tally.frames == 10
    assert set(tally.otherwise) == {"ok>defect", "class"}
    assert tally.disagreed == sum(tally.otherwise.values()) == 5
    assert shadow.as_json("top") == {"model": {"name": "second"}, "share": 0.25, **tally.as_json()}
    assert shadow.as_json("side") is None


def test_verdict_of_the_shadow_model_is_shown_where_it_differs():
    """Only then: the owner shows the tile to people."""
    shadow, inspector = shadowed()
    inspector.verdict = DEFECT
    disputes: list[Verdict] = []
    for ours in (DEFECT, OK):
        shadow.compare("top", PIXELS, ours, NS_PER_S, on_dispute=disputes.append)
    assert [theirs.state for theirs in disputes] == ["defect"]


def test_shadow_never_runs_without_time_to_spare():
    """Until its cost is measured it counts as the deciding model's; one and a half times its cost must be free."""
    shadow, inspector = shadowed()
    shadow.compare("top", PIXELS, OK, int(2.9 * NS_PER_MS))
    assert inspector.inspected == 0
    shadow.compare("top", PIXELS, OK, int(3.1 * NS_PER_MS))
    assert inspector.inspected == 1
    shadow.compare("top", PIXELS, OK, int(5.9 * NS_PER_MS))
    assert inspector.inspected == 1
    shadow.compare("top", PIXELS, OK, int(6.1 * NS_PER_MS))
    assert inspector.inspected == 2
    assert (shadow.tallies["top"].frames, shadow.tallies["top"].no_time) == (2, 2)


def test_partial_and_bad_frames_are_not_compared():
    """Tiles were left out, or the picture shows no surface."""
    shadow, inspector = shadowed()
    shadow.compare("top", PIXELS, replace(OK, skipped=3), NS_PER_S)
    shadow.compare("top", PIXELS, replace(OK, state="bad_image"), NS_PER_S)
    assert inspector.inspected == 0


def test_shadow_that_keeps_failing_is_no_longer_run(caplog):
    """A call that raises and scores that are not finite are counted, logged once, never raised."""
    shadow, inspector = shadowed()
    inspector.verdict = ValueError("broken")
    for _ in range(MAX_FAILURES - 1):
        shadow.compare("top", PIXELS, OK, NS_PER_S)
    inspector.verdict = OK
    shadow.compare("top", PIXELS, OK, NS_PER_S)
    inspector.verdict = replace(OK, broken=1)
    for _ in range(2 * MAX_FAILURES):
        shadow.compare("top", PIXELS, OK, NS_PER_S)
    assert inspector.inspected == 2 * MAX_FAILURES
    assert shadow.tallies["top"].failed == 2 * MAX_FAILURES - 1
    assert caplog.text.count("no longer run") == 1
