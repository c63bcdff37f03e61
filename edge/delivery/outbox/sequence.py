"""The side file that reserves numbers, so that `seq` never repeats even when the database is lost or replaced.

`<database>.seq` holds one number: every number up to it may have been used. It moves ahead in blocks, *before* a number
of the new block is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edge.delivery.outbox.watermark import MAX_SEQ, read_regular
from edge.host import atomic_files

MAX_BYTES: Final = 64
SEQ_BLOCK: Final = 1000
"""Numbers reserved at a time: one small synced write per block."""


class SequenceFile:
    """The side file of one database.  The lock of the outbox guards it."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".seq")
        self._reserved = 0

    def read(self) -> int:
        """The highest number that may have been used; 0 when the file is missing or unreadable."""
        try:
            reserved = int(read_regular(self._path, MAX_BYTES).decode("ascii"))
        except (OSError, ValueError):
            reserved = 0
        self._reserved = reserved if 0 < reserved < MAX_SEQ else 0
        return self._reserved

    @property
    def exists(self) -> bool:
        return os.path.lexists(self._path)

    def reserve(self, seq: int) -> None:
        """Make the file cover `seq` before the number is used.  Raises OSError."""
        if seq <= self._reserved:
            return
        reserved = seq + SEQ_BLOCK
        atomic_files.replace(self._path, b"%d\n" % reserved)
        self._reserved = reserved
