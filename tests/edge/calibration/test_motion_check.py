"""Whether the strip moves, by its texture."""

import numpy as np
import pytest

from edge.calibration.motion_check import EVERY, Stillness
from edge.camera.sources.simulator import Strip
from edge.errors import CalibrationError


def noisy(picture, number):
    return np.clip(picture + np.random.default_rng(number).normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def looked_at(frames):
    stillness = Stillness()
    for frame in frames:
        stillness.see(frame)
    stillness.check()


@pytest.mark.parametrize("speed_px", [1, 24])
def test_strip_that_moves_is_taken(speed_px):
    """Also one that creeps by a pixel a frame."""
    strip = Strip(speed_px=speed_px, noise=0)
    looked_at([noisy(strip.frame(number), number) for number in range(3 * EVERY)])


@pytest.mark.parametrize("lines", [False, True])
def test_strip_that_stands_is_refused_whatever_the_noise_of_the_sensor(lines):
    """No two frames are equal, and they show one piece of strip; an edge that stands still in all changes nothing."""
    steel = Strip().frame(3).astype(np.float32)
    if lines:
        steel[np.abs(np.subtract.outer(np.arange(400), np.arange(800) / 2)) < 2] = 255
    with pytest.raises(CalibrationError, match="the strip must move"):
        looked_at([noisy(steel, number) for number in range(3 * EVERY)])


def test_mark_that_stands_before_a_moving_strip_is_no_standing_strip():
    """A caption or a slanting edge is in every frame."""
    slant = np.abs(np.subtract.outer(np.arange(400), np.arange(800) / 2)) < 2
    frames = [np.where(slant, 255, Strip().frame(number)).astype(np.uint8) for number in range(3 * EVERY)]
    looked_at(frames)
