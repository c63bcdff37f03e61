"""The coil on the line, kept over restarts: its name, or that none runs. Not how far it has run: nobody knows that.

    STATE_DIR/coil.json   {"schema": "defectd.coil/1", "coil": "A4711", "since": "2026-11-22T13:46:11.482Z"}

Without the file no coil was ever named here: positions then count from the start of the node.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge.coverage.strip_position import RestoredCoil
from edge.event import Event
from edge.host import atomic_files
from edge.host.clock import NS_PER_S, Clock, stamp, wall_ns_of

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.coil/1"
LONGEST_AWAY_S: Final = 3600
"""A node that was off for longer does not take its coil up again: a wrong name is worse than none."""
MAX_BYTES: Final = 4096


class CoilStore:
    """The file: read at the start, replaced when a coil begins or ends.  `heed` belongs to the recorder."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._written = self._latest = self._read()
        self._told = False

    @property
    def kept(self) -> RestoredCoil | None:
        """Of before this start, until `heed` hears of another one."""
        return self._latest

    def may_be_there(self, alive_ns: int | None) -> bool:
        """Whether the kept coil can still be on the line.  alive_ns: wall time, the last sign of the run before."""
        if self._latest is None:
            return False
        last_ns = max(wall_ns_of(self._latest.since), alive_ns or 0)
        return abs(self._clock.wall_ns() - last_ns) <= LONGEST_AWAY_S * NS_PER_S

    def heed(self, events: Iterable[Event]) -> None:
        """Keep what these events say; called before they are stored, so that a coil that was told is known again."""
        for fact in events:
            if fact.type == "coil.started" and fact.detail is not None:
                self._latest = RestoredCoil(fact.detail["coil"], stamp(fact.wall_ns))
            elif fact.type == "coil.ended":
                self._latest = RestoredCoil(None, stamp(fact.wall_ns))
        if self._latest is None or self._latest == self._written:
            return
        said = {"schema": SCHEMA, "coil": self._latest.name, "since": self._latest.since}
        try:
            atomic_files.replace(self._path, json.dumps(said).encode() + b"\n")
        except OSError as error:  # the next events try again
            if not self._told:
                log.warning("the coil cannot be kept for a restart: %s", error.strerror or error)
            self._told = True
        else:
            self._written, self._told = self._latest, False

    def _read(self) -> RestoredCoil | None:
        try:
            with self._path.open("rb") as file:
                said = json.loads(file.read(MAX_BYTES))
            if said["schema"] != SCHEMA or not isinstance(said["coil"], str | None):
                raise ValueError("it says something else")
            wall_ns_of(said["since"])
            return RestoredCoil(said["coil"], said["since"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s cannot be used (%s): the coil is unknown until one begins", self._path, error)
            return RestoredCoil(None, stamp(self._clock.wall_ns()))
