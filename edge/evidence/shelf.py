"""Pages through the pictures of an archive, newest first, with filters.

The process that serves the page uses this module: it imports neither numpy nor pydantic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.evidence import archive
from edge.evidence.archive import Kind, Named

MAX_LOOKED_AT: Final = 1500
"""Pictures of one call whose facts are read; the caller goes on from there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters; None lets everything through.  start, end: stamps, the first one included."""

    kinds: Sequence[Kind] = archive.KINDS
    camera: str | None = None
    class_name: str | None = None
    coil: str | None = None
    start: str | None = None
    end: str | None = None
    event_id: str | None = None

    def has(self, facts: dict[str, Any]) -> bool:
        """Whether a picture with these facts is wanted."""
        time = str(facts.get("time", ""))
        return (
            self.class_name in (None, facts.get("label"))
            and self.coil in (None, facts.get("coil"))
            and self.event_id in (None, facts.get("event_id"))
            and (self.start is None or time >= self.start)
            and (self.end is None or time < self.end)
        )

    @property
    def reads_verdict(self) -> bool:
        """Whether the answer depends on what the model said of a picture."""
        return self.class_name is not None


@dataclass(frozen=True, slots=True)
class Shelf:
    """One page of pictures with their facts.  before: the number to go on from; None at the end."""

    pictures: tuple[tuple[Named, dict[str, Any]], ...]
    before: int | None


def shelf(folder: Path, wanted: Wanted, limit: int, before: int | None = None) -> Shelf:
    """The newest pictures that are wanted, with numbers smaller than `before`.  Raises EvidenceError."""
    found = archive.newest(folder, wanted.kinds, MAX_LOOKED_AT, camera=wanted.camera, before=before)
    kept = list[tuple[Named, dict[str, Any]]]()
    for place, named in enumerate(found):
        facts = archive.facts_at(folder, named.path)
        if facts and wanted.has(facts):
            kept.append((named, facts))
        if len(kept) == limit:
            return Shelf(tuple(kept), named.number if place + 1 < len(found) else None)
    return Shelf(tuple(kept), found[-1].number if len(found) == MAX_LOOKED_AT else None)
