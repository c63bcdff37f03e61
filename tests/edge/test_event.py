"""The JSON form of events is the shipped schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, get_args

import jsonschema
import pytest
from fakes.delivery import ORIGIN, event, every_event

from edge.coverage.accounting import Coverage
from edge.event import EventType, as_json


def validator(name: str) -> Any:
    schema = json.loads(files("edge").joinpath(f"schema/{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


EVENTS = validator("event-1")


@pytest.mark.parametrize("one", every_event(), ids=lambda e: e.type)
def test_event_of_every_type_validates(one):
    """What as_json writes is what the schema says, once it has a number."""
    EVENTS.validate({**as_json(one, ORIGIN), "seq": 1})


def test_schema_knows_exactly_the_types_of_the_code():
    """A new type of event cannot be forgotten in the schema."""
    assert set(EVENTS.schema["properties"]["type"]["enum"]) == set(get_args(EventType))


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
def test_schema_refuses_what_is_not_an_event(change):
    """A defect event without its defect, an unknown field, a missing number: none passes."""
    opened = next(e for e in every_event() if e.type == "defect.opened")
    assert not EVENTS.is_valid({**as_json(opened, ORIGIN), "seq": 1, **change})


def test_coverage_message_validates():
    """What coverage reports is what its schema says."""
    coverage = Coverage(now_ns=0)
    coverage.signal(present=True, now_ns=10)
    coverage.count("ok", 3)
    coverage.count_tiles(5, 1)
    validator("coverage-1").validate(coverage.report(10**10))
