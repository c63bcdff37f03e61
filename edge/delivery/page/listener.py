"""The unix socket that the feed listens on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from edge.host.unix_address import short_name

BACKLOG: Final = 4


class Listener:
    """Open from its making until `close`.  Owned by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with short_name(path) as address:
                path.unlink(missing_ok=True)  # left by a run that was killed: only this daemon has the lock
                self.socket.bind(address)
            path.chmod(0o600)  # nobody can connect before `listen`
            self._inode = path.stat().st_ino
            self.socket.listen(BACKLOG)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def accept(self) -> socket.socket | None:
        """The next connection; None when there is none.  Raises OSError, for example without free descriptors."""
        try:
            return self.socket.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return None

    def close(self) -> None:
        """Close the socket, and delete it unless it is another feed's by now.  Safe twice."""
        self.socket.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            pass  # it is gone already
