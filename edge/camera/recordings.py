"""Every picture of a recording, once, unpaced and in this process: for calibration and `defectd inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.camera.image_files import IMAGE_SUFFIXES, read_image, shown
from edge.camera.sources import files
from edge.camera.sources.contract import Picture, SourceSpec, Unreadable
from edge.camera.sources.files import VIDEO_SUFFIXES, VideoSource
from edge.camera.sources.registry import RECORDING, find
from edge.errors import CameraError, DefectdError, EndOfRecording
from edge.host.clock import SystemClock
from edge.host.url import public_url

SUFFIXES: Final = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def iter_recording(url: str | Path) -> Iterator[Picture | Unreadable]:
    """Every picture of an image, video, folder (with those below it) or glob.  Labels are whole paths.

    An input that cannot be read comes as Unreadable; the others follow.
    """
    text = str(url)
    if find(text) is not RECORDING:
        name = shown(public_url(text))
        yield Unreadable(name, CameraError(f"{name} is not a recording; give a file, a folder or a glob"))
        return
    if files.kind_of(text) in ("image", "video"):
        yield from _iter_file(files.path_of(text))
        return
    try:
        base, names = files.find_files(text, SUFFIXES)
    except DefectdError as error:
        yield Unreadable(shown(text), error)
        return
    if not names:
        yield Unreadable(shown(text), CameraError(f"{shown(text)} holds neither images nor videos"))
    for name in names:
        yield from _iter_file(base / name)


def count_pictures(url: str) -> int:
    """Roughly how many pictures `iter_recording` will give, to predict how long that takes; 0 if none."""
    if find(url) is not RECORDING:
        return 0
    try:
        base, names = files.find_files(url, SUFFIXES)
    except DefectdError:
        return 0
    return sum(1 if Path(name).suffix.lower() in IMAGE_SUFFIXES else _length_of(base / name) for name in names)


def _length_of(video: Path) -> int:
    try:
        source = VideoSource(SourceSpec(str(video)), SystemClock())
    except DefectdError:
        return 0
    try:
        return source.length
    finally:
        source.close()


def _iter_file(path: Path) -> Iterator[Picture | Unreadable]:
    label = shown(path)
    clock = SystemClock()
    source: VideoSource | None = None
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            start = clock.monotonic_ns()
            pixels = read_image(path)
            yield Picture(pixels, label, (clock.monotonic_ns() - start) // 1000)
            return
        source = VideoSource(SourceSpec(str(path)), clock)
        while True:
            picture = source.read()
            yield Picture(picture.pixels, label, picture.decode_us, picture.number)
    except EndOfRecording:
        for lost in () if source is None else source.take_lost():
            yield Unreadable(label, CameraError(lost.detail), is_rest=True)
    except DefectdError as error:
        yield Unreadable(label, error)
    finally:
        if source is not None:
            source.close()
