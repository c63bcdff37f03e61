"""Checks the body of a request against its schema: the part of JSON Schema that the rows of the table use.

Keys: type, enum, const, properties, required, additionalProperties, items, minItems, maxItems, minLength, maxLength,
pattern, minimum, maximum. An object takes no other fields than its `properties`, unless additionalProperties allows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from edge.host.text import is_valid
from edge.web.refusal import bad_value

MAX_DEPTH: Final = 8
TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTHING: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
"""The schema of a POST that needs no fields."""


def parsed(body: bytes, schema: Mapping[str, Any]) -> Any:
    """The value of a body that fits the schema.  Raises Refusal."""
    try:
        value = json.loads(body or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise bad_value("the body is not JSON") from None
    check(value, schema)
    return value


def check(value: Any, schema: Mapping[str, Any], at: str = "the body", depth: int = 0) -> None:
    """Raises Refusal, which names the place in the body."""
    if depth > MAX_DEPTH:
        raise bad_value(f"{at} is nested too deep")
    _check_type(value, schema, at)
    if "const" in schema and value != schema["const"]:
        raise bad_value(f"{at} should be {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        raise bad_value(f"{at} should be one of: {', '.join(map(str, schema['enum']))}")
    if isinstance(value, str):
        _check_text(value, schema, at)
    elif isinstance(value, list):
        _check_list(value, schema, at, depth)
    elif isinstance(value, dict):
        _check_object(value, schema, at, depth)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
        if not low <= value <= high:
            raise bad_value(f"{at} should be from {low} to {high}")


def _check_type(value: Any, schema: Mapping[str, Any], at: str) -> None:
    wanted = schema.get("type")
    if wanted is None:
        return
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if isinstance(value, bool):
        fits = "boolean" in names
    else:
        fits = isinstance(value, tuple(kind for name in names for kind in TYPES[name]))
    if not fits:
        raise bad_value(f"{at} should be: {' or '.join(names)}")


def _check_text(value: str, schema: Mapping[str, Any], at: str) -> None:
    low, high = schema.get("minLength", 0), schema.get("maxLength", 1000)
    if not low <= len(value) <= high:
        raise bad_value(f"{at} should have {low} to {high} characters")
    if not is_valid(value) or ("pattern" in schema and not re.search(schema["pattern"], value)):
        raise bad_value(f"{at} has characters that are not allowed there")


def _check_list(value: list[Any], schema: Mapping[str, Any], at: str, depth: int) -> None:
    low, high = schema.get("minItems", 0), schema.get("maxItems", 1000)
    if not low <= len(value) <= high:
        raise bad_value(f"{at} should have {low} to {high} entries")
    items = schema.get("items")
    if items is not None:
        for number, item in enumerate(value):
            check(item, items, f"{at}[{number}]", depth + 1)


def _check_object(value: dict[str, Any], schema: Mapping[str, Any], at: str, depth: int) -> None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        raise bad_value(f"{at} lacks: {', '.join(missing)}")
    others = schema.get("additionalProperties", False)
    if len(value) > schema.get("maxProperties", 1000):
        raise bad_value(f"{at} has too many fields")
    for name, item in value.items():
        known = properties.get(name)
        if known is None and others is False:
            allowed = ", ".join(properties) or "none"
            raise bad_value(f"{at} has an unknown field; there are: {allowed}")
        inner = known if known is not None else others
        if isinstance(inner, Mapping):
            check(item, inner, name if at == "the body" else f"{at}.{name}", depth + 1)


def _no_number(name: str) -> float:
    raise ValueError(name)
