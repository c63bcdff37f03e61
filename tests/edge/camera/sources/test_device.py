"""V4L2 devices: what is requested of the driver, and in which order."""

from __future__ import annotations

import cv2
import pytest

from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.device import configure_device
from edge.camera.sources.registry import open_source
from edge.errors import CameraError


class Capture:
    """A V4L2 device that records the requests in order, and refuses some of them."""

    def __init__(self, refused: tuple[tuple[int, float], ...] = ()) -> None:
        self.requests: list[tuple[int, float]] = []
        self.refused = refused

    def set(self, prop: int, value: float) -> bool:
        self.requests.append((prop, value))
        return (prop, value) not in self.refused


def test_device_is_asked_for_format_size_rate_exposure_and_gain_in_this_order():
    """Drivers list sizes per format and rates per size; automatic exposure would undo a set one."""
    capture = Capture()
    spec = SourceSpec("0", fps=60, width=1600, height=256, pixel_format="GREY", exposure=40, gain=2)
    configure_device(capture, spec)
    assert capture.requests == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"GREY")),
        (cv2.CAP_PROP_CONVERT_RGB, 0),
        (cv2.CAP_PROP_FRAME_WIDTH, 1600),
        (cv2.CAP_PROP_FRAME_HEIGHT, 256),
        (cv2.CAP_PROP_FPS, 60),
        (cv2.CAP_PROP_AUTO_EXPOSURE, 1),
        (cv2.CAP_PROP_EXPOSURE, 40),
        (cv2.CAP_PROP_GAIN, 2),
    ]


def test_device_without_exposure_is_set_to_automatic():
    """USB cameras know only mode 3, others only mode 0."""
    capture = Capture(refused=((cv2.CAP_PROP_AUTO_EXPOSURE, 3),))
    configure_device(capture, SourceSpec("0"))
    assert capture.requests == [(cv2.CAP_PROP_AUTO_EXPOSURE, 3), (cv2.CAP_PROP_AUTO_EXPOSURE, 0)]


def test_missing_device_is_reported_with_those_that_exist():
    """The message names the path and the remedy."""
    with pytest.raises(CameraError, match=r"/dev/video97 does not exist; devices here: .*by-id"):
        open_source(SourceSpec("97"))
