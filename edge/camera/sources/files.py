"""Recordings: image files, folders and globs of images, video files."""

from __future__ import annotations

import glob
import math
import os
import re
from pathlib import Path
from typing import Final, Literal

import cv2

from edge.camera.image_files import IMAGE_SUFFIXES, MAX_PIXELS, read_image, shown, to_gray
from edge.camera.sources import capture
from edge.camera.sources.contract import DEFAULT_FPS, Lost, Picture, Source, SourceInfo, SourceSpec, pace_s
from edge.errors import CameraError, EndOfRecording, ImageError
from edge.host.clock import Clock
from edge.host.text import is_valid, one_line

VIDEO_SUFFIXES: Final = frozenset(
    (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm", ".ts", ".mjpeg", ".h264")
)

MAX_PATH: Final = 4096
"""Characters of a path or a pattern.  Source: PATH_MAX of Linux."""
COUNTING_SUFFIXES: Final = frozenset((".avi", ".mp4", ".m4v", ".mov"))
"""Containers that list every picture."""
TIMING_SUFFIXES: Final = frozenset((".mkv", ".webm"))
"""Containers that state a duration, from which the number of pictures is estimated."""
MIN_MISSING_SHARE: Final = 0.1
"""Of an estimated number of pictures: fewer missing ones may be the estimate's fault."""
MAX_DECODED_TO_SKIP: Final = 2000
"""Pictures that are decoded to come behind them.  Seeking is faster, and in some containers inexact."""

FileKind = Literal["image", "video", "folder", "glob"]


def is_path(_url: str) -> bool:
    """A source that matches no other row of the registry is a path."""
    return True


def open_recording(spec: SourceSpec, clock: Clock) -> Source:
    return VideoSource(spec, clock) if kind_of(spec.url) == "video" else ImageSource(spec, clock)


def opencv_backend(url: str) -> str:
    return "FFMPEG" if kind_of(url) == "video" else ""


def kind_of(url: str) -> FileKind:
    """What lies at this path now; where nothing does, what its name suggests."""
    path = path_of(url)
    if len(url) > MAX_PATH:  # no file has such a name, and as a pattern it would be searched for minutes
        return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where this user may not look, or the name is too long)
        return "folder"
    if glob.has_magic(str(path)) and not os.path.exists(path):  # noqa: PTH110
        return "glob"
    return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"


def path_of(url: str) -> Path:
    path = Path(url.removeprefix("file://"))
    try:
        return path.expanduser()
    except RuntimeError:  # the home of an unknown user: such a path does not exist
        return path


def check_exists(path: Path) -> None:
    """Raises CameraError with the reason where there is no such file, or this user may not see it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path
        raise CameraError(f"{shown(path)} does not exist; check `source` of this camera") from None
    except OSError as error:
        raise CameraError(f"{shown(path)} cannot be opened: {error.strerror}; check `source` of this camera") from None


def find_images(url: str) -> tuple[Path, tuple[str, ...]]:
    """The base folder, and the names relative to it, of the images in a folder or glob, or of the one image itself.

    Sorted as people count (2 before 10).  Hidden files are left out.  Raises CameraError if there are none.
    """
    base, names = find_files(url, IMAGE_SUFFIXES)
    if not names:
        raise CameraError(f"{shown(url)} holds no images; known are {' '.join(sorted(IMAGE_SUFFIXES))}")
    return base, names


def find_files(url: str, suffixes: frozenset[str]) -> tuple[Path, tuple[str, ...]]:
    """Like `find_images`, for any suffixes.  May find nothing.  Raises CameraError for a folder it cannot list."""
    path = path_of(url)
    kind = kind_of(url)
    if kind in ("image", "video"):
        return path.parent, (path.name,)
    if kind == "folder":
        base = path
        try:
            found = []
            for folder, folders, files in os.walk(path):
                folders[:] = [name for name in folders if not name.startswith(".")]
                found += [os.path.relpath(os.path.join(folder, name), path) for name in files]  # noqa: PTH118
        except OSError as error:
            raise CameraError(f"{shown(url)} cannot be listed: {error.strerror}") from None
    else:
        text = str(path)
        # Names are relative to the part before the first magic character.
        plain = Path(text[: next(i for i, c in enumerate(text) if c in "*?[")])
        base = plain if text[: len(str(plain)) + 1].endswith("/") else plain.parent
        try:
            there = [name for name in glob.iglob(text, recursive=True) if os.path.isfile(name)]  # noqa: PTH113, PTH207
        except (OSError, ValueError) as error:  # ValueError: characters that no name of a file can have
            raise CameraError(f"{shown(url)} cannot be listed: {one_line(str(error))}") from None
        found = [os.path.relpath(name, base) for name in there]
    names = (n for n in found if Path(n).suffix.lower() in suffixes and not Path(n).name.startswith("."))
    return base, tuple(sorted(names, key=_natural_order))


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key: digits by value, the rest as text."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


class ImageSource:
    """One image, a folder or a glob of images."""

    def __init__(self, spec: SourceSpec, clock: Clock) -> None:
        """Raises CameraError when there is no image that can be read."""
        self._clock = clock
        self._loop = spec.loop
        self._lost: list[Lost] = []
        self._at = 0
        self._unreadable_in_a_row = 0
        if kind_of(spec.url) == "image":
            check_exists(path_of(spec.url))
        self._base, self._names = find_images(spec.url)
        self._at = spec.skip % len(self._names) if self._loop else spec.skip
        # Read now: the actual format is known, and a folder without one readable image is refused.
        self._first: Picture | None = None
        h = w = 0
        try:
            self._first = self._next()
            h, w = self._first.pixels.shape
        except EndOfRecording:
            pass  # the first `read` raises it: an earlier process came this far
        fps = DEFAULT_FPS if spec.fps is None else spec.fps
        self.period_s = pace_s(fps)
        self.actual = SourceInfo("images", w, h, fps, "GREY")

    def read(self) -> Picture:
        first, self._first = self._first, None
        return first or self._next()

    def _next(self) -> Picture:
        while True:
            if self._unreadable_in_a_row >= len(self._names):
                raise CameraError(f"no image of {len(self._names)} can be read; the last: {self._lost[-1].detail}")
            if self._at >= len(self._names):
                if not self._loop:
                    raise EndOfRecording("all images were shown")
                self._at = 0
            name = self._names[self._at]
            self._at += 1
            start = self._clock.monotonic_ns()
            try:
                pixels = read_image(self._base / name)
            except ImageError as error:
                self._unreadable_in_a_row += 1
                self._lost.append(Lost(1, "unreadable", str(error)))
                continue
            self._unreadable_in_a_row = 0
            return Picture(pixels, shown(name), (self._clock.monotonic_ns() - start) // 1000)

    def take_lost(self) -> tuple[Lost, ...]:
        lost, self._lost = tuple(self._lost), []
        return lost

    def close(self) -> None:
        self._names = ()


class VideoSource:
    """A video file, decoded by FFmpeg."""

    def __init__(self, spec: SourceSpec, clock: Clock) -> None:
        """Raises CameraError when it does not open."""
        self._clock = clock
        self._loop = spec.loop
        self._path = path_of(spec.url)
        self._number = 0
        self._lost: tuple[Lost, ...] = ()
        self._capture = self._open()
        if not self._loop:  # of a loop it is not known which round it was in
            self._skip(spec.skip)
        own_fps = capture.read_fps(self._capture) or DEFAULT_FPS
        self.period_s = pace_s(own_fps if spec.fps is None else spec.fps)
        self.actual = capture.read_info(self._capture, fps=own_fps)

    @property
    def length(self) -> int:
        """Number of pictures that the container states, which may be wrong; 0 where it states none."""
        length = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(length) if math.isfinite(length) and 0 < length < MAX_PIXELS else 0

    def _skip(self, count: int) -> None:
        if count > MAX_DECODED_TO_SKIP and self._capture.set(cv2.CAP_PROP_POS_FRAMES, count):
            self._number = count
            return
        while self._number < count and self._capture.grab():
            self._number += 1

    def _open(self) -> capture.Capture:
        check_exists(self._path)
        if not self._path.is_file():
            raise CameraError(f"{shown(self._path)} is not a regular file; check `source` of this camera")
        if not os.access(self._path, os.R_OK):
            raise CameraError(f"{shown(self._path)} may not be read by this user; change its permissions")
        if not is_valid(str(self._path)):  # OpenCV crashes at a name that is not UTF-8
            raise CameraError(f"{shown(self._path)} has a name that is not UTF-8; rename it")
        video = capture.open_ffmpeg(str(self._path), ffmpeg_options="")
        if video is None:
            raise CameraError(f"{shown(self._path)} is not a video that FFmpeg can open, or is damaged")
        return video

    def read(self) -> Picture:
        start = self._clock.monotonic_ns()
        ok, picture = self._capture.read()
        if not ok and self._number == 0:
            raise CameraError(f"{shown(self._path)} holds no picture that can be decoded")
        if not ok:
            self._count_missing()
        if not ok and not self._loop:
            raise EndOfRecording("the video was shown to its end")
        if not ok:
            # Open the file again: seeking to 0 lands on the wrong frame in some containers.
            self._capture.release()
            self._capture = self._open()
            self._number = 0
            return self.read()
        pixels = to_gray(picture, shown(self._path))
        number, self._number = self._number, self._number + 1
        return Picture(pixels, shown(self._path.name), (self._clock.monotonic_ns() - start) // 1000, number)

    def _count_missing(self) -> None:
        """At the end: FFmpeg leaves out what it cannot decode, and stops where a file is cut off, without an error."""
        suffix, length = self._path.suffix.lower(), self.length
        missing = length - self._number
        is_listed = suffix in COUNTING_SUFFIXES
        if missing <= 0 or not (is_listed or (suffix in TIMING_SUFFIXES and missing > MIN_MISSING_SHARE * length)):
            return
        states = "lists" if is_listed else "has about"
        words = (
            f"{shown(self._path)} {states} {length} pictures, of which {self._number} could be decoded: is it damaged?"
        )
        self._lost = (*self._lost, Lost(missing, "unreadable", words))

    def take_lost(self) -> tuple[Lost, ...]:
        lost, self._lost = self._lost, ()
        return lost

    def close(self) -> None:
        self._capture.release()
