"""Events in JSON match the shipped schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, get_args

import jsonschema
import pytest
from fakes.clock import FakeClock
from fakes.delivery import ORIGIN, event, every_event

from edge.coverage.accounting import Coverage
from edge.event import EVENT_TYPES, Event, EventType, Severity, as_json


def validator(name: str) -> Any:
    schema = json.loads(files("edge").joinpath(f"schema/{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


EVENTS = validator("event-1")


@pytest.mark.parametrize("one", every_event(), ids=lambda e: e.type)
def test_event_of_every_type_validates(one):
    """An event of each type, once it has a number, is valid."""
    EVENTS.validate({**as_json(one, ORIGIN), "seq": 1})


def test_type_severity_table_and_schema_list_the_same_event_types():
    """A new event type cannot be forgotten in one of the three places, nor named twice."""
    names = EVENTS.schema["properties"]["type"]["enum"]
    assert list(get_args(EventType)) == list(EVENT_TYPES) == names


def test_every_event_type_has_a_severity():
    """The outbox and the rules of an operator know only these severities."""
    assert set(EVENT_TYPES.values()) == set(get_args(Severity))


def test_new_event_is_stamped_with_the_time_of_the_clock():
    """Both times come from one clock, and the id carries the wall time."""
    clock = FakeClock()
    one = Event.now(clock, "top", "image.bad", {"reason": "dark"})
    assert (one.camera, one.type, one.detail) == ("top", "image.bad", {"reason": "dark"})
    assert (one.wall_ns, one.monotonic_ns) == (clock.wall_ns(), clock.monotonic_ns())
    assert int(one.event_id.replace("-", "")[:12], 16) == clock.wall_ns() // 1_000_000


def test_schema_names_every_field_and_no_other():
    """An event has the fields of the contract, no more and no less."""
    assert set(as_json(event(), ORIGIN)) == set(EVENTS.schema["properties"]) == set(EVENTS.schema["required"])


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"defect": None},
        {"extra": 1},
        {"event_id": "1"},
        {"time": "2026-11-22 13:46:11"},
        {"camera": "a/b"},
        {"type": "defect.seen"},
        {"replayed": None},
    ],
)
def test_schema_rejects_an_invalid_event(change):
    """A defect event without its defect, an unknown field, a missing number: none is valid."""
    opened = next(e for e in every_event() if e.type == "defect.opened")
    assert not EVENTS.is_valid({**as_json(opened, ORIGIN), "seq": 1, **change})


def test_coverage_message_validates():
    """A coverage report matches its schema."""
    coverage = Coverage(now_ns=0)
    coverage.signal(present=True, now_ns=10)
    coverage.count("ok", 3)
    coverage.count_tiles(5, 1)
    validator("coverage-1").validate(coverage.report(10**10))
