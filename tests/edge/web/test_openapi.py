"""The description of the API against the table of routes, and real answers against their schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fakes.page import PageClient, add_users, served_page
from fakes.page_feed import FakeFeed, state_of

from edge.web import body, openapi
from edge.web.refusal import Refusal
from edge.web.routes import ROUTES

DOCUMENT = openapi.document(ROUTES, node="line3", version="1.2.3", base_path="/line3")
OPERATIONS = [(path, method, one) for path, methods in DOCUMENT["paths"].items() for method, one in methods.items()]


def validated(answer: Any, name: str) -> Any:
    schema = openapi.schema(name)
    jsonschema.validate(answer, schema, cls=jsonschema.Draft202012Validator)
    return answer


def test_document_describes_every_route_and_nothing_else() -> None:
    """With its role, its parameters, its body, and the schema of its answer."""
    described = {(path, method.upper(), operation["x-role"]) for path, method, operation in OPERATIONS}
    assert described == {(row.path, row.method, row.role) for row in ROUTES}
    for path, method, operation in OPERATIONS:
        in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert ("requestBody" in operation) == (method == "post")


def test_document_is_a_sound_openapi_document() -> None:
    """Every reference leads somewhere, every schema is one, names of operations differ, defaults answer errors."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(DOCUMENT["info"])
    schemas = DOCUMENT["components"]["schemas"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    for schema in [*schemas.values(), *(row.fields for row in ROUTES)]:
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(operation["responses"]["default"] for _, _, operation in OPERATIONS)


def test_bodies_use_only_what_is_checked() -> None:
    """A key of JSON Schema that `edge.web.body` does not know would promise a check that nobody makes."""
    known = {
        "type", "enum", "const", "properties", "required", "additionalProperties", "maxProperties", "items", "minItems",
        "maxItems", "minLength", "maxLength", "pattern", "minimum", "maximum", "description",
    }  # fmt: skip

    def keys(schema: Any) -> set[str]:
        inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
        return set(schema).union(*(keys(one) for one in inner if isinstance(one, dict)))

    for row in ROUTES:
        assert keys(row.fields) <= known, row.path


def test_real_answers_fit_their_schemas(tmp_path: Path) -> None:
    """Of every route that answers JSON, a success and a refusal."""
    add_users(tmp_path)
    with FakeFeed(tmp_path / "web.sock") as feed, served_page(tmp_path) as scene:
        client: PageClient = scene.as_role("edda")
        feed.say(state_of())
        job = scene.served.page.children
        scene.loop.call_soon_threadsafe(lambda: job.submit(["--version"], label="version", by="edda"))
        jobs = validated(client.get("/api/v1/jobs").json, "api-jobs-1")
        validated(client.get(f"/api/v1/jobs/{jobs['jobs'][0]['id']}").json, "api-job-1")
        validated(client.post(f"/api/v1/jobs/{jobs['jobs'][0]['id']}/cancel").json, "api-job-1")
        validated(client.get("/healthz").json, "api-health-1")
        validated(client.get("/api/v1/session").json, "api-session-1")
        validated(client.get("/api/v1/state").json, "api-state-1")
        validated(client.get("/api/v1/trend").json, "api-trend-1")
        validated(client.get("/api/v1/events").json, "api-events-1")
        for path in ("/api/v1/events/1", "/api/v1/jobs/x", "/api/v1/nothing", "/api/v1/command"):
            validated(client.get(path).json, "api-error-1")
        assert client.get("/api/v1/openapi.json").json["paths"] == DOCUMENT["paths"]


CASES: list[tuple[Any, Any, bool]] = [
    ({"type": "integer", "minimum": 1}, 1, True),
    ({"type": "integer", "minimum": 1}, 0, False),
    ({"type": "integer"}, True, False),
    ({"type": "integer"}, 1.5, False),
    ({"type": "boolean"}, True, True),
    ({"type": "boolean"}, 1, False),
    ({"type": ["number", "null"]}, None, True),
    ({"type": "string", "maxLength": 2}, "abc", False),
    ({"type": "string", "pattern": "^a$"}, "b", False),
    ({"enum": ["a", "b"]}, "c", False),
    ({"const": "a"}, "b", False),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["a"], True),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["a", "b"], False),
    ({"type": "array", "items": {"type": "string"}}, [1], False),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {}, False),
    ({"type": "object", "additionalProperties": {"type": "number"}, "maxProperties": 1}, {"a": 1}, True),
    ({"type": "object", "additionalProperties": {"type": "number"}, "maxProperties": 1}, {"a": 1, "b": 2}, False),
    ({"type": "object", "additionalProperties": {"type": "number"}}, {"a": "b"}, False),
]


@pytest.mark.parametrize(("schema", "value", "fits"), CASES)
def test_bodies_are_checked_as_json_schema_does(schema: Any, value: Any, *, fits: bool) -> None:
    """The small checker and a full validator agree."""
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is fits
    try:
        body.check(value, schema)
        found = True
    except Refusal:
        found = False
    assert found is fits


@pytest.mark.parametrize(
    "text", [b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'{"a": "\\ud800"}', b'{"b": 1}', b'{"a": "\\u0000"}', b"1"]
)
def test_hostile_bodies_are_refused(text: bytes) -> None:
    """Half a character, a NUL, endless nesting, fields that nobody asked for."""
    with pytest.raises(Refusal):
        body.parsed(text, {"type": "object", "properties": {"a": {"type": "string"}}})
