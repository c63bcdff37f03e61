"""Coverage, gaps, frame rates: what is published at the end of each window."""

from __future__ import annotations

import pytest
from fakes.inspection import Scene

from edge import config
from edge.camera.notices import FramesLost
from edge.host.clock import NS_PER_S

PLACED = {"scale": config.Scale(mm_per_px=250.0), "direction": "up", "offset_m": -100.0}


def test_frames_lost_on_the_way_are_accounted_for() -> None:
    """Overflow is `dropped`, an unreadable file is `bad_image`; delivered is the sum of all states."""
    scene = Scene()
    scene.play(0, 1, 2)
    scene.note(FramesLost("top", 3, "overflow"), FramesLost("top", 2, "unreadable"))
    report = scene.sessions[0].counters.account.report(scene.clock.monotonic_ns())
    assert report["frames"] == {"ok": 1, "defect": 1, "unsure": 0, "bad_image": 3, "late": 0, "dropped": 3}
    assert report["delivered"] == 8


def test_late_frames_make_a_gap() -> None:
    """Late frames of a window are an event, and are counted."""
    scene = Scene(report_s=1.0)
    scene.note(scene.opened())
    scene.play(0, 0)
    scene.play(0, age_ms=100)
    scene.clock.advance(1.0)
    scene.loop.turn()
    gaps = [event.detail for event in scene.events if event.type == "coverage.gap"]
    assert [gap["frames"] for gap in gaps if gap] == [{"late": 1}]
    (name, message) = scene.coverage[-1]
    assert name == "top"
    assert message["delivered"] == sum(message["frames"].values()) == 3


def test_frame_rate_in_the_state_is_measured() -> None:
    """The state message has the frames per second of the window, not the configured ones."""
    scene = Scene(report_s=2.0)
    scene.note(scene.opened())
    scene.play(*[0] * 20, every_s=0.098)
    scene.clock.advance(1.0)
    scene.loop.turn()
    seconds = scene.coverage[-1][1]["window_s"]
    assert scene.states[-1][1]["fps"] == pytest.approx(20 / seconds, rel=0.01)
    assert seconds < 3 * NS_PER_S


def test_coverage_is_reported_in_metres() -> None:
    """Late frames leave a hole in the strip; the gap has its start and end; the sums add up."""
    scene = Scene(PLACED, travel={"topic": "drive"}, report_s=2.0)
    scene.drive(1.0)
    scene.play(0, 0, 0, 0, 0, every_s=0.1)  # 4 px are 1 m
    scene.clock.advance(0.1)
    scene.play(0, 0, 0, every_s=0.1)
    scene.clock.advance(2.0)
    scene.play(0, age_ms=900)
    scene.play(0, 0)
    (gap,) = scene.details("coverage.gap")
    assert gap["cause"] == "overload"
    assert (gap["from_m"], gap["to_m"]) == (pytest.approx(102.0, abs=0.1), pytest.approx(103.0, abs=0.1))
    strip = scene.coverage[-1][1]["strip"]
    assert strip["passed_m"] == pytest.approx(strip["inspected_m"] + strip["missed_m"])
    assert strip["unplaced_frames"] == 0
