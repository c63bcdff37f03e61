"""The newest lines of the daemon's log, as its feed has sent them; they outlive the daemon that wrote them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_LINES: Final = 500
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class LogLines:
    """Owned by the loop of the page process."""

    def __init__(self) -> None:
        self._lines: deque[dict[str, Any]] = deque(maxlen=MAX_LINES)
        self._count = 0
        self._taken: tuple[str, int] = "", 0
        """Epoch of the feed, and number of its last record."""

    def take(self, epoch: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep records of a feed; those that it repeats after a new connection are known."""
        for record in records:
            number = int(record["number"])
            if epoch == self._taken[0] and number <= self._taken[1]:
                continue
            self._taken = epoch, number
            self._count += 1
            fields = ("time", "level", "logger", "thread", "message")
            self._lines.append({"line": self._count, **{name: record[name] for name in fields}})

    @property
    def last(self) -> int:
        """Number of the newest line; 0 without one."""
        return self._count

    def after(self, line: int, level: str) -> list[dict[str, Any]]:
        """Lines with a higher number that are at least as serious, oldest first."""
        lowest = LEVELS.index(level)
        return [one for one in self._lines if one["line"] > line and _rank(one["level"]) >= lowest]


def _rank(level: object) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)
