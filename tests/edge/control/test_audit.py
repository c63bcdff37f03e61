"""What people change through the page becomes an event, and a stale view changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge import event
from edge.control.audit import Audit, Call
from edge.control.requests import Acted, Actor, Coil, Model, Pause, Ping, Request, Set, State
from edge.errors import CommandError
from edge.host.clock import SystemClock

ANNA = Actor(name="anna", role="engineer", via="10.0.0.5")
BEFORE, AFTER = "ab" * 32, "cd" * 32
SCHEMA = json.loads((Path(event.__file__).parent / "schema" / "event-1.json").read_text())


class Node:
    """A node whose configuration every command changes."""

    def __init__(self) -> None:
        self.origin = event.Origin("line3", "boot", {"name": "s", "version": "1", "sha256": "11" * 32}, BEFORE)
        self.reported: list[dict[str, Any]] = []
        self.performed: list[Request] = []
        self.failure: Exception | None = None

    def changing(self) -> Any:
        return nullcontext()

    def report(self, kind: event.EventType, detail: dict[str, Any]) -> None:
        fact = event.Event.now(SystemClock(), event.NODE_CAMERA, kind, detail)
        jsonschema.validate({**event.as_json(fact, self.origin), "seq": 1}, SCHEMA)
        self.reported.append(detail)

    def perform(self, request: Request) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.performed.append(request)
        self.origin = event.Origin("line3", "boot", {**self.origin.model, "sha256": "22" * 32}, AFTER)
        return {"done": True}


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def perform(node: Node) -> Callable[[Call], dict[str, Any]]:
    return Audit(node.perform, node).perform


@pytest.mark.parametrize(
    ("verb", "request_", "expected"),
    [
        ("set", Set(camera="top", confidence=0.5), ("set", "top", BEFORE, AFTER, None)),
        ("pause", Pause(camera="top", reason="roll change"), ("pause", "top", BEFORE, AFTER, "roll change")),
        ("coil", Coil(action="start", coil="B2"), ("coil.start", None, BEFORE, AFTER, None)),
        ("model", Model(action="rollback"), ("model.rollback", None, "11" * 32, "22" * 32, None)),
    ],
)
def test_a_change_by_a_person_is_an_event(
    node: Node, perform: Any, verb: str, request_: Request, expected: tuple[Any, ...]
) -> None:
    """Who, what, where, and the hashes before and after; it fits the schema."""
    assert perform(Call(verb, request_, ANNA)) == {"done": True}
    (detail,) = node.reported
    assert tuple(detail[key] for key in ("verb", "camera", "before_sha256", "after_sha256", "reason")) == expected
    assert (detail["who"], detail["role"], detail["via"]) == ("anna", "engineer", "10.0.0.5")


@pytest.mark.parametrize(
    ("verb", "request_"), [("ping", Ping()), ("state", State()), ("coil", Coil()), ("model", Model())]
)
def test_a_look_is_no_event(node: Node, perform: Any, verb: str, request_: Request) -> None:
    """Only changes are recorded."""
    perform(Call(verb, request_, ANNA))
    assert node.reported == []


def test_a_change_without_a_person_is_as_before(node: Node, perform: Any) -> None:
    """Programs of this machine are not recorded."""
    perform(Call("set", Set(camera="top", confidence=0.5)))
    assert node.reported == []


def test_a_refused_change_is_no_event(node: Node, perform: Any) -> None:
    """Nothing was changed."""
    node.failure = CommandError("unknown_camera", "no camera")
    with pytest.raises(CommandError, match="no camera"):
        perform(Call("pause", Pause(camera="x"), ANNA))
    assert node.reported == []


def test_a_stale_view_changes_nothing(node: Node, perform: Any) -> None:
    """Two people at one threshold: the second looks again."""
    call = Call("set", Set(camera="top", confidence=0.5), ANNA, BEFORE)
    perform(call)
    with pytest.raises(CommandError) as refused:
        perform(call)
    assert refused.value.code == "stale"
    assert len(node.performed) == len(node.reported) == 1


def test_what_was_changed_without_a_command_is_recorded(node: Node, perform: Any) -> None:
    """A calibration, labels; but only with the person who did it."""
    acted = Acted(action="calibration.roi", camera="top", before_sha256=BEFORE, after_sha256=AFTER)
    assert perform(Call("acted", acted, ANNA)) == {"recorded": True}
    assert node.reported[0]["verb"] == "calibration.roi"
    with pytest.raises(CommandError, match="give the actor"):
        perform(Call("acted", acted))


@pytest.mark.parametrize("name", ["", "a\nb", " a", "a" * 65, "\u202etxt"])
def test_a_name_is_one_line_of_printable_characters(name: str) -> None:
    """It is shown in the log and to every consumer of events."""
    with pytest.raises(ValueError, match="name"):
        Actor(name=name, role="viewer")
