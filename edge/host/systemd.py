"""Reports to systemd: ready, alive, stopping, and a status line (sd_notify(3), without its library)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final

log = logging.getLogger(__name__)

SEND_S: Final = 1.0
"""Longest wait until systemd takes a message."""
US_PER_S: Final = 1_000_000


class Service:
    """sd_notify client; a no-op without NOTIFY_SOCKET.  Nothing here raises.

    Each report returns whether systemd took it.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """address: a path, or @name of an abstract socket; "": none.  watchdog_s: the unit's WatchdogSec."""
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._has_failed = False
        self._link: socket.socket | None = None
        """Kept open: a process without file descriptors must still feed the watchdog."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Service:
        """As systemd has set it up for this process.  Removes the variables: child processes must not inherit them."""
        address = environ.pop("NOTIFY_SOCKET", "")
        pid, period_us = environ.pop("WATCHDOG_PID", ""), environ.pop("WATCHDOG_USEC", "")
        is_ours = address and period_us.isdecimal() and pid in ("", str(os.getpid()))
        return cls(address, int(period_us) / US_PER_S if is_ours and int(period_us) else None)

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def ready(self) -> bool:
        """Configuration, model and outbox are in order; also ends a reload."""
        return self._send("READY=1")

    def reloading(self, monotonic_ns: int) -> bool:
        """A reload starts; `ready` ends it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> bool:
        return self._send("STOPPING=1", "STATUS=stopping: events are delivered")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("STATUS=" + " ".join(text.split()))

    def alive(self) -> bool:
        """Every required loop moves: the watchdog may wait for another period."""
        return self._send("WATCHDOG=1")

    def stuck(self) -> bool:
        """A required loop does not move: the watchdog must act now, not at the end of its period."""
        return self._send("WATCHDOG=trigger")

    def close(self) -> None:
        """Let go of the socket; the next report opens it again."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _send(self, *assignments: str) -> bool:
        if not self._address:
            return False
        try:
            link = self._link
            if link is None:
                link = self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                link.settimeout(SEND_S)
            link.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            self.close()
            if not self._has_failed:
                log.warning("systemd does not take %s: %s", assignments[0], error)
            self._has_failed = True
            return False
        self._has_failed = False
        return True
