"""The reference page of the API, written from the OpenAPI document that the page serves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from edge.web import openapi
from edge.web.routes import ROUTES

DOCUMENT: Final = openapi.document(ROUTES, node="NODE", version="", base_path="")
SCHEMAS: Final = DOCUMENT["components"]["schemas"]
INTRO: Final = """
The page process serves these routes at `web.listen`, usually `http://127.0.0.1:8480`. `GET /api/v1/openapi.json`
returns the same description for programs (OpenAPI 3.1). [The page](../page.md#the-api) shows how to log in, and has an
example request for each route.

- **Role.** `anyone` needs no session. An operator may do all that a viewer may, an engineer all that an operator may.
  While the node has no users, everybody on its machine is a viewer.
- **POST.** A request needs the headers `Origin`, which names this page, and `X-Defectd: 1`. Its body is JSON unless the
  route states another type.
- **Refusals.** A refusal has a status above 399 and the form of [`api-error-1`](#api-error-1).
"""
ANSWERS: Final = """
## Answers

The JSON Schemas are `edge/schema/NAME.json`. The tables show the fields down to the second level.
"""
MAX_DEPTH: Final = 2
"""Levels of fields that the tables show; the schemas have all of them."""
MAX_WORDS: Final = 10
"""A field that allows more words is a text."""


def text(note: str) -> str:
    """The page.  note: the comment below its title."""
    made = f"# API\n\n{note}{INTRO}\n## Routes\n\n| request | role | answers |\n|---|---|---|\n"
    made += "".join(_row(f"[`{name}`](#{_anchor(name)})", one["x-role"], one["summary"]) for name, one in _routes())
    made += "".join(_route(name, one) for name, one in _routes())
    return made + ANSWERS + "".join(_answer(name, schema) for name, schema in SCHEMAS.items())


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _routes() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def _anchor(heading: str) -> str:
    """What the documentation makes of a heading in an address."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _route(name: str, operation: dict[str, Any]) -> str:
    made = f"\n### {name}\n\n{operation['summary']}. Role: {operation['x-role']}. Answer: {_content(operation)}.\n"
    rows = [(f["name"], f["in"], f["schema"], f.get("description", "")) for f in operation["parameters"]]
    for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
        if kind != "application/json":
            made += f"\nThe body is `{kind}`.\n"
        schema = body.get("schema", {})
        needed = schema.get("required", ())
        rows += [(key, "body", field, _limits(field, is_needed=key in needed)) for key, field in _fields(schema)]
    if rows:
        made += "\n| parameter | in | type | meaning |\n|---|---|---|---|\n"
        made += "".join(_row(f"`{name}`", place, type_of(field), about) for name, place, field, about in rows)
    return made


def _content(operation: dict[str, Any]) -> str:
    """A link to the schema of the answer, or its content type."""
    ((kind, body),) = operation["responses"]["200"]["content"].items()
    if not body:
        return f"`{kind}`"
    name = body["schema"]["$ref"].rsplit("/", 1)[1]
    return f"[`{name}`](#{_anchor(name)})"


def _limits(field: dict[str, Any], *, is_needed: bool) -> str:
    """What a field of a body may be, in words."""
    low, high = field.get("minimum"), field.get("maximum")
    bounds = "" if low is None or high is None else f"{low:,} to {high:,}"
    return "; ".join(filter(None, ("required" if is_needed else "", bounds)))


def _answer(name: str, schema: dict[str, Any]) -> str:
    made = f"\n### {name}\n\n" + " ".join(filter(None, (schema["title"].capitalize() + ".", schema.get("description"))))
    made += "\n\n| field | type | meaning |\n|---|---|---|\n"
    rows = _fields(schema)
    return made + "".join(_row(f"`{key}`", type_of(field), field.get("description", "")) for key, field in rows)


def _fields(schema: dict[str, Any], depth: int = 1) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and schemas of the fields, those of objects and lists below them: `cameras[].name`."""
    for name, field in schema.get("properties", {}).items():
        yield name, field
        inner, mark = _resolved(field), "."
        if "items" in inner:
            inner, mark = _resolved(inner["items"]), "[]."
        if depth < MAX_DEPTH:
            yield from ((f"{name}{mark}{key}", below) for key, below in _fields(inner, depth + 1))


def _resolved(field: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference names; of several, the one that is not null."""
    if "anyOf" in field or "oneOf" in field:
        field = next(one for one in field.get("anyOf") or field["oneOf"] if one.get("type") != "null")
    if "$ref" not in field:
        return field
    found: Any = DOCUMENT
    for part in field["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return _resolved(found)


def type_of(field: dict[str, Any]) -> str:
    """The JSON type of a schema's field, in words."""
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        words = ("null" if value is None else f"`{value}`" for value in field["enum"])
        return "text" if len(field["enum"]) > MAX_WORDS else " or ".join(words)
    if "$ref" in field:
        return field["$ref"].rsplit("/", 1)[1]
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(type_of(option) for option in field.get("anyOf") or field["oneOf"])
    kinds = field.get("type", "any")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)
