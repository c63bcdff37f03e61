"""The newest log records of the daemon, for people who look at the page: bounded, and without credentials."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from edge.host.clock import NS_PER_S, stamp
from edge.host.logs import text_of
from edge.host.redact import redact
from edge.host.text import lines

MAX_RECORDS: Final = 500
MAX_CHARACTERS: Final = 2000
"""Of one record; a longer one is cut after its credentials were removed."""
MAX_AT_A_TIME: Final = 200


class LogRing(logging.Handler):
    """Keeps what any thread logs; the feed's thread reads it.

    A record costs some microseconds, in the thread that logs it. Records have numbers, so that a reader sees what it
    missed.
    """

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        super().__init__()
        self._kept: deque[dict[str, Any]] = deque(maxlen=max_records)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `handle`, which holds the lock of this handler."""
        try:
            text = lines(redact(text_of(record)))
        except Exception:  # noqa: BLE001 (a message that cannot be formatted must not harm who logs it)
            self.handleError(record)
            return
        self._count += 1
        self._kept.append(
            {
                "number": self._count,
                "time": stamp(int(record.created * NS_PER_S)),
                "level": record.levelname.lower(),
                "logger": record.name,
                "thread": record.threadName,
                "message": text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "...",
            }
        )

    @property
    def last(self) -> int:
        """Number of the newest record; 0 without one."""
        return self._count

    def after(self, number: int) -> list[dict[str, Any]]:
        """The records with higher numbers that are still kept, oldest first, MAX_AT_A_TIME at most."""
        if number >= self._count:
            return []
        with self.lock:  # type: ignore[union-attr]  # a handler has had one since it was made
            found = [record for record in self._kept if record["number"] > number]
        return found[:MAX_AT_A_TIME]
