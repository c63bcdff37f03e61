"""Frames of the running daemon, over the feed of its page: the camera stays where it is, inspection goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge.delivery.page.framing import Decoder, FramingError, Message, encoded
from edge.delivery.page.messages import MAX_RAW, Want
from edge.errors import CalibrationError
from edge.frame import Gray
from edge.host.clock import NS_PER_S, Clock, wall_ns_of
from edge.host.text import one_line
from edge.host.unix_address import short_name

LIVE: Final = "live:"
"""As a source of a calibration: the running daemon."""
RENEW_S: Final = 1.0
WAIT_S: Final = 15.0
"""Longest silence of the camera."""
POLL_S: Final = 0.2
READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """pixels: (H, W) uint8, a copy.  grabbed_ns: wall time.  number: as the daemon counts its frames."""

    pixels: Gray
    number: int
    grabbed_ns: int


def live_frames(path: Path, camera: str, clock: Clock, wait_s: float = WAIT_S) -> Iterator[LiveFrame]:
    """Yield frames as the daemon inspects them, until the caller stops.  path: of the feed's socket.

    Frames that the caller has no time for are left out.  wait_s: longest silence.  Raises CalibrationError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as feed:
        _connect(feed, path)
        feed.settimeout(POLL_S)
        decoder, renew_ns, missing = Decoder(), 0, 0
        silent_ns = clock.monotonic_ns() + int(wait_s * NS_PER_S)
        while True:
            now_ns = clock.monotonic_ns()
            if now_ns > silent_ns:
                raise CalibrationError(
                    f"camera {camera}: the daemon has given no frame for {wait_s:g} s: is the camera running? See "
                    "`defectd doctor`"
                )
            try:
                if now_ns >= renew_ns or missing <= MAX_RAW // 2:
                    missing = MAX_RAW
                    feed.sendall(encoded(Want(raw={camera: MAX_RAW}).header()))
                    renew_ns = now_ns + int(RENEW_S * NS_PER_S)
                data = feed.recv(READ_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                raise CalibrationError(f"the daemon has ended the connection: {error.strerror}") from error
            for message in _decoded(decoder, data):
                frame = _frame(message, camera)
                if frame is not None:
                    missing -= 1
                    yield frame
                    silent_ns = clock.monotonic_ns() + int(wait_s * NS_PER_S)


def _connect(feed: socket.socket, path: Path) -> None:
    """Raises CalibrationError."""
    try:
        with short_name(path) as address:
            feed.connect(address)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise CalibrationError(
            f"{path}: no daemon gives frames there. Start the daemon with `web.listen` set, or leave out "
            f"`--source {LIVE}` to open the camera itself while the daemon is stopped"
        ) from error
    except OSError as error:
        raise CalibrationError(f"{path}: {error.strerror}. Run as the user of the daemon") from error


def _decoded(decoder: Decoder, data: bytes) -> list[Message]:
    """Raises CalibrationError at the end of the stream."""
    if not data:
        raise CalibrationError("the daemon has ended the connection: it stops, or starts again")
    try:
        return decoder.feed(data)
    except FramingError as error:
        raise CalibrationError(f"the feed of the daemon cannot be read: {error}") from error


def _frame(message: Message, camera: str) -> LiveFrame | None:
    """The frame in a message, if one of this camera is in it.  Raises CalibrationError."""
    header = message.header
    if message.kind == "hello":
        names = header.get("cameras")
        if isinstance(names, list) and camera not in names:
            known = one_line(", ".join(map(str, names)))[:500]
            raise CalibrationError(f"the daemon inspects no camera {camera}, only {known}: reload it first")
        return None
    if message.kind != "raw" or header.get("camera") != camera:
        return None
    try:
        width, height = (int(side) for side in header["size_px"])
        pixels = np.frombuffer(message.body, np.uint8).reshape(height, width).copy()
        return LiveFrame(pixels, int(header["number"]), wall_ns_of(str(header["time"])))
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"the feed of the daemon cannot be read: {one_line(str(error))}") from error
