"""Picture files: decode them to gray, and refuse what is damaged, endless or too large."""

from __future__ import annotations

import re
import stat
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from edge.errors import ImageError
from edge.frame import Gray
from edge.host.text import one_line

# A file that cannot be decoded raises ImageError here; OpenCV would also print it to stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MAX_PIXELS: Final = 200_000_000
MAX_FILE_BYTES: Final = 1 << 30
MAX_SHOWN: Final = 1000
"""Characters of a path in a message, the last ones."""
IMAGE_SUFFIXES: Final = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"))


def shown(path: str | Path) -> str:
    """A path for messages and labels: the name of a file may be any bytes."""
    return one_line(str(path), MAX_SHOWN, keep_end=True)


def read_image(path: str | Path) -> Gray:
    """Decode one image file.  Returns (H, W) uint8.  Raises ImageError; prints nothing."""
    path = Path(path)
    name = shown(path)
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a directory; give an image file")
        status = path.stat()
        size_bytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is not a regular file")  # a pipe or /dev/zero has no end
        if size_bytes > MAX_FILE_BYTES:
            raise ImageError(f"{name} has {size_bytes} bytes; at most {MAX_FILE_BYTES} are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return decode_image(data, name)


def decode_image(data: bytes, name: str) -> Gray:
    """Decode the bytes of an image file.  name: for error messages.  Returns (H, W) uint8.  Raises ImageError."""
    if not data:
        raise ImageError(f"{name} is empty")
    # OpenCV decodes a truncated file to None, or in older versions to a picture whose rest is gray: check before.
    damage = _find_damage(data)
    if damage:
        raise ImageError(f"{name} {damage}")
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        # Among them "pixels <= CV_IO_MAX_IMAGE_PIXELS" and failed allocations.
        reason = " ".join(str(error).split())[-200:]
        raise ImageError(f"{name} cannot be decoded: {reason}") from None
    if picture is None:
        raise ImageError(f"{name} is not an image that can be decoded, or is damaged")
    if picture.size == 0 or picture.size > MAX_PIXELS:
        raise ImageError(f"{name} has {picture.size} pixels; 1 to {MAX_PIXELS} are inspected")
    return to_gray(picture, name)


def to_gray(picture: np.ndarray[Any, Any], name: str = "") -> Gray:
    """Convert any decoded picture to (H, W) uint8.  16 bit lose their low byte, alpha is ignored.

    BGR is weighted by ITU-R BT.601; where all three channels are equal, the result is exactly that channel.
    name: of the file or camera, for the error message.  Raises ImageError for other pixel types.
    """
    if picture.dtype not in (np.uint8, np.uint16):
        of_what = f"{name}: " if name else ""
        raise ImageError(f"{of_what}pixels are {picture.dtype}; only 8 and 16 bit can be inspected")
    if picture.ndim == 3:
        channels = picture.shape[2]
        if channels in (3, 4):
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)
        else:
            picture = picture[:, :, 0]  # gray as one channel, or luma first as in YUYV
    if picture.dtype == np.uint16:
        # Always the same shift: stretching the contrast would hide how dark the picture is.
        picture = (picture >> 8).astype(np.uint8)
    return np.ascontiguousarray(picture, np.uint8)


def _find_damage(data: bytes) -> str:
    """What is wrong with an image file, found without decoding it, as the end of a sentence; "" if nothing is."""
    size = (1, 1)
    complete = True
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            size = struct.unpack_from(">II", data, 16)
            damage = _find_png_damage(data)
            if damage:
                return damage
        elif data.startswith(b"\xff\xd8"):
            size, complete = _scan_jpeg(data)
        elif data.startswith(b"BM"):
            w, h = struct.unpack_from("<ii", data, 18)
            size = (abs(w), abs(h))
        elif re.match(rb"P[1-6]\s", data):
            found = _PNM_SIZE.match(data)
            size = (int(found[1][:12]), int(found[2][:12])) if found else (1, 1)
    except struct.error:
        complete = False
    if not complete:
        return "is cut off"
    if size[0] == 0 or size[1] == 0:
        return "has no pixels"
    if size[0] * size[1] > MAX_PIXELS:
        return f"is too large: {size[0]} x {size[1]} pixels; at most {MAX_PIXELS} are decoded"
    return ""


def _find_png_damage(data: bytes) -> str:
    """Check every chunk up to the end mark.  libpng finds the same damage, but prints it to stderr."""
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
# Neither pattern has a repetition inside a repetition: a file full of 0xff or blanks is searched in linear time.


def _scan_jpeg(data: bytes) -> tuple[tuple[int, int], bool]:
    """Width and height, and whether the end mark is there.  Skips segments, because thumbnails have marks too."""
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
