"""Frames for a calibration: from one camera, all of one size, recorded or live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from edge import config
from edge.calibration.live_frames import LIVE, live_frames
from edge.camera.notices import CameraEnded, CameraLost
from edge.camera.recordings import count_pictures, iter_recording
from edge.camera.sources.contract import Unreadable
from edge.camera.supervisor import Supervisor
from edge.errors import CalibrationError
from edge.frame import Gray
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact
from edge.host.url import public_url
from edge.vision import image_quality

MAX_BYTES: Final = 512 << 20
STOP_S: Final = 0.7
WAIT_S: Final = 0.2
MAX_BAD: Final = 0.2
"""Share of the frames that may be bad images."""
MAX_NAMED: Final = 3
"""Recordings that are named one by one."""
MIN_SIDE_PX: Final = 32
"""The sharpness of a smaller frame is not checked."""


@dataclass(frozen=True, slots=True)
class Footage:
    """frames: (H, W) uint8 each, all of one shape.  source: where they come from, without credentials."""

    frames: tuple[Gray, ...]
    source: str

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.frames[0].shape
        return width, height


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame.  pixels: valid until the next frame.  follows: the frame before was its neighbour in time.

    grabbed_ns: of one clock, for differences; None for a recording.  number: counts all frames of the camera.
    """

    label: str
    pixels: Gray
    follows: bool = False
    number: int = 0
    grabbed_ns: int | None = None


def shots(
    camera: config.Camera,
    sources: Sequence[str],
    clock: Clock,
    *,
    consecutive: bool = False,
    feed: Path | None = None,
) -> Iterator[Shot]:
    """Yield the frames one by one and keep none: footage may be larger than the memory.

    sources: recordings; `live:`, the running daemon; without any, the camera.  consecutive: image files are
    neighbouring frames, as frames of a video always are.  feed: socket of the running daemon.
    Raises CalibrationError for a source that cannot be read and for frames of several sizes.
    """
    shape: tuple[int, ...] | None = None
    for shot in _shots(camera, sources, clock, feed, consecutive=consecutive):
        if shape is not None and shot.pixels.shape != shape:
            (h, w), (height, width) = shot.pixels.shape, shape
            raise CalibrationError(f"{shot.label} is {w}x{h} px, the frames before are {width}x{height}: give one size")
        shape = shot.pixels.shape
        yield shot


def _shots(
    camera: config.Camera, sources: Sequence[str], clock: Clock, feed: Path | None, *, consecutive: bool
) -> Iterator[Shot]:
    if not sources:
        return _of_camera(camera, clock)
    if LIVE not in sources:
        return _recorded(sources, consecutive=consecutive)
    if len(sources) > 1 or feed is None:
        raise CalibrationError(f"--source {LIVE} is the running daemon: give it alone, without recordings")
    return _of_daemon(feed, camera.name, clock)


def source_name(camera: config.Camera, sources: Sequence[str]) -> str:
    """Where the frames come from, without credentials."""
    if LIVE in sources:  # of the same camera, as the daemon inspects it
        sources = ()
    if len(sources) > MAX_NAMED:
        return f"{public_url(sources[0])} to {public_url(sources[-1])}, {len(sources)} in all"[:500]
    return ", ".join(public_url(source) for source in sources or [camera.source.get_secret_value()])[:500]


def gather(
    camera: config.Camera,
    sources: Sequence[str],
    clock: Clock,
    *,
    max_frames: int,
    min_frames: int = 1,
    every_s: float = 0.0,
    every: int = 1,
    surface: bool = True,
    on_frame: Callable[[], None] = lambda: None,
    feed: Path | None = None,
) -> Footage:
    """Collect up to max_frames frames from the sources of `shots`, one every `every_s` seconds.

    every: take each n-th frame, for example to cover a long recording.
    surface: the frames show steel, so their sharpness can be checked.
    Raises CalibrationError for a source that cannot be read, frames of several sizes, fewer than min_frames, or too
    many bad images among them.
    """
    frames: list[Gray] = []
    size_bytes = 0
    for shot in islice(thinned(shots(camera, sources, clock, feed=feed), every_s), 0, None, every):
        frames.append(shot.pixels.copy())
        size_bytes += shot.pixels.nbytes
        on_frame()
        if len(frames) >= max_frames or size_bytes >= MAX_BYTES:
            break
    if len(frames) < min_frames:
        raise CalibrationError(
            f"{source_name(camera, sources)} gave {len(frames)} frames, at least {min_frames} are needed"
        )
    check_frames(frames, surface=surface)
    return Footage(tuple(frames), source_name(camera, sources))


def expected_frames(sources: Sequence[str], max_frames: int) -> int:
    """Number of frames to expect, for the progress bar."""
    known = sum(count_pictures(source) for source in sources if source != LIVE)
    return min(max_frames, known or max_frames)


def thinned(shots: Iterator[Shot], every_s: float) -> Iterator[Shot]:
    """One frame every `every_s` seconds; frames without a grab time all pass."""
    due_ns: int | None = None
    for shot in shots:
        if due_ns is not None and shot.grabbed_ns is not None and shot.grabbed_ns < due_ns:
            continue
        due_ns = None if shot.grabbed_ns is None else shot.grabbed_ns + int(every_s * NS_PER_S)
        yield shot


def check_frames(frames: Sequence[Gray], *, surface: bool) -> None:
    """Raises CalibrationError when many frames are bad images, which the daemon would not inspect either."""
    found = Counter(reason for frame in frames if (reason := _fault(frame, surface=surface)) is not None)
    if found.total() > MAX_BAD * len(frames):
        raise CalibrationError(
            f"{found.total()} of {len(frames)} frames cannot be used for a calibration ({listed(found)}): check lamp, "
            "exposure, lens cap and focus first"
        )


def listed(bad: Mapping[str, int]) -> str:
    """The number of frames with each fault, as text."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(bad.items()))


def _fault(frame: Gray, *, surface: bool) -> str | None:
    reason = image_quality.fault(frame)
    if reason is None and surface and min(frame.shape) >= MIN_SIDE_PX:
        return "blurred" if image_quality.image_stats(frame).sharpness < image_quality.SOFT else None
    return reason


def _recorded(sources: Sequence[str], *, consecutive: bool) -> Iterator[Shot]:
    before: str | None = None
    count = 0
    for source in sources:
        if count != 1:  # single files, as the shell lists them, are one recording, like the files of a folder
            before = None
        count = 0
        for count, picture in enumerate(iter_recording(source), 1):  # noqa: B007 (used for the next source)
            if isinstance(picture, Unreadable):
                if picture.is_rest:
                    continue  # the pictures that came are good footage
                raise CalibrationError(f"{picture.label} cannot be read: {picture.error}")
            is_neighbour = before is not None and (consecutive or picture.label == before)
            before = picture.label
            yield Shot(picture.label, picture.pixels, is_neighbour)


def _of_daemon(feed: Path, camera: str, clock: Clock) -> Iterator[Shot]:
    before: int | None = None
    for frame in live_frames(feed, camera, clock):
        follows = before is not None and frame.number == before + 1
        before = frame.number
        yield Shot(f"frame {frame.number}", frame.pixels, follows, frame.number, frame.grabbed_ns)


def _of_camera(camera: config.Camera, clock: Clock) -> Iterator[Shot]:
    """Frames from the camera, read by a camera process as in the daemon, until the caller stops."""
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
                    reason = redact(notice.reason)
                    raise CalibrationError(
                        f"camera {camera.name}: {reason}. If the daemon uses it, `--source {LIVE}` takes its frames"
                    )
                if isinstance(notice, CameraEnded):
                    return
        raise CalibrationError(f"camera {camera.name} delivers no frame")
    finally:
        supervisor.stop(STOP_S)
        supervisor.close()
