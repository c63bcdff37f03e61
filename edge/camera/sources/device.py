"""The door to cv2.VideoCapture: devices, streams, recordings and the generated strip, as gray pictures.

One class per kind of source, all with the same four words (`given`, `read`, `take_lost`, `close`). They raise and
never retry: the supervisor restarts. Each comment that names OpenCV says which of its habits the line answers.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import socket
import ssl
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import SplitResult, urlsplit

# OpenCV reads this once, when it is loaded: more than 2^30 pixels would pass its own default.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "200000000")

import cv2
import numpy as np

from edge.camera.sources.simulator import Strip
from edge.errors import CameraError, DefectdError, EndOfRecording, ImageError
from edge.frame import Gray
from edge.host.clock import NS_PER_S, Clock, SystemClock

if TYPE_CHECKING:
    from edge.config import Camera  # never loaded here: the camera process does without pydantic

# What cannot be decoded is raised here; OpenCV would print it to stderr besides.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MAX_PIXELS = 200_000_000
MAX_FILE_BYTES = 1 << 30
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"))
VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm", ".ts", ".mjpeg", ".h264"))
DEFAULT_FPS = 30.0
"""Of images and the strip, where nothing is configured."""
DRAIN_MOST = 300
DRAIN_MOST_S = 1.0
"""After that a stream that is still faster than its own clock is taken for a recording behind a URL."""

Kind = Literal["device", "stream", "strip", "video", "image", "folder", "glob"]
LossReason = Literal["stale", "unreadable"]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What to open and how.  Plain, so that the camera process need not load the configuration's libraries."""

    url: str
    fps: float | None = None
    """Asked of a device; paces recordings and the strip; 0 is as fast as possible; None is the source's own."""
    loop: bool = False
    live: bool = False
    """A live source cannot wait: where there is no room its frames are dropped."""
    width: int | None = None
    height: int | None = None
    pixel_format: str | None = None
    exposure: float | None = None
    gain: float | None = None
    rtsp_transport: str = "tcp"
    open_timeout_s: float = 3.0
    read_timeout_s: float = 2.0

    @classmethod
    def of(cls, camera: Camera) -> SourceSpec:
        """What a configured camera has to open."""
        url = camera.source.get_secret_value()
        return cls(
            url=url,
            fps=camera.fps,
            loop=camera.loop,
            live=is_live(url, camera.live),
            width=camera.width,
            height=camera.height,
            pixel_format=camera.pixel_format,
            exposure=camera.exposure,
            gain=camera.gain,
            rtsp_transport=camera.rtsp_transport,
            open_timeout_s=camera.open_timeout_s,
            read_timeout_s=camera.read_timeout_s,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SourceSpec:
        """Raises CameraError if the text is not what `to_json` wrote."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise CameraError(f"the job of this camera process cannot be read: {error}") from None

    def __repr__(self) -> str:
        # The URL may hold a password, and a repr ends in logs.
        return f"SourceSpec({public(self.url)!r})"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What the source really gave, read back after opening.  0, "" or None where it does not say."""

    backend: str
    width: int = 0
    height: int = 0
    fps: float = 0.0
    pixel_format: str = ""
    exposure: float | None = None
    gain: float | None = None

    def __str__(self) -> str:
        rate = f" at {self.fps:g} fps" if self.fps else ""
        return f"{self.backend} {self.width}x{self.height} {self.pixel_format}".rstrip() + rate

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SourceInfo:
        """Raises TypeError if the fields are others, or no numbers where numbers belong."""
        given = cls(**fields)
        numbers = (given.width, given.height, given.fps, given.exposure or 0, given.gain or 0)
        if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers) or given.fps < 0:
            raise TypeError("what a source gave is no number")
        if not isinstance(given.backend, str) or not isinstance(given.pixel_format, str):
            raise TypeError("what a source gave is no text")
        return given


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture.  pixels: (H, W) uint8, its own memory, or the source's until the next read."""

    pixels: Gray
    label: str = ""
    """For recordings: the path of the file, relative to the folder that was opened."""
    decode_us: int = 0
    """What decoding and turning gray cost, without the wait for the camera."""
    number: int = 0
    """Counts from 0 within its file."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One input of a recording that gave no picture."""

    label: str
    error: DefectdError


@dataclass(frozen=True, slots=True)
class Lost:
    """Pictures that never became frames: a backlog that was too old, files that could not be decoded."""

    count: int
    reason: LossReason
    detail: str = ""


class Source(Protocol):
    """An open source.  One thread."""

    @property
    def given(self) -> SourceInfo: ...

    @property
    def period_s(self) -> float:
        """Time from picture to picture that the reader has to keep; 0: the source keeps its own."""
        ...

    def read(self) -> Picture:
        """The next picture; blocks until it is there.

        Raises EndOfRecording at the end of a recording, CameraError when the source has failed: then only
        `close` may follow.
        """
        ...

    def take_lost(self) -> tuple[Lost, ...]:
        """What was lost since the last call."""
        ...

    def close(self) -> None:
        """Always safe, also twice."""
        ...


def open_source(spec: SourceSpec, clock: Clock | None = None) -> Source:
    """Open what `spec.url` names.  Raises CameraError with the remedy; credentials never stand in it."""
    clock = clock or SystemClock()
    kind = kind_of(spec.url)
    if kind == "strip":
        return _StripSource(spec, clock)
    if kind == "device":
        return _open_device(spec, clock)
    if kind == "stream":
        return _open_stream(spec, clock)
    if kind == "video":
        return _VideoSource(spec, clock)
    return _ImageSource(spec, clock)


def kind_of(url: str) -> Kind:
    """What a configured source is: by its form, and for paths by what lies there now."""
    if url.startswith("strip:"):
        return "strip"
    if url.isdigit() or url.startswith(("/dev/video", "/dev/v4l")):
        return "device"
    if "://" in url and not url.startswith("file://"):
        return "stream"
    path = _path(url)
    if path.is_dir():
        return "folder"
    if glob.has_magic(str(path)) and not path.exists():
        return "glob"
    return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"


def is_live(url: str, configured: bool | None = None) -> bool:  # noqa: FBT001 (the key of the configuration)
    """Whether a source cannot wait: devices, streams and the strip, unless configured.  Touches no file."""
    if configured is not None:
        return configured
    return url.isdigit() or url.startswith(("strip:", "/dev/")) or ("://" in url and not url.startswith("file://"))


def device_path(url: str) -> Path:
    """The file of a V4L2 device, which may be named by its number."""
    return Path(f"/dev/video{url}" if url.isdigit() else url)


def public(url: str) -> str:
    """The source as messages may show it: no user, password or query, which is where cameras take tokens."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return url.split("://", 1)[0] + "://(not a valid URL)"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"


def capture_environment(spec: SourceSpec) -> dict[str, str]:
    """What OpenCV takes from the environment alone; best set before it is loaded.

    One decoder thread: with more, FFmpeg holds frames back, and reads after a cut return pictures that are not
    there. No `fflags;nobuffer`, although it promises low delay: it throws the first key frame away, so that a
    camera whose key frames are further apart than the read timeout never delivers. The short probe leaves a
    few old frames instead, which are discarded and counted after opening.
    """
    names = {
        "OPENCV_FFMPEG_THREADS": "1",
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": "",
        "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": str(math.ceil(spec.read_timeout_s)),
        "OPENCV_LOG_LEVEL": "ERROR",
    }
    if spec.url.startswith(("rtsp:", "rtsps:")):
        options = ("rtsp_transport", spec.rtsp_transport), ("analyzeduration", "200000"), ("probesize", "32768")
        names["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "|".join(f"{k};{v}" for k, v in (*options, ("flags", "low_delay")))
    elif kind_of(spec.url) == "stream":
        names["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "analyzeduration;200000|flags;low_delay"
    return names


def to_gray(picture: np.ndarray[Any, Any]) -> Gray:
    """Any decoded picture as (H, W) uint8.  16 bit lose their low byte, alpha is ignored.

    BGR is weighed by ITU-R BT.601; where all three channels are equal, the result is that channel exactly.
    Raises ImageError for other types.
    """
    if picture.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels are {picture.dtype}; only 8 and 16 bit can be inspected")
    if picture.ndim == 3:
        channels = picture.shape[2]
        if channels in (3, 4):
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)
        else:
            picture = picture[:, :, 0]  # gray as one channel, or luma first as in YUYV
    if picture.dtype == np.uint16:
        # Always the same rule: stretching to the contrast of the picture would hide how dark it is.
        picture = (picture >> 8).astype(np.uint8)
    return np.ascontiguousarray(picture, np.uint8)


# Image files -----------------------------------------------------------------------------------------------------


def read_image(path: str | Path) -> Gray:
    """Decode one image file.  Returns (H, W) uint8.  Raises ImageError; prints nothing."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a directory; give an image file")
        status = path.stat()
        size_bytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is no regular file")  # reading a pipe or /dev/zero would not end
        if size_bytes > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {size_bytes} bytes; at most {MAX_FILE_BYTES} are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Gray:
    """Decode the bytes of an image file; `name` stands in messages.  Returns (H, W) uint8.  Raises ImageError."""
    if not data:
        raise ImageError(f"{name} is empty")
    # A cut file comes back as None, or from older OpenCV as a picture whose rest is gray: look before decoding.
    problem = _flaw(data)
    if problem:
        raise ImageError(f"{name} {problem}")
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        # Among them "pixels <= CV_IO_MAX_IMAGE_PIXELS" and failed allocations.
        reason = " ".join(str(error).split())[-200:]
        raise ImageError(f"{name} cannot be decoded: {reason}") from None
    if picture is None:
        raise ImageError(f"{name} is no image that can be decoded, or is damaged")
    if picture.size == 0 or picture.size > MAX_PIXELS:
        raise ImageError(f"{name} has {picture.size} pixels; 1 to {MAX_PIXELS} are inspected")
    return to_gray(picture)


def _flaw(data: bytes) -> str:
    """What can be told about an image file without decoding it, as the end of a sentence; "" if nothing is wrong."""
    size = (1, 1)
    whole = True
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            size = struct.unpack_from(">II", data, 16)
            flaw = _png_flaw(data)
            if flaw:
                return flaw
        elif data.startswith(b"\xff\xd8"):
            size, whole = _walk_jpeg(data)
        elif data.startswith(b"BM"):
            w, h = struct.unpack_from("<ii", data, 18)
            size = (abs(w), abs(h))
        elif re.match(rb"P[1-6]\s", data):
            found = _PNM_SIZE.match(data)
            size = (int(found[1][:12]), int(found[2][:12])) if found else (1, 1)
    except struct.error:
        whole = False
    if not whole:
        return "is cut off"
    if size[0] == 0 or size[1] == 0:
        return "has no pixels"
    if size[0] * size[1] > MAX_PIXELS:
        return f"is too large: {size[0]} x {size[1]} pixels; at most {MAX_PIXELS} are decoded"
    return ""


def _png_flaw(data: bytes) -> str:
    """Walk the chunks to the end mark.  libpng finds the same, but prints it to stderr."""
    at = 8
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        if crc != zlib.crc32(data[at + 4 : at + 8 + length]):
            return f"is damaged: the checksum of its {name.decode('latin-1')} chunk is wrong"
        if name == b"IEND":
            return ""
        at += 12 + length


_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_PNM_SIZE = re.compile(rb"P\d(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")
# Neither repeats within a repetition: a card full of 0xff or blanks is searched in linear time.


def _walk_jpeg(data: bytes) -> tuple[tuple[int, int], bool]:
    """Width and height, and whether the end mark is there.  Segments are skipped: thumbnails have marks too."""
    size = (1, 1)
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        marker = found[1][0]
        if marker == 0xD9:
            return size, True
        (length,) = struct.unpack_from(">H", data, found.end())
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            h, w = struct.unpack_from(">HH", data, found.end() + 3)
            size = (w, h)
        at = found.end() + length
    return size, False


# Recordings ------------------------------------------------------------------------------------------------------


def find_images(url: str) -> tuple[Path, tuple[str, ...]]:
    """The base folder and the relative names of the images under a folder, in a glob, or the one image itself.

    Sorted as people count (2 before 10).  Hidden files are left out.  Raises CameraError if there are none.
    """
    base, names = _find(url, IMAGE_SUFFIXES)
    if not names:
        raise CameraError(f"{url} holds no images; known are {' '.join(sorted(IMAGE_SUFFIXES))}")
    return base, names


def iter_recording(url: str | Path) -> Iterator[Picture | Unreadable]:
    """Every picture of an image, video, folder (also below it) or glob, once and unpaced; labels are whole paths.

    What cannot be read comes as `Unreadable`, and the rest goes on.
    """
    text = str(url)
    kind = kind_of(text)
    if kind in ("device", "stream", "strip"):
        yield Unreadable(public(text), CameraError(f"{public(text)} is no recording; give a file, a folder or a glob"))
        return
    if kind in ("image", "video"):
        yield from _pictures_of(_path(text))
        return
    try:
        base, names = _find(text, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    except DefectdError as error:
        yield Unreadable(text, error)
        return
    if not names:
        yield Unreadable(text, CameraError(f"{text} holds neither images nor videos"))
    for name in names:
        yield from _pictures_of(base / name)


def count_pictures(url: str) -> int:
    """About how many `iter_recording` gives, to tell how long that takes; 0 where it gives none."""
    if kind_of(url) in ("device", "stream", "strip"):
        return 0
    try:
        base, names = _find(url, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    except DefectdError:
        return 0
    return sum(1 if Path(name).suffix.lower() in IMAGE_SUFFIXES else _length_of(base / name) for name in names)


def _length_of(video: Path) -> int:
    """As its container says, which may be wrong."""
    try:
        source = _VideoSource(SourceSpec(str(video)), SystemClock())
    except DefectdError:
        return 0
    try:
        return source.length
    finally:
        source.close()


def _pictures_of(path: Path) -> Iterator[Picture | Unreadable]:
    label = str(path)
    clock = SystemClock()
    source: Source | None = None
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            start = clock.monotonic_ns()
            pixels = read_image(path)
            yield Picture(pixels, label, (clock.monotonic_ns() - start) // 1000)
            return
        source = _VideoSource(SourceSpec(label), clock)
        while True:
            picture = source.read()
            yield Picture(picture.pixels, label, picture.decode_us, picture.number)
    except EndOfRecording:
        pass
    except DefectdError as error:
        yield Unreadable(label, error)
    finally:
        if source is not None:
            source.close()


def _path(url: str) -> Path:
    return Path(url.removeprefix("file://")).expanduser()


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: digits by value, the rest as text."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _find(url: str, suffixes: frozenset[str]) -> tuple[Path, tuple[str, ...]]:
    path = _path(url)
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
            raise CameraError(f"{url} cannot be listed: {error.strerror}") from None
    else:
        text = str(path)
        # The part before the first magic character is what names are relative to.
        plain = Path(text[: next(i for i, c in enumerate(text) if c in "*?[")])
        base = plain if text[: len(str(plain)) + 1].endswith("/") else plain.parent
        found = [os.path.relpath(name, base) for name in glob.iglob(text, recursive=True) if os.path.isfile(name)]  # noqa: PTH113, PTH207
    names = (n for n in found if Path(n).suffix.lower() in suffixes and not Path(n).name.startswith("."))
    return base, tuple(sorted(names, key=_natural))


def _pace_s(fps: float) -> float:
    return 1.0 / fps if fps > 0 else 0.0


class _ImageSource:
    """One image, a folder or a glob of images."""

    def __init__(self, spec: SourceSpec, clock: Clock) -> None:
        self._clock = clock
        self._loop = spec.loop
        self._lost: list[Lost] = []
        self._at = 0
        self._bad_in_a_row = 0
        if kind_of(spec.url) == "image" and not _path(spec.url).exists():
            raise CameraError(f"{spec.url} does not exist; check `source` of this camera")
        self._base, self._names = find_images(spec.url)
        self._ready: Picture | None = self._next()  # so that `given` is known, and a folder of rubbish is refused
        h, w = self._ready.pixels.shape
        fps = DEFAULT_FPS if spec.fps is None else spec.fps
        self.period_s = _pace_s(fps)
        self.given = SourceInfo("images", w, h, fps, "GREY")

    def read(self) -> Picture:
        picture, self._ready = self._ready, None
        return picture or self._next()

    def _next(self) -> Picture:
        while True:
            if self._bad_in_a_row >= len(self._names):
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
                self._bad_in_a_row += 1
                self._lost.append(Lost(1, "unreadable", str(error)))
                continue
            self._bad_in_a_row = 0
            return Picture(pixels, name, (self._clock.monotonic_ns() - start) // 1000)

    def take_lost(self) -> tuple[Lost, ...]:
        lost, self._lost = tuple(self._lost), []
        return lost

    def close(self) -> None:
        self._names = ()


class _VideoSource:
    """A video file, by FFmpeg."""

    def __init__(self, spec: SourceSpec, clock: Clock) -> None:
        self._clock = clock
        self._loop = spec.loop
        self._path = _path(spec.url)
        self._number = 0
        self._capture = self._open()
        own_fps = _sane_fps(self._capture.get(cv2.CAP_PROP_FPS)) or DEFAULT_FPS
        self.period_s = _pace_s(own_fps if spec.fps is None else spec.fps)
        self.given = _given_by(self._capture, fps=own_fps)

    @property
    def length(self) -> int:
        """Pictures, as the container says; 0 where it does not."""
        told = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(told) if math.isfinite(told) and 0 < told < MAX_PIXELS else 0

    def _open(self) -> cv2.VideoCapture:
        if not self._path.exists():
            raise CameraError(f"{self._path} does not exist; check `source` of this camera")
        if not self._path.is_file():
            raise CameraError(f"{self._path} is no regular file; check `source` of this camera")
        if not os.access(self._path, os.R_OK):
            raise CameraError(f"{self._path} may not be read by this user; change its permissions")
        # Options meant for streams would act on files too.
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = ""
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            capture.release()
            raise CameraError(f"{self._path} is no video that FFmpeg can open, or is damaged")
        return capture

    def read(self) -> Picture:
        start = self._clock.monotonic_ns()
        ok, picture = self._capture.read()
        if not ok and self._number == 0:
            raise CameraError(f"{self._path} holds no picture that can be decoded")
        if not ok and not self._loop:
            raise EndOfRecording("the video was shown to its end")
        if not ok:
            # Opened anew: seeking to 0 lands on the wrong frame in some containers.
            self._capture.release()
            self._capture = self._open()
            self._number = 0
            return self.read()
        pixels = to_gray(picture)
        number, self._number = self._number, self._number + 1
        return Picture(pixels, self._path.name, (self._clock.monotonic_ns() - start) // 1000, number)

    def take_lost(self) -> tuple[Lost, ...]:
        return ()

    def close(self) -> None:
        self._capture.release()


class _StripSource:
    """The generated strip."""

    def __init__(self, spec: SourceSpec, clock: Clock) -> None:
        self._clock = clock
        self._strip = Strip.from_url(spec.url)
        self._number = 0
        fps = DEFAULT_FPS if spec.fps is None else spec.fps
        self.period_s = _pace_s(fps)
        self.given = SourceInfo("strip", self._strip.width, self._strip.height, fps, "GREY")

    def read(self) -> Picture:
        start = self._clock.monotonic_ns()
        pixels = self._strip.frame(self._number)
        number, self._number = self._number, self._number + 1
        return Picture(pixels, "", (self._clock.monotonic_ns() - start) // 1000, number)

    def take_lost(self) -> tuple[Lost, ...]:
        return ()

    def close(self) -> None:
        pass


# Devices and streams ---------------------------------------------------------------------------------------------


class _LiveCapture:
    """An open cv2.VideoCapture of a device or a stream."""

    period_s = 0.0

    def __init__(
        self, capture: cv2.VideoCapture, name: str, given: SourceInfo, read_timeout_s: float, clock: Clock
    ) -> None:
        self._capture = capture
        self._name = name
        self._timeout_s = read_timeout_s
        self._clock = clock
        self._lost: tuple[Lost, ...] = ()
        self._grabbed = False
        self.given = given

    def drain(self) -> None:
        """Discard what the library had buffered before anyone looked: pictures that come without waiting.

        Such pictures can be seconds old, and their stamps would say they are new.
        """
        period_s = 1.0 / min(max(self.given.fps or 25.0, 1.0), 120.0)
        stale, waited_s, spent_s = 0, 0.0, 0.0
        while stale < DRAIN_MOST and spent_s < DRAIN_MOST_S:
            waited_s = self._grab()
            if waited_s >= period_s / 2:
                self._grabbed = True  # this one is fresh: the next read returns it
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
        pixels = to_gray(picture)
        return Picture(pixels, "", (self._clock.monotonic_ns() - start) // 1000)

    def _grab(self) -> float:
        """Wait for the next picture.  Returns the seconds it took."""
        start = self._clock.monotonic_ns()
        ok = self._capture.grab()
        waited_s = (self._clock.monotonic_ns() - start) / NS_PER_S
        if waited_s >= self._timeout_s:
            # Also if it says ok: after a timeout FFmpeg hands out what its decoder still held.
            raise CameraError(
                f"{self._name} gave no picture within {self._timeout_s:g} s; "
                "raise read_timeout_s if its pictures are further apart"
            )
        if not ok:
            # isOpened() still says True, and the capture stays dead: a new one is needed.
            raise CameraError(f"{self._name} stopped: the other side closed, or the device is gone")
        return waited_s

    def take_lost(self) -> tuple[Lost, ...]:
        lost, self._lost = self._lost, ()
        return lost

    def close(self) -> None:
        self._capture.release()


def _given_by(capture: cv2.VideoCapture, *, fps: float | None = None, controls: bool = False) -> SourceInfo:
    """Read back.  controls: exposure and gain too, which FFmpeg does not know."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    text = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    return SourceInfo(
        capture.getBackendName(),
        int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        _sane_fps(capture.get(cv2.CAP_PROP_FPS)) if fps is None else fps,
        text if text.isprintable() else "",
        _finite(capture.get(cv2.CAP_PROP_EXPOSURE)) if controls else None,
        _finite(capture.get(cv2.CAP_PROP_GAIN)) if controls else None,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sane_fps(fps: float) -> float:
    """0 where a container or driver says nothing or nonsense (90000, NaN)."""
    return round(fps, 3) if math.isfinite(fps) and 0.01 <= fps <= 1000 else 0.0


def _open_device(spec: SourceSpec, clock: Clock) -> Source:
    path = device_path(spec.url)
    if not path.exists():
        there = " ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise CameraError(f"{path} does not exist; devices here: {there}. Plug it in, or name it by /dev/v4l/by-id")
    if not os.access(path, os.R_OK | os.W_OK):
        raise CameraError(f"{path} may not be opened by this user; add it to the group `video`")
    os.environ.update(capture_environment(spec))
    capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise CameraError(f"{path} does not open; another program may hold it, or it is no capture device")
    configure_device(capture, spec)
    return _LiveCapture(capture, str(path), _given_by(capture, controls=True), spec.read_timeout_s, clock)


class _Settable(Protocol):
    def set(self, prop: int, value: float, /) -> bool: ...


def configure_device(capture: _Settable, spec: SourceSpec) -> None:
    """Ask a V4L2 device for what the configuration wants.  What it refuses shows in `Given`.

    The format comes first, because drivers list sizes per format and rates per size. V4L2 numbers the modes of
    exposure: 1 is manual, 3 automatic with a fixed aperture (USB cameras), 0 automatic.
    """
    if spec.pixel_format:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*spec.pixel_format))
        if spec.pixel_format == "GREY":
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # else gray is blown up to BGR
    if spec.width:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, spec.width)
    if spec.height:
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, spec.height)
    if spec.fps:
        capture.set(cv2.CAP_PROP_FPS, spec.fps)
    if spec.exposure is None:
        if not capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 3):
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 0)
    else:
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 1)
        capture.set(cv2.CAP_PROP_EXPOSURE, spec.exposure)
    if spec.gain is not None:
        capture.set(cv2.CAP_PROP_GAIN, spec.gain)


def _open_stream(spec: SourceSpec, clock: Clock) -> Source:
    name = public(spec.url)
    try:
        parts = urlsplit(spec.url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise CameraError(f"{name}: {error}; check `source` of this camera") from None
    if host and parts.scheme in _PORTS:
        # FFmpeg resolves names outside its timeouts.
        _bounded(lambda: _resolve(name, host), spec.open_timeout_s, f"{name}: the name service does not answer")
    os.environ.update(capture_environment(spec))
    open_ms, read_ms = round(spec.open_timeout_s * 1000), round(spec.read_timeout_s * 1000)
    start = clock.monotonic_ns()
    # With no backend named, OpenCV ignores the timeouts; set later, they do nothing.
    capture = cv2.VideoCapture(
        spec.url,
        cv2.CAP_FFMPEG,
        [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms),
            *(cv2.CAP_PROP_N_THREADS, 1),
        ],
    )
    if not capture.isOpened():
        capture.release()
        took_s = (clock.monotonic_ns() - start) / NS_PER_S
        late = f"{name} did not open within {spec.open_timeout_s:g} s; it may be switched off, or raise open_timeout_s"
        _bounded(lambda: _diagnose(parts, name), min(2.0, spec.read_timeout_s), late)
        known = parts.scheme in _PORTS
        none = f"{name} answers, but gives no video that opens" if known else f"{name} does not open; check `source`"
        raise CameraError(late if took_s >= spec.open_timeout_s else none)
    source = _LiveCapture(capture, name, _given_by(capture), spec.read_timeout_s, clock)
    try:
        source.drain()
    except CameraError:
        source.close()
        raise
    return source


# Why a stream does not open: OpenCV only says no ------------------------------------------------------------------

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def _bounded(step: Callable[[], None], limit_s: float, late: str) -> None:
    """Run `step` for at most `limit_s`; raise its CameraError, or one that says `late`.

    In a thread, because the name service has no timeout; a thread left behind dies with the camera process.
    """
    raised: list[CameraError] = []

    def run() -> None:
        try:
            step()
        except CameraError as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="diagnose", daemon=True)
    thread.start()
    thread.join(limit_s)
    if raised:
        raise raised[0]
    if thread.is_alive():
        raise CameraError(late)


def _resolve(name: str, host: str) -> None:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise CameraError(f"{name}: the name {host} is not known; check it, or give the address ({error})") from None


def _diagnose(parts: SplitResult, name: str) -> None:
    """Talk to the other side once and raise what is wrong, if that can be told."""
    if parts.scheme not in _PORTS or not parts.hostname:
        return
    port = parts.port or _PORTS[parts.scheme]
    try:
        status = _ask(parts, port)
    except ConnectionRefusedError:
        raise CameraError(f"{name} refused the connection; nothing listens on port {port}") from None
    except TimeoutError:
        raise CameraError(f"{name} does not answer; check its power, cable and address") from None
    except OSError as error:
        raise CameraError(f"{name} cannot be reached: {error.strerror or error}") from None
    if status == 401 and not parts.username:
        raise CameraError(f"{name} wants a login (401); write user:password@ before the host, best by ${{file:PATH}}")
    if status in (401, 403):
        raise CameraError(f"{name} wants a login ({status}) and does not open with this one; check user and password")
    if status >= 400:
        raise CameraError(f"{name} answers {status}; check the path")


def _ask(parts: SplitResult, port: int) -> int:
    """The status of one request without a login, 0 if the answer is none.  Raises OSError."""
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme.startswith("rtsp"):
        address = f"{parts.scheme}://{host}:{port}{path}"
        request = f"DESCRIBE {address} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    else:
        request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    with socket.create_connection((host, port), timeout=2.0) as connection:
        link: socket.socket = connection
        if parts.scheme in ("rtsps", "https"):
            context = ssl.create_default_context()
            # FFmpeg does not check the certificate either, and nothing secret is sent here.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            link = context.wrap_socket(connection, server_hostname=host)
        with link:
            link.sendall(request.encode("ascii", "replace"))
            answer = link.recv(64)
    found = re.match(rb"(?:RTSP|HTTP)/\d\.\d (\d{3})", answer)
    return int(found[1]) if found else 0
