"""Frames to calibrate with: of one camera and one size, recorded or live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge import config
from edge.camera.notices import CameraEnded, CameraLost
from edge.camera.recordings import count_pictures, iter_recording
from edge.camera.sources.contract import Unreadable
from edge.camera.supervisor import Supervisor
from edge.errors import CalibrationError
from edge.frame import Gray
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact
from edge.vision import image_quality

MAX_BYTES: Final = 512 << 20
STOP_S: Final = 0.7
WAIT_S: Final = 0.2
MAX_BAD: Final = 0.2
"""Share of the frames."""
MIN_SIDE_PX: Final = 32
"""Of a frame that can be told to be blurred."""


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
    return redact(", ".join(sources) if sources else camera.source.get_secret_value())[:500]


def gather(
    camera: config.Camera,
    sources: Sequence[str],
    clock: Clock,
    *,
    most: int,
    least: int = 1,
    every_s: float = 0.0,
    surface: bool = True,
    on_frame: Callable[[], None] = lambda: None,
) -> Footage:
    """Up to `most` frames from recordings, or from the camera where none are given, one each `every_s`.

    surface: they show steel, so that it can be told whether they are blurred.
    Raises CalibrationError for an input that cannot be read, frames of several sizes, fewer than `least`, or frames of
    which many are no pictures of anything.
    """
    frames: list[Gray] = []
    held = 0
    for shot in thinned(shots(camera, sources, clock), every_s):
        frames.append(shot.pixels.copy())
        held += shot.pixels.nbytes
        on_frame()
        if len(frames) >= most or held >= MAX_BYTES:
            break
    if len(frames) < least:
        raise CalibrationError(f"{where(camera, sources)} gave {len(frames)} frames, at least {least} are needed")
    look_at(frames, surface=surface)
    return Footage(tuple(frames), where(camera, sources))


def about(sources: Sequence[str], most: int) -> int:
    """How many frames will come, to tell how long that takes."""
    known = sum(count_pictures(source) for source in sources)
    return min(most, known or most)


def thinned(shots: Iterator[Shot], every_s: float) -> Iterator[Shot]:
    """One each so many seconds, of frames that know when they were grabbed."""
    due_ns: int | None = None
    for shot in shots:
        if due_ns is not None and shot.grabbed_ns is not None and shot.grabbed_ns < due_ns:
            continue
        due_ns = None if shot.grabbed_ns is None else shot.grabbed_ns + int(every_s * NS_PER_S)
        yield shot


def look_at(frames: Sequence[Gray], *, surface: bool) -> None:
    """Raises CalibrationError where many are pictures that the daemon would not judge, whatever they are given for."""
    found = Counter(reason for frame in frames if (reason := _ailment(frame, surface=surface)) is not None)
    if found.total() > MAX_BAD * len(frames):
        raise CalibrationError(
            f"{found.total()} of {len(frames)} frames are no pictures to calibrate with ({listed(found)}): see to "
            "lamp, exposure, lens cap and focus first"
        )


def listed(bad: Mapping[str, int]) -> str:
    """How many frames there are of each fault, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(bad.items()))


def _ailment(frame: Gray, *, surface: bool) -> str | None:
    reason = image_quality.fault(frame)
    if reason is None and surface and min(frame.shape) >= MIN_SIDE_PX:
        return "blurred" if image_quality.image_stats(frame).sharpness < image_quality.SOFT else None
    return reason


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
                    said = redact(notice.reason)
                    raise CalibrationError(f"camera {camera.name}: {said}. If the daemon has it, stop that first")
                if isinstance(notice, CameraEnded):
                    return
        raise CalibrationError(f"camera {camera.name} gives no picture")
    finally:
        supervisor.stop(STOP_S)
        supervisor.close()
