"""How many cameras a machine keeps up with: the search and the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from edge.pipeline.camera_load import MAX_CAMERAS, MAX_MISSED, PACES_FPS, CameraLoad, until_failing, verdict_of


def load(cameras: int, fps: float, verdict: Any) -> CameraLoad:
    return CameraLoad(cameras, fps, "fp32", verdict, {}, 0.0, 0.0, 0.0, 0.0, 0, 0)


def test_cameras_are_doubled_until_the_machine_fails() -> None:
    """At each pace; the failing number is reported too, and no larger one is tried."""
    tried = [one.cameras for one in until_failing(lambda n, fps: load(n, fps, "stable" if n < 8 else "failing"))]
    assert tried == [1, 2, 4, 8] * len(PACES_FPS)


def test_a_degrading_machine_is_tried_with_more_cameras() -> None:
    """The search ends at MAX_CAMERAS where nothing fails."""
    tried = [one.cameras for one in until_failing(lambda n, fps: load(n, fps, "degrading"))]
    assert max(tried) == MAX_CAMERAS
    assert len(tried) == 6 * len(PACES_FPS)


@pytest.mark.parametrize(
    ("partial", "missed", "verdict"),
    [
        (0.0, -MAX_MISSED, "stable"),
        (0.001, 0.0, "degrading"),
        (0.0, 0.001, "degrading"),
        (0.5, MAX_MISSED, "degrading"),
        (0.0, MAX_MISSED + 0.001, "failing"),
    ],
)
def test_only_missed_frames_make_a_load_failing(partial: float, missed: float, verdict: str) -> None:
    """Stable means every tile of every frame; up to 1 % missed frames, or any number of partial ones, is degrading."""
    assert verdict_of(partial, missed) == verdict
