"""What systemd is told: ready, alive, stopping, and one line on how it goes (sd_notify(3), without its library)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final

log = logging.getLogger(__name__)

SEND_S: Final = 1.0
"""Longest wait for systemd to take a message."""
US_PER_S: Final = 1_000_000


class Service:
    """The service manager's end. Where there is none, everything is said into the wind; nothing here ever raises."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """address: a path, or @name of an abstract socket; "": none.  watchdog_s: the unit's WatchdogSec."""
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._is_deaf = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Service:
        """As systemd has set it up for this process.  Takes the variables away: they are not for our children."""
        address = environ.pop("NOTIFY_SOCKET", "")
        pid, period_us = environ.pop("WATCHDOG_PID", ""), environ.pop("WATCHDOG_USEC", "")
        is_ours = address and period_us.isdecimal() and pid in ("", str(os.getpid()))
        return cls(address, int(period_us) / US_PER_S if is_ours and int(period_us) else None)

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def ready(self) -> bool:
        """Configuration, model and outbox are good; also ends a reload.  Returns, as all do, whether it was heard."""
        return self._tell("READY=1")

    def reloading(self, monotonic_ns: int) -> bool:
        """A reload begins; `ready` ends it."""
        return self._tell("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> bool:
        return self._tell("STOPPING=1", "STATUS=stopping: events are handed over")

    def status(self, words: str) -> bool:
        """One line for `systemctl status`."""
        return self._tell("STATUS=" + " ".join(words.split()))

    def alive(self) -> bool:
        """Every loop moves: the watchdog may wait for another period."""
        return self._tell("WATCHDOG=1")

    def stuck(self) -> bool:
        """A loop does not move: what the watchdog is for shall happen now, not when its period is over."""
        return self._tell("WATCHDOG=trigger")

    def _tell(self, *assignments: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(SEND_S)
                link.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            if not self._is_deaf:
                log.warning("systemd does not hear %s: %s", assignments[0], error)
            self._is_deaf = True
            return False
        self._is_deaf = False
        return True
