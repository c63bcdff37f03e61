"""A reader of the feed for commands on this machine: connects, states what it wants, reads messages."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from edge.delivery.page.framing import Decoder, FramingError, Message, encoded
from edge.delivery.page.messages import Want
from edge.errors import DeliveryError
from edge.host.rights import why
from edge.host.text import one_line
from edge.host.unix_address import short_name

SEND_S: Final = 2.0
READ_BYTES: Final = 1 << 20


class FeedReader:
    """One connection to the feed.  Owned by one thread."""

    def __init__(self, path: Path) -> None:
        """path: of the feed's socket.  Raises DeliveryError, FileNotFoundError when no daemon has ever made it."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._decoder = Decoder()
        try:
            with short_name(path) as name:
                self._socket.connect(name)
        except OSError as error:
            self._socket.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise DeliveryError(f"no daemon with a page runs on {path.parent}") from error
            raise DeliveryError(f"{path}: {why(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def want(self, want: Want) -> None:
        """Replace what this reader wants; renew it more often than `messages.WANT_S`.  Raises DeliveryError."""
        self._socket.settimeout(SEND_S)
        try:
            self._socket.sendall(encoded(want.header()))
        except OSError as error:
            raise DeliveryError(f"the daemon has ended the connection: {error.strerror or error}") from error

    def read(self, timeout_s: float) -> list[Message]:
        """The messages that have arrived; none after that time.  Raises DeliveryError at the end of the stream."""
        self._socket.settimeout(timeout_s)
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return []
        except OSError as error:
            raise DeliveryError(f"the daemon has ended the connection: {error.strerror or error}") from error
        if not data:
            raise DeliveryError("the daemon has ended the connection: it stops, or starts again")
        try:
            return self._decoder.feed(data)
        except FramingError as error:
            raise DeliveryError(f"the feed cannot be read: {one_line(str(error))}") from error
