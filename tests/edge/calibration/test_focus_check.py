"""Whether footage is in focus, independent of the noise."""

import cv2
import numpy as np
import pytest

from edge.calibration.focus_check import FocusCheck
from edge.camera.sources.simulator import Strip


def checked(*images):
    focus = FocusCheck()
    for image in images:
        focus.add(image)
    return focus


def blurred(sigma_px, noise, count=6):
    """Frames of the strip through a lens out of focus, on a sensor with noise."""
    strip, generator = Strip(width=400, height=200, seed=3), np.random.default_rng(1)
    for number in range(count):
        image = strip.frame(50 * number).astype(np.float32)
        if sigma_px:
            image = cv2.GaussianBlur(image, (0, 0), sigma_px)
        yield np.clip(np.rint(image + generator.normal(0, noise, image.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
def test_a_lens_out_of_focus_is_detected(noise):
    """A blur of 2 px and more, on a quiet sensor and on a noisy one, whose noise is perfectly sharp."""
    assert not checked(*blurred(0, noise)).is_soft
    assert not checked(*blurred(1, noise)).is_soft
    assert checked(*blurred(2, noise)).is_soft
    assert checked(*blurred(4, noise)).is_soft


def test_motion_blur_along_the_strip_is_accepted():
    """Blurred one way, sharp the other."""
    kernel = np.full((15, 1), 1 / 15, np.float32)
    assert not checked(*(cv2.filter2D(image, -1, kernel) for image in blurred(0, 0.0))).is_soft


@pytest.mark.parametrize(
    "image",
    [
        np.full((100, 100), 90, np.uint8),
        np.random.default_rng(0).normal(90, 3, (400, 400)).astype(np.uint8),
        np.zeros((6, 300), np.uint8),
    ],
    ids=["even", "noise alone", "a few rows"],
)
def test_without_texture_there_is_no_sharpness(image):
    """Nothing in the image could be sharp."""
    focus = checked(image)
    assert focus.sharpness is None
    assert not focus.is_soft


def test_without_frames_there_is_no_sharpness():
    """Before the first frame."""
    assert FocusCheck().sharpness is None
