"""The messages on the feed's socket: a JSON header and a body, each with its length before it.

    uint32 length of the rest | uint32 length of the header | header, a JSON object | body

Numbers are big-endian. Both ends use this module, also the page process, so it imports the standard library alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PREFIX: Final = struct.Struct(">II")
MAX_HEADER_BYTES: Final = 4 << 20
"""An event of 256 KiB, a state of 64 cameras, the regions of a frame."""
MAX_MESSAGE_BYTES: Final = 256 << 20
"""A raw frame of 16,384 x 16,384."""
MAX_WANT_BYTES: Final = 64 << 10
"""Of a message to the feed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.  body: empty, a JPEG, or the gray bytes of a frame, row by row."""

    header: Mapping[str, Any]
    body: bytes = b""

    @property
    def kind(self) -> str:
        return str(self.header.get("kind"))


def packed(header: Mapping[str, Any], body: bytes | memoryview = b"") -> bytes:
    """The bytes of a message.  Raises ValueError for a header that JSON does not have."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return b"".join((PREFIX.pack(4 + len(text) + len(body), len(text)), text, body))


def lengths(prefix: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> tuple[int, int]:
    """The lengths of header and body that the first 8 bytes announce.  Raises ValueError."""
    rest, header = PREFIX.unpack(prefix)
    body = rest - 4 - header
    if body < 0 or rest > max_bytes or header > MAX_HEADER_BYTES:
        raise ValueError(f"a message of {rest} bytes with a header of {header} bytes")
    return header, body


def header_of(text: bytes) -> Mapping[str, Any]:
    """Raises ValueError unless it is a JSON object."""
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("the header is no object")  # noqa: TRY004 (the reader handles one kind of error)
    return header


class Unpacker:
    """Cuts a stream of bytes into messages.  Owned by one reader."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete.  Raises ValueError: the stream cannot be read any further."""
        self._data += data
        found = []
        while len(self._data) >= PREFIX.size:
            header, body = lengths(bytes(self._data[: PREFIX.size]), self._max_bytes)
            end = PREFIX.size + header + body
            if len(self._data) < end:
                break
            text = bytes(self._data[PREFIX.size : PREFIX.size + header])
            found.append(Message(header_of(text), bytes(self._data[PREFIX.size + header : end])))
            del self._data[:end]
        return found
