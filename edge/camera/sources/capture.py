"""The door to cv2.VideoCapture, for devices, streams and video files.

Each comment that names OpenCV or FFmpeg states the behaviour that its line answers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Final

import cv2

from edge.camera.image_files import to_gray
from edge.camera.sources.contract import Lost, Picture, SourceInfo, SourceSpec
from edge.errors import CameraError, ImageError
from edge.host.clock import NS_PER_S, Clock

MAX_BACKLOG: Final = 300
MAX_BACKLOG_S: Final = 1.0
"""A stream that delivers without waiting beyond either limit is a recording behind a URL: it is shown after all."""

Capture = cv2.VideoCapture


def environment(spec: SourceSpec) -> dict[str, str]:
    """What OpenCV reads from the environment alone, partly when it is loaded.

    One decoder thread: with more, FFmpeg holds frames back, and reads after a cut return pictures that are not there.
    """
    return {
        "OPENCV_FFMPEG_THREADS": "1",
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": "",
        "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": str(math.ceil(spec.read_timeout_s)),
        "OPENCV_LOG_LEVEL": "ERROR",
    }


def open_v4l2(path: str, spec: SourceSpec) -> Capture | None:
    """None if the device does not open."""
    os.environ.update(environment(spec))
    return _opened(Capture(path, cv2.CAP_V4L2))


def open_ffmpeg(name: str, ffmpeg_options: str, parameters: Sequence[int] = ()) -> Capture | None:
    """None if FFmpeg does not open it.  ffmpeg_options: "key;value|key;value".  parameters: CAP_PROP, value, ..."""
    # Set each time: options that are meant for streams would act on files, too.
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = ffmpeg_options
    # With no backend named, OpenCV ignores the timeouts; set after opening, they do nothing.
    try:
        return _opened(Capture(name, cv2.CAP_FFMPEG, [*parameters, cv2.CAP_PROP_N_THREADS, 1]))
    except cv2.error:  # its text may repeat the URL, with the password in it
        return None


def _opened(capture: Capture) -> Capture | None:
    if capture.isOpened():
        return capture
    capture.release()
    return None


def read_info(capture: Capture, *, fps: float | None = None, controls: bool = False) -> SourceInfo:
    """The actual format.  controls: exposure and gain too, which FFmpeg does not know."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    text = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    return SourceInfo(
        capture.getBackendName(),
        int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        read_fps(capture) if fps is None else fps,
        text if text.isprintable() else "",
        _finite(capture.get(cv2.CAP_PROP_EXPOSURE)) if controls else None,
        _finite(capture.get(cv2.CAP_PROP_GAIN)) if controls else None,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_fps(capture: Capture) -> float:
    """0 where a container or driver states nothing or nonsense (90000, NaN)."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return round(fps, 3) if math.isfinite(fps) and 0.01 <= fps <= 1000 else 0.0


class LiveCapture:
    """An open capture of a device or a stream, as a Source."""

    period_s = 0.0

    def __init__(self, capture: Capture, name: str, actual: SourceInfo, read_timeout_s: float, clock: Clock) -> None:
        """name: for messages, without credentials."""
        self._capture = capture
        self._name = name
        self._timeout_s = read_timeout_s
        self._clock = clock
        self._lost: tuple[Lost, ...] = ()
        self._grabbed = False
        self.actual = actual

    def discard_backlog(self) -> None:
        """Discard the pictures that the library had buffered while it opened the stream: they come without a wait.

        Such pictures can be seconds old, and their stamps would claim that they are new.
        """
        period_s = 1.0 / min(max(self.actual.fps or 25.0, 1.0), 120.0)
        stale, waited_s, spent_s = 0, 0.0, 0.0
        while stale < MAX_BACKLOG and spent_s < MAX_BACKLOG_S:
            waited_s = self._grab()
            if waited_s >= period_s / 2:
                self._grabbed = True  # this picture is fresh: the next read returns it
                break
            spent_s += waited_s
            stale += 1
        if stale:
            self._lost = (Lost(stale, "stale", "buffered before the stream was open"),)

    def read(self) -> Picture:
        if not self._grabbed:
            self._grab()
        self._grabbed = False
        start = self._clock.monotonic_ns()
        ok, picture = self._capture.retrieve()
        if not ok or picture is None or picture.size == 0:
            raise CameraError(f"{self._name} gave a picture that cannot be decoded")
        try:
            pixels = to_gray(picture, self._name)
        except ImageError as error:
            raise CameraError(str(error)) from None
        return Picture(pixels, "", (self._clock.monotonic_ns() - start) // 1000)

    def _grab(self) -> float:
        """Wait for the next picture.  Returns the seconds it took."""
        start = self._clock.monotonic_ns()
        ok = self._capture.grab()
        waited_s = (self._clock.monotonic_ns() - start) / NS_PER_S
        if waited_s >= self._timeout_s:
            # Even if `ok` is true: after a timeout FFmpeg returns what its decoder still held.
            raise CameraError(
                f"{self._name} gave no picture within {self._timeout_s:g} s; "
                "raise read_timeout_s if its pictures are further apart"
            )
        if not ok:
            # isOpened() stays true, but the capture is dead: a new one is needed.
            raise CameraError(f"{self._name} stopped: the other side closed, or the device is gone")
        return waited_s

    def take_lost(self) -> tuple[Lost, ...]:
        lost, self._lost = self._lost, ()
        return lost

    def close(self) -> None:
        self._capture.release()
