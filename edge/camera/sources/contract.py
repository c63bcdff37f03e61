"""What every source is: the settings it is opened with, what it delivers, and its row in the registry."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Protocol

from edge.errors import CameraError, DefectdError
from edge.frame import Gray
from edge.host.clock import Clock
from edge.host.text import one_line
from edge.host.url import public_url

DEFAULT_FPS: Final = 30.0
"""Of images and the generated strip, where the configuration names no rate."""
COMMON_SETTINGS: Final = frozenset(("fps", "open_timeout_s", "read_timeout_s"))
"""Fields of SourceSpec that concern every source: the limits for a camera that hangs follow from them."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What to open and how.  Plain, so that the camera process need not load the configuration's libraries."""

    url: str
    fps: float | None = None
    """Requested from a device; paces recordings and the strip; 0: as fast as possible; None: the source's own rate."""
    loop: bool = False
    live: bool = False
    """A live source cannot wait: when no slot of the ring is free, its frames are dropped."""
    width: int | None = None
    height: int | None = None
    pixel_format: str | None = None
    exposure: float | None = None
    gain: float | None = None
    rtsp_transport: str = "tcp"
    open_timeout_s: float = 3.0
    read_timeout_s: float = 2.0
    skip: int = 0
    """Pictures of a recording that earlier processes have dealt with: the first one to read is behind them."""

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
        return f"SourceSpec({public_url(self.url)!r})"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The actual format of an open source, read back from it.  0, "" or None where the source does not state it."""

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
        """Raises TypeError for unknown fields and for values of the wrong type, OverflowError for endless numbers."""
        info = cls(**fields)
        optional = (number for number in (info.exposure, info.gain) if number is not None)
        numbers = (info.width, info.height, info.fps, *optional)
        if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers) or info.fps < 0:
            raise TypeError("a number of the actual camera format is not a number")
        if not isinstance(info.backend, str) or not isinstance(info.pixel_format, str):
            raise TypeError("a text of the actual camera format is not a text")
        return replace(info, backend=one_line(info.backend, 100), pixel_format=one_line(info.pixel_format, 100))


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture.  pixels: (H, W) uint8, its own memory, or the source's until the next read."""

    pixels: Gray
    label: str = ""
    """For recordings: the path of the file, relative to the folder that was opened."""
    decode_us: int = 0
    """Time for decoding and conversion to gray, without the wait for the camera."""
    number: int = 0
    """Counts from 0 within its file."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Pictures that never became frames.

    stale: buffered before the stream was open, so too old.  unreadable: files that could not be decoded.
    """

    count: int
    reason: Literal["stale", "unreadable"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One input of a recording that contains no picture that can be read."""

    label: str
    error: DefectdError
    is_rest: bool = False
    """Pictures of a damaged video that are missing from those that came."""


class Source(Protocol):
    """An open source.  Used by one thread.

    It raises and never retries: the supervisor starts its process again.
    """

    @property
    def actual(self) -> SourceInfo: ...

    @property
    def period_s(self) -> float:
        """Time from picture to picture that the reader has to keep; 0: the source sets the pace itself."""
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


def _no_opencv_backend(_url: str) -> str:
    return ""


def _no_environment(_spec: SourceSpec) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class SourceType:
    """One row of the registry: a type of source, and everything that the rest of the program asks about it."""

    name: str
    matches: Callable[[str], bool]
    """Whether a configured `source` is of this type: by its form alone, without touching a file."""
    open: Callable[[SourceSpec, Clock], Source]
    """Raises CameraError with the remedy; no credentials stand in the message."""
    is_live: bool
    """Whether its frames cannot wait, unless `live` is configured."""
    has_sensor_noise: bool
    """Whether two pictures of the same scene always differ: then identical pictures mean a frozen camera."""
    settings: frozenset[str] = frozenset()
    """Fields of SourceSpec that it reads, beside COMMON_SETTINGS: a change of one of them needs a new process."""
    environment: Callable[[SourceSpec], Mapping[str, str]] = _no_environment
    """Environment variables of its process, beyond those that every camera process has."""
    opencv_backend: Callable[[str], str] = _no_opencv_backend
    """For the doctor: which backend of OpenCV this source needs, "" for none.  May look at the file."""
    doctor_checks: Literal["device", "network", "nothing"] = "nothing"
    """For the doctor.  device: permissions, formats, USB.  network: interfaces, losses, buffers."""


def pace_s(fps: float) -> float:
    """The period of a source that is paced at `fps`; 0 for no pace."""
    return 1.0 / fps if fps > 0 else 0.0
