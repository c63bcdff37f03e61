"""V4L2 devices, named by index or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import cv2

from edge.camera.sources import capture
from edge.camera.sources.contract import Source, SourceSpec
from edge.errors import CameraError
from edge.host.clock import Clock


def is_device(url: str) -> bool:
    return url.isdigit() or url.startswith(("/dev/video", "/dev/v4l"))


def device_path(url: str) -> Path:
    """The file of a V4L2 device, which may be named by its number."""
    return Path(f"/dev/video{url}" if url.isdigit() else url)


def open_device(spec: SourceSpec, clock: Clock) -> Source:
    path = device_path(spec.url)
    if not path.exists():
        there = " ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise CameraError(f"{path} does not exist; devices here: {there}. Plug it in, or name it by /dev/v4l/by-id")
    if not os.access(path, os.R_OK | os.W_OK):
        raise CameraError(f"{path} may not be opened by this user; add it to the group `video`")
    device = capture.open_v4l2(str(path), spec)
    if device is None:
        raise CameraError(f"{path} does not open; another program may hold it, or it is not a capture device")
    configure_device(device, spec)
    actual = capture.read_info(device, controls=True)
    return capture.LiveCapture(device, str(path), actual, spec.read_timeout_s, clock)


class _Settable(Protocol):
    def set(self, prop: int, value: float, /) -> bool: ...


def configure_device(device: _Settable, spec: SourceSpec) -> None:
    """Request the configured settings from a V4L2 device.  What the driver refuses shows in the actual format.

    The pixel format comes first, because drivers list sizes per format and rates per size. V4L2 numbers the modes of
    exposure: 1 is manual, 3 automatic with a fixed aperture (USB cameras), 0 automatic.
    """
    if spec.pixel_format:
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*spec.pixel_format))
        if spec.pixel_format == "GREY":
            device.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # OpenCV would expand gray to BGR
    if spec.width:
        device.set(cv2.CAP_PROP_FRAME_WIDTH, spec.width)
    if spec.height:
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, spec.height)
    if spec.fps:
        device.set(cv2.CAP_PROP_FPS, spec.fps)
    if spec.exposure is None:
        if not device.set(cv2.CAP_PROP_AUTO_EXPOSURE, 3):
            device.set(cv2.CAP_PROP_AUTO_EXPOSURE, 0)
    else:
        device.set(cv2.CAP_PROP_AUTO_EXPOSURE, 1)
        device.set(cv2.CAP_PROP_EXPOSURE, spec.exposure)
    if spec.gain is not None:
        device.set(cv2.CAP_PROP_GAIN, spec.gain)
