"""How messages lie in the feed's stream: two lengths, a JSON header, a body.  Both sides of the feed use it.

    uint32 BE: bytes after this field | uint32 BE: bytes of the header | header, a JSON object | body

Imports the standard library only: the page process is to stay small.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_HEADER_BYTES: Final = 1 << 20
MAX_BODY_BYTES: Final = 64 << 20
"""Of an unscaled frame; a JPEG is far smaller."""
MAX_WANT_BYTES: Final = 64 << 10
"""Of a whole message from the page process to the daemon."""

_LENGTHS: Final = struct.Struct("!II")


class FramingError(Exception):
    """The stream is no feed, or a message exceeds its limit: only the end of the connection helps."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.  header: `kind` and the fields of that kind (`edge.delivery.page.messages`)."""

    header: Mapping[str, Any]
    body: bytes = b""

    @property
    def kind(self) -> str:
        return str(self.header.get("kind"))


def encoded(header: Mapping[str, Any], body: bytes | memoryview = b"") -> bytes:
    """The bytes of one message.  Raises ValueError for a header with NaN or with what JSON does not know."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")
    return b"".join((_LENGTHS.pack(_LENGTHS.size - 4 + len(text) + len(body), len(text)), text, body))


class Decoder:
    """Takes the bytes of a stream as they come and gives whole messages.  Owned by one thread or event loop."""

    def __init__(self, max_bytes: int = MAX_HEADER_BYTES + MAX_BODY_BYTES) -> None:
        """max_bytes: of one message."""
        self._max_bytes = max_bytes
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete.  Raises FramingError; the stream cannot be read on after it."""
        self._data += data
        messages = []
        at = 0
        while len(self._data) - at >= _LENGTHS.size:
            rest, header = _LENGTHS.unpack_from(self._data, at)
            if header > MAX_HEADER_BYTES or rest > self._max_bytes or header > rest - 4:
                raise FramingError(f"a message with {rest} bytes and a header of {header}")
            end = at + 4 + rest
            if len(self._data) < end:
                break
            body = at + _LENGTHS.size + header
            messages.append(Message(_header(bytes(self._data[at + _LENGTHS.size : body])), bytes(self._data[body:end])))
            at = end
        del self._data[:at]
        return messages


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise FramingError("a header is no JSON") from None
    if not isinstance(header, dict):
        raise FramingError("a header is no JSON object")
    return header
