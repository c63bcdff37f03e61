"""The labels of the node, as the page gives them: the store, what is next, the thresholds in use, the report of changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.evidence.label_queue import LabelQueue
from edge.evidence.labels import LabelStore, Person
from edge.host.clock import Clock
from edge.web.settings import PageSettings

MAX_UNREPORTED: Final = 100
"""People with changes that the daemon has not recorded yet."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one person changed since the last report.  before, after: SHA-256 of the file of labels."""

    labels: int
    undone: int
    before: str
    after: str


class Labelling:
    """Owned by the page process.  Touches no file before the first request."""

    def __init__(self, settings: PageSettings, clock: Clock) -> None:
        self.store = LabelStore(settings.labels, settings.evidence, clock)
        self.queue = LabelQueue(settings.evidence, self.store)
        self._unreported: dict[Person, Work] = {}

    def note(self, person: Person, *, labels: int = 0, undone: int = 0, before: str, after: str) -> None:
        """Remember a change for the next report."""
        known = self._unreported.get(person)
        if known is None and len(self._unreported) >= MAX_UNREPORTED:
            return
        first = known or Work(0, 0, before, after)
        self._unreported[person] = Work(first.labels + labels, first.undone + undone, first.before, after)

    def take(self) -> dict[Person, Work]:
        """What must be reported, by person; nothing is left."""
        work, self._unreported = self._unreported, {}
        return work

    def put_back(self, work: Mapping[Person, Work]) -> None:
        """These could not be reported: the next report includes them."""
        later = self.take()
        for changes in (work, later):
            for person, one in changes.items():
                self.note(person, labels=one.labels, undone=one.undone, before=one.before, after=one.after)


def thresholds_of(state: Mapping[str, Any] | None, classes: list[str]) -> dict[str, dict[str, float]] | None:
    """The thresholds in use, by camera and class, from the state object of the daemon; None where it has none.

    A class that a command or the configuration names has that threshold; then come calibrated ones, then `confidence`.
    """
    found: dict[str, dict[str, float]] = {}
    for camera in (state or {}).get("cameras") or ():
        limits, calibrated = camera.get("thresholds"), camera.get("calibrated_thresholds", ...)
        if not isinstance(limits, Mapping) or calibrated is ...:
            continue
        own, fitted = limits.get("classes") or {}, (calibrated or {}).get("classes") or {}
        general, unsure = float(limits["confidence"]), float(limits["unsure"])
        found[str(camera["name"])] = {
            name: float(own.get(name, max(float(fitted.get(name, general)), unsure))) for name in classes
        }
    return found or None
