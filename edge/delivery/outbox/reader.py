"""Further readers of the outbox: which delivered events they still need."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)


class ReaderHolds:
    """How far each further reader has come, and what each lost.  The lock of the outbox guards it.

    Holds live in memory only: a reader that the next start does not have holds nothing then.
    """

    def __init__(self) -> None:
        self._after: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._newest_lost: dict[str, int] = {}
        """By reader: the newest event that it lost, while the reader has not come past it."""

    def hold(self, reader: str, after_seq: int) -> None:
        """Let `reader` need the events above `after_seq`; replaces its last call."""
        self._after[reader] = after_seq
        self._lost.setdefault(reader, 0)
        if after_seq >= self._newest_lost.get(reader, 0):
            self._newest_lost.pop(reader, None)

    def release(self, reader: str) -> None:
        """Let `reader` need nothing any more; safe when it never held."""
        for known in (self._after, self._lost, self._newest_lost):
            known.pop(reader, None)

    def lowest(self) -> int | None:
        """Events above this number are needed by some reader; None without readers."""
        return min(self._after.values(), default=None)

    @property
    def lost(self) -> Mapping[str, int]:
        """By reader: events that were deleted before it had come past them, since it first held."""
        return dict(self._lost)

    def count_lost(self, seqs: Sequence[int]) -> None:
        """Count delivered events that had to go, and log once when a reader begins to lose.  seqs: ascending."""
        for reader, after_seq in self._after.items():
            lost = sum(1 for seq in seqs if seq > after_seq)
            if not lost:
                continue
            self._lost[reader] += lost
            if reader not in self._newest_lost:
                log.warning(
                    "the outbox is full of delivered events that the reader %s has not read (it is at seq %d):"
                    " from now on the reader loses the oldest, from seq %d",
                    reader,
                    after_seq,
                    next(seq for seq in seqs if seq > after_seq),
                )
            self._newest_lost[reader] = seqs[-1]
