"""The description of the API, made of the table of routes: it cannot differ from what is served."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge.web.refusal import ERROR_SCHEMA
from edge.web.route import Parameter, Route

SCHEMAS: Final = Path(__file__).parents[1] / "schema"
ERROR: Final = "api-error-1"
assert ERROR_SCHEMA.endswith("/1")
REFERENCE: Final = "#/components/schemas/"


def document(routes: Sequence[Route], *, node: str, version: str, base_path: str) -> dict[str, Any]:
    """An OpenAPI 3.1 document.  Raises OSError when a schema that a row names is missing."""
    paths: dict[str, dict[str, Any]] = {}
    names = {ERROR}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
        if _is_schema(route.answer):
            names.add(route.answer)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"defectd on {node}",
            "version": version,
            "description": (
                "Each operation states the role that it needs in x-role. A POST needs the headers Origin, which names "
                "this page, and X-Defectd: 1."
            ),
        },
        "servers": [{"url": base_path or "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: _component(name) for name in sorted(names)},
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": f"defectd-{node}"}},
        },
    }


def schema(name: str) -> dict[str, Any]:
    """One of the shipped schemas.  Raises OSError."""
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    return found


def _component(name: str) -> dict[str, Any]:
    """A schema as a part of the document: its own definitions are found below it."""
    text = json.dumps(schema(name)).replace('"#/$defs/', f'"{REFERENCE}{name}/$defs/')
    found: dict[str, Any] = json.loads(text)
    found.pop("$schema", None)
    return found


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    content = (
        {"application/json": {"schema": {"$ref": REFERENCE + route.answer}}}
        if _is_schema(route.answer)
        else {route.answer: {}}
    )
    operation: dict[str, Any] = {
        "summary": route.about,
        "operationId": f"{route.method.lower()} {route.path}",
        "x-role": route.role,
        "parameters": parameters + [_parameter(parameter) for parameter in route.query],
        "responses": {
            "200": {"description": "the answer", "content": content},
            "default": {
                "description": "a refusal",
                "content": {"application/json": {"schema": {"$ref": REFERENCE + ERROR}}},
            },
        },
        "security": [] if route.role == "anyone" else [{"session": []}],
    }
    if route.method == "POST":
        body: Mapping[str, Any] = {"schema": dict(route.fields)} if route.takes == "application/json" else {}
        operation["requestBody"] = {"required": True, "content": {route.takes: body}}
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.about,
        "schema": {"type": parameter.type},
    }


def _is_schema(answer: str) -> bool:
    return "/" not in answer
