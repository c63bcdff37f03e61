"""Whether the strip moves, by its texture."""

import numpy as np
import pytest

from edge.calibration.motion_check import EVERY, MotionCheck
from edge.camera.sources.simulator import Strip
from edge.errors import CalibrationError


def noisy(picture, number):
    return np.clip(picture + np.random.default_rng(number).normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def check(frames):
    motion = MotionCheck()
    for frame in frames:
        motion.add(frame)
    motion.check()


@pytest.mark.parametrize("speed_px", [1, 24])
def test_strip_that_moves_is_accepted(speed_px):
    """Even at one pixel per frame."""
    strip = Strip(speed_px=speed_px, noise=0)
    check([noisy(strip.frame(number), number) for number in range(3 * EVERY)])


@pytest.mark.parametrize("lines", [False, True])
def test_strip_that_stands_is_refused_whatever_the_noise_of_the_sensor(lines):
    """No two frames are equal, and all show one piece of strip; a still edge in all of them changes nothing."""
    steel = Strip().frame(3).astype(np.float32)
    if lines:
        steel[np.abs(np.subtract.outer(np.arange(400), np.arange(800) / 2)) < 2] = 255
    with pytest.raises(CalibrationError, match="the strip must move"):
        check([noisy(steel, number) for number in range(3 * EVERY)])


def test_still_mark_in_front_of_a_moving_strip_is_accepted():
    """A caption or a slanting edge is in every frame."""
    slant = np.abs(np.subtract.outer(np.arange(400), np.arange(800) / 2)) < 2
    frames = [np.where(slant, 255, Strip().frame(number)).astype(np.uint8) for number in range(3 * EVERY)]
    check(frames)
