"""The labels of the node as the page gives them: the store, what is next, the thresholds in use, reports of changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from edge.evidence.label_queue import LabelQueue
from edge.evidence.labels import LabelStore, Person
from edge.host.clock import Clock
from edge.web.refusal import Refusal
from edge.web.settings import PageSettings
from edge.web.user import Role, User

log = logging.getLogger(__name__)

REPORT_S: Final = 5.0
"""Changes of this time become one event for each person: somebody who labels presses a key each second."""
MAX_UNREPORTED: Final = 100
"""People with changes that the daemon has not recorded yet."""


Ask = Callable[[str, User, Mapping[str, Any]], Awaitable[object]]
"""Sends a command to the daemon: `edge.web.commands.Commands.ask`."""


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
        self._reporting: asyncio.Task[None] | None = None

    def note(self, person: Person, *, labels: int = 0, undone: int = 0, before: str, after: str) -> None:
        """Remember a change for the next report."""
        known = self._unreported.get(person)
        if known is None and len(self._unreported) >= MAX_UNREPORTED:
            return
        first = known or Work(0, 0, before, after)
        self._unreported[person] = Work(first.labels + labels, first.undone + undone, first.before, after)

    def report_soon(self, ask: Ask, delay_s: float = REPORT_S) -> None:
        """Let the daemon record the changes of the next seconds; called on the loop after each change."""
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report_after(delay_s, ask))

    async def _report_after(self, delay_s: float, ask: Ask) -> None:
        await asyncio.sleep(delay_s)
        await self.report(ask)

    async def report(self, ask: Ask) -> None:
        """Let the daemon record what has not been reported: an event `operator.acted` for each person.

        What it does not take is reported with the next change; the file of labels has it in any case.
        """
        work, self._unreported = self._unreported, {}
        for person, done in work.items():
            fields = {
                "action": "labels.changed",
                "before_sha256": done.before,
                "after_sha256": done.after,
                "reason": f"{done.labels} labels given, {done.undone} taken back",
            }
            try:
                await ask("acted", User(person.name, cast("Role", person.role)), fields)
            except Refusal as refused:
                log.info("labels of %s are not recorded as an event yet: %s", person.name, refused)
                later = self._unreported.pop(person, None)
                self.note(person, labels=done.labels, undone=done.undone, before=done.before, after=done.after)
                if later is not None:
                    self.note(person, labels=later.labels, undone=later.undone, before=later.before, after=later.after)


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
