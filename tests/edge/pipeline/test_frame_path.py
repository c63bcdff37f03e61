"""The inspection loop on frames from memory."""

from __future__ import annotations

import numpy as np
from fakes.clock import FakeClock

from edge.model import bundle
from edge.model.classifier import Classifier
from edge.pipeline.frame_path import FramePath, default_camera, generated_frames, summary_of


def test_a_turn_inspects_one_frame_and_bad_images_are_counted_as_missed() -> None:
    """A benchmark must not mistake a frame without inference for a fast one."""
    loaded = bundle.load("builtin")
    classifier, camera, clock = Classifier(loaded), default_camera(loaded), FakeClock()
    path = FramePath(classifier, camera, generated_frames(400, 256), clock)
    path.turn()
    assert path.missed() == 0
    assert len(path.cut()) == path.tiles
    dark = FramePath(classifier, camera, [np.zeros((256, 400), np.uint8)], clock)
    dark.turn()
    assert dark.missed() == 1


def test_generated_frames_have_the_size_that_is_asked_for() -> None:
    """Also where it is smaller than the smallest generated strip."""
    for width, height in ((200, 200), (800, 400)):
        assert {frame.shape for frame in generated_frames(width, height, count=2)} == {(height, width)}


def test_a_summary_is_in_the_unit_that_is_given() -> None:
    """n, median and maximum of durations in ns, as us."""
    summary = summary_of([1000, 2000, 3000], 1e3)
    assert (summary.n, summary.p50, summary.max) == (3, 2.0, 3.0)
