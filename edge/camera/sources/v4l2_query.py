"""Asks a V4L2 device for its name and formats, without taking pictures: works while another program uses it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.host.text import one_line

# Source: linux/videodev2.h; request numbers as _IOR and _IOWR of the sizes below.
_QUERYCAP: Final = 0x80685600
_ENUM_FMT: Final = 0xC0405602
_ENUM_FRAMESIZES: Final = 0xC02C564A
_CAPTURE: Final = 0x1
_CAPTURE_PLANES: Final = 0x1000
_HAS_DEVICE_CAPS: Final = 0x80000000
_BUFFER_CAPTURE, _BUFFER_CAPTURE_PLANES = 1, 9
"""Buffer types."""
_DISCRETE: Final = 1
MAX_ENTRIES: Final = 256
"""The limit for a driver that never ends its list."""

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class Format:
    """A pixel format and its sizes (width, height), px; for a range of sizes the largest one."""

    code: str
    sizes: tuple[tuple[int, int], ...] = ()
    is_range: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """The answer of the driver."""

    card: str
    driver: str
    captures: bool
    formats: tuple[Format, ...] = ()


def ask(path: Path, ioctl: Ioctl = fcntl.ioctl) -> Device:
    """Raises OSError when it cannot be opened, or is not a V4L2 device."""
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        reply = bytearray(104)
        ioctl(handle, _QUERYCAP, reply)
        driver, card, capabilities, device_capabilities = struct.unpack("16s32s36xII12x", reply)
        if capabilities & _HAS_DEVICE_CAPS:
            capabilities = device_capabilities
        if not capabilities & (_CAPTURE | _CAPTURE_PLANES):
            return Device(_text(card), _text(driver), captures=False)
        buffer_type = _BUFFER_CAPTURE if capabilities & _CAPTURE else _BUFFER_CAPTURE_PLANES
        return Device(_text(card), _text(driver), True, _formats(handle, buffer_type, ioctl))
    finally:
        os.close(handle)


def _formats(handle: int, buffer_type: int, ioctl: Ioctl) -> tuple[Format, ...]:
    found = []
    for index in range(MAX_ENTRIES):
        reply = bytearray(struct.pack("II56x", index, buffer_type))
        if not _answered(ioctl, handle, _ENUM_FMT, reply):
            break
        (pixel_format,) = struct.unpack_from("I", reply, 44)
        found.append(_format_of(handle, ioctl, pixel_format))
    return tuple(found)


def _format_of(handle: int, ioctl: Ioctl, pixel_format: int) -> Format:
    code = one_line(pixel_format.to_bytes(4, "little"))
    sizes = []
    for index in range(MAX_ENTRIES):
        reply = bytearray(struct.pack("II36x", index, pixel_format))
        if not _answered(ioctl, handle, _ENUM_FRAMESIZES, reply):
            break
        kind, *size = struct.unpack_from("6I", reply, 8)
        if kind != _DISCRETE:  # minimum width, maximum width, step, and the same for the height
            return Format(code, ((size[1], size[4]),), is_range=True)
        sizes.append((size[0], size[1]))
    return Format(code, tuple(sizes))


def _answered(ioctl: Ioctl, handle: int, request: int, reply: bytearray) -> bool:
    """False at the end of a list, and where the driver does not know the request."""
    try:
        ioctl(handle, request, reply)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def _text(padded: bytes) -> str:
    return one_line(padded.split(b"\0", 1)[0])
