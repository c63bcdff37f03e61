"""Commands of people whom the page knows: what they changed becomes an event, so that the record leaves the machine.

A command without an actor comes from a program or a user of this machine, and is carried out as before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from edge.control.requests import Acted, Actor, Coil, DeadLetters, Model, Pause, Reload, Request, Resume, Set
from edge.errors import CommandError
from edge.event import EventType, Origin

Perform = Callable[[Request], dict[str, Any]]

SHOWS_ONLY: Final = ("list", "show")
"""Actions that change nothing."""


class AuditedNode(Protocol):
    """`edge.control.reload.Node`, or a fake."""

    @property
    def origin(self) -> Origin: ...
    def changing(self) -> Any: ...
    def report(self, kind: EventType, detail: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One command of this machine.  expected_config_sha256: refuse it when the configuration is another one by now."""

    verb: str
    request: Request
    actor: Actor | None = None
    expected_config_sha256: str | None = None


class Audit:
    """Carries out calls; any thread may call `perform`."""

    def __init__(self, perform: Perform, node: AuditedNode) -> None:
        """perform: carries out a request; raises DefectdError to refuse."""
        self._perform = perform
        self._node = node

    def perform(self, call: Call) -> dict[str, Any]:
        """Carry out a command, and record it if an actor changed something.  Raises DefectdError to refuse."""
        if isinstance(call.request, Acted):
            return self._record(call, call.request)
        if call.actor is None and call.expected_config_sha256 is None:
            return self._perform(call.request)
        changes = _changes(call.request)
        with self._node.changing() if changes else nullcontext():  # what is compared stays the same until the change
            self._refuse_if_stale(call)
            before = self._node.origin
            result = self._perform(call.request)
            if changes and call.actor is not None:
                self._report(call.verb, call.request, call.actor, before)
        return result

    def _refuse_if_stale(self, call: Call) -> None:
        present, expected = self._node.origin.config_sha256, call.expected_config_sha256
        if expected is not None and expected != present:
            reason = f"the configuration has changed meanwhile: it is {present[:12]}, not {expected[:12]}; look again"
            raise CommandError("stale", reason)

    def _report(self, verb: str, request: Request, actor: Actor, before: Origin) -> None:
        after = self._node.origin
        sha256 = (before.config_sha256, after.config_sha256)
        if isinstance(request, Model):
            sha256 = (before.model["sha256"], after.model["sha256"])
        action, reason = getattr(request, "action", None), getattr(request, "reason", None)
        words = verb if action is None else f"{verb}.{action}"
        self._node.report("operator.acted", _detail(actor, words, getattr(request, "camera", None), sha256, reason))

    def _record(self, call: Call, acted: Acted) -> dict[str, Any]:
        """Something was changed without a command: a calibration file, a label."""
        if call.actor is None:
            raise CommandError("bad_value", "acted: give the actor")
        detail = _detail(
            call.actor, acted.action, acted.camera, (acted.before_sha256, acted.after_sha256), acted.reason
        )
        self._node.report("operator.acted", detail)
        return {"recorded": True}


def _changes(request: Request) -> bool:
    """Whether the request may change something."""
    if isinstance(request, Coil | DeadLetters | Model):
        return request.action not in SHOWS_ONLY
    return isinstance(request, Pause | Resume | Set | Reload)


def _detail(
    actor: Actor,
    verb: str,
    camera: str | None,
    sha256: tuple[str | None, str | None],
    reason: str | None,
) -> dict[str, Any]:
    before, after = sha256
    return {
        "who": actor.name,
        "role": actor.role,
        "via": actor.via,
        "verb": verb,
        "camera": camera,
        "before_sha256": before,
        "after_sha256": after,
        "reason": reason,
    }
