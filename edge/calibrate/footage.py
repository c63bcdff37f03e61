"""Frames to calibrate with: of one camera and one size, recorded or live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge import config
from edge.camera.source import Unreadable, iter_recording
from edge.camera.supervisor import CameraEnded, CameraLost, Supervisor
from edge.clock import NS_PER_S, Clock
from edge.errors import CalibrationError
from edge.frame import Gray

MOST_BYTES: Final = 512 << 20
STOP_S: Final = 0.7
WAIT_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Footage:
    """frames: (H, W) uint8 each, all of one shape.  source: in words, without credentials."""

    frames: tuple[Gray, ...]
    source: str

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.frames[0].shape
        return width, height


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame on its way.  pixels: valid until the next.  follows: the one before it was its neighbour in time.

    grabbed_ns: monotonic, of a camera.  number: counts all frames that the camera gave.
    """

    label: str
    pixels: Gray
    follows: bool = False
    number: int = 0
    grabbed_ns: int | None = None


def shots(camera: config.Camera, sources: Sequence[str], clock: Clock, *, consecutive: bool = False) -> Iterator[Shot]:
    """Frame after frame, of one size, none of them kept: for footage that no memory would hold.

    consecutive: image files are neighbouring frames, too; those of a video always are.
    Raises CalibrationError for an input that cannot be read and for frames of several sizes.
    """
    shape: tuple[int, ...] | None = None
    for shot in _recorded(sources, consecutive=consecutive) if sources else _live(camera, clock):
        if shape is not None and shot.pixels.shape != shape:
            (h, w), (height, width) = shot.pixels.shape, shape
            raise CalibrationError(f"{shot.label} is {w}x{h} px, the frames before are {width}x{height}: give one size")
        shape = shot.pixels.shape
        yield shot


def where(camera: config.Camera, sources: Sequence[str]) -> str:
    """Where frames come from, in words, without credentials."""
    return (", ".join(sources) if sources else config.redact(camera.source.get_secret_value()))[:500]


def gather(
    camera: config.Camera,
    sources: Sequence[str],
    clock: Clock,
    *,
    most: int,
    least: int = 1,
    on_frame: Callable[[], None] = lambda: None,
) -> Footage:
    """Up to `most` frames from recordings, or from the camera where none are given.

    Raises CalibrationError for an input that cannot be read, frames of several sizes, or fewer than `least`.
    """
    frames: list[Gray] = []
    held = 0
    for shot in shots(camera, sources, clock):
        frames.append(shot.pixels.copy())
        held += shot.pixels.nbytes
        on_frame()
        if len(frames) >= most or held >= MOST_BYTES:
            break
    if len(frames) < least:
        raise CalibrationError(f"{where(camera, sources)} gave {len(frames)} frames, at least {least} are needed")
    return Footage(tuple(frames), where(camera, sources))


def _recorded(sources: Sequence[str], *, consecutive: bool) -> Iterator[Shot]:
    for source in sources:
        before: str | None = None
        for picture in iter_recording(source):
            if isinstance(picture, Unreadable):
                raise CalibrationError(f"{picture.label} cannot be read: {picture.error}")
            is_neighbour = before is not None and (consecutive or picture.label == before)
            before = picture.label
            yield Shot(picture.label, picture.pixels, is_neighbour)


def _live(camera: config.Camera, clock: Clock) -> Iterator[Shot]:
    """From the camera itself, in a process of its own as the daemon does it, until nobody wants more."""
    supervisor = Supervisor([camera], clock)
    limit_ns = int((camera.open_timeout_s + 2 * camera.read_timeout_s) * NS_PER_S)
    before: int | None = None
    supervisor.start()
    try:
        until_ns = clock.monotonic_ns() + limit_ns
        while clock.monotonic_ns() < until_ns:
            supervisor.wait(WAIT_S)
            for name, _ in supervisor.heads():
                frame = supervisor.pop(name)
                try:
                    follows = before is not None and frame.number == before + 1
                    yield Shot(f"frame {frame.number}", frame.pixels, follows, frame.number, frame.grabbed_ns)
                    before = frame.number
                finally:
                    supervisor.release(frame)
                until_ns = clock.monotonic_ns() + limit_ns
            for notice in supervisor.take_notices():
                if isinstance(notice, CameraLost):
                    said = config.redact(notice.reason)
                    raise CalibrationError(f"camera {camera.name}: {said}. If the daemon has it, stop that first")
                if isinstance(notice, CameraEnded):
                    return
        raise CalibrationError(f"camera {camera.name} gives no picture")
    finally:
        supervisor.stop(STOP_S)
        supervisor.close()
