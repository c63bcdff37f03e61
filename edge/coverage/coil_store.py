"""The coil on the line, kept over restarts: its name, or that none runs.  Not its position: that is unknown afterwards.

    STATE_DIR/coil.json   {"schema": "defectd.coil/1", "coil": "A4711", "since": "2026-11-22T13:46:11.482Z"}

Without `coil` in it no coil was ever named on this node: positions then count from the start of the node. `lanes` has
the coils of single lanes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edge.coverage.state_file import StateFile
from edge.coverage.strip_position import RestoredCoil
from edge.event import Event
from edge.host.clock import NS_PER_S, Clock, stamp, wall_ns_of

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.coil/1"
MAX_AWAY_S: Final = 3600
"""A node that was off for longer does not resume its coil: a wrong name is worse than none."""
MAX_BYTES: Final = 65_536


class CoilStore:
    """The file: read at the start, replaced when a coil starts or ends.  `record` belongs to the recorder's thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = StateFile(path, log, "the coil cannot be saved for a restart")
        self._clock = clock
        self._saved = self._latest = self._load()

    @property
    def latest(self) -> RestoredCoil | None:
        """The coil of the previous run, until `record` gets another one; None: no coil was ever named."""
        return self._latest

    def may_still_run(self, alive_ns: int | None) -> bool:
        """Whether the coil of the previous run can still be on the line.

        alive_ns: wall time at which the previous run was last known to be alive.
        """
        if self._latest is None:
            return False
        last_ns = max(wall_ns_of(self._latest.since), alive_ns or 0)
        return abs(self._clock.wall_ns() - last_ns) <= MAX_AWAY_S * NS_PER_S

    def record(self, events: Iterable[Event]) -> None:
        """Save the coil that these events name.  Call it before they are stored: a reported coil then survives."""
        for fact in events:
            if fact.type in ("coil.started", "coil.ended") and fact.detail is not None:
                name = fact.detail["coil"] if fact.type == "coil.started" else None
                self._latest = _after(self._latest, name, fact.detail.get("lane"), stamp(fact.wall_ns))
        if self._latest is None or self._latest == self._saved:
            return
        content: dict[str, Any] = {"schema": SCHEMA, "since": self._latest.since}
        if self._latest.was_named:
            content["coil"] = self._latest.name
        if self._latest.lanes or not self._latest.was_named:
            content["lanes"] = dict(self._latest.lanes)
        if self._file.save(json.dumps(content) + "\n"):  # after a failure the next events try again
            self._saved = self._latest

    def _load(self) -> RestoredCoil | None:
        try:
            content = self._file.load(MAX_BYTES)
            lanes = dict(content.get("lanes", {}))
            was_named = "coil" in content or "lanes" not in content
            if content["schema"] != SCHEMA or not isinstance(content["coil"] if was_named else None, str | None):
                raise ValueError("it has other content")
            if not all(isinstance(name, str) for name in lanes.values()):
                raise ValueError("it has other lanes")
            wall_ns_of(content["since"])
            return RestoredCoil(content["coil"] if was_named else None, content["since"], was_named, lanes)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("%s cannot be used (%s): the coil is unknown until the next one starts", self._file.path, error)
            return RestoredCoil(None, stamp(self._clock.wall_ns()))


def _after(before: RestoredCoil | None, name: str | None, lane: str | None, since: str) -> RestoredCoil:
    """What is known after a coil started, or ended (name: None), on a lane or on the strip (lane: None)."""
    known = before or RestoredCoil(None, since, was_named=False)
    if lane is None:
        return replace(known, name=name, since=since, was_named=True)
    rest = {each: coil for each, coil in known.lanes.items() if each != lane}
    lanes = rest if name is None else {**rest, lane: name}
    return replace(known, lanes=lanes)
