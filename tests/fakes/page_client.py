"""A client of the page's feed over the real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge.delivery.page.framing import Decoder, Message, encoded
from edge.delivery.page.messages import Want
from edge.host.unix_address import short_name


class PageClient:
    """Reads when the test asks it to."""

    def __init__(self, path: Path, receive_bytes: int | None = None) -> None:
        """receive_bytes: of the socket's buffer, for a slow client."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        with short_name(path) as address:
            self._socket.connect(address)
        self._decoder = Decoder()
        self._waiting: list[Message] = []
        self.is_closed = False

    def want(self, cameras: Mapping[str, Any] | None = None, raw: Mapping[str, int] | None = None) -> None:
        self.send(Want(cameras or {}, raw or {}).header())

    def send(self, header: Mapping[str, Any]) -> None:
        self._socket.sendall(encoded(header))

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def next(self, kind: str, timeout_s: float = 10.0) -> Message:
        """The next message of this kind; those before it are passed over.  Raises TimeoutError, EOFError."""
        end_s = time.monotonic() + timeout_s
        while True:
            while self._waiting:
                message = self._waiting.pop(0)
                if message.kind == kind:
                    return message
            self._socket.settimeout(max(0.01, end_s - time.monotonic()))
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                self.is_closed = True
                raise EOFError
            self._waiting += self._decoder.feed(data)

    def all_until_end(self, timeout_s: float = 10.0) -> list[Message]:
        """Every message until the feed closes the connection."""
        found = list(self._waiting)
        self._socket.settimeout(timeout_s)
        try:
            while data := self._socket.recv(1 << 20):
                found += self._decoder.feed(data)
        except ConnectionResetError:
            pass
        self.is_closed = True
        return found

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
