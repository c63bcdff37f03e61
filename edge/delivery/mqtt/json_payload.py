"""JSON payloads of foreign clients: parsed within limits, and values found by a path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from edge import config
from edge.errors import CommandError

MAX_DEPTH: Final = 8


def json_value(payload: bytes) -> Any:
    """The parsed value, without anything that could harm a reader.  Raises CommandError."""
    if _depth(payload) > MAX_DEPTH:
        raise CommandError("too_deep", f"at most {MAX_DEPTH} levels can be read")
    try:
        value = json.loads(
            payload.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short_int,
            object_pairs_hook=_unique,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate could not be sent back
    except UnicodeError:
        raise CommandError("bad_json", "the payload is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, _Unwanted) else "it cannot be parsed"
        raise CommandError("bad_json", f"the payload is not JSON: {why}") from None
    return value


class _Unwanted(ValueError):
    """Accepted by Python as JSON, but not by us."""


def _no_constant(name: str) -> Any:
    raise _Unwanted(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unwanted("a number is too large")
    return value


def _short_int(text: str) -> int:
    if len(text) > 20:
        raise _Unwanted("a number is too large")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Unwanted("a key occurs twice")
    return value


_MARKS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+\\?+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
"""Strings and brackets.  A string without an end extends to the end of the text, so that no byte is scanned twice."""


def _depth(payload: bytes) -> int:
    """Most brackets open at the same time, without those in strings: cheaper than parsing, and cannot overflow."""
    depth = deepest = 0
    for mark in _MARKS.findall(payload):
        if mark in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif mark in (b"]", b"}"):
            depth -= 1
    return deepest


def steps(path: str) -> Iterator[str | int]:
    """The steps of a JSON path that `config.Travel` has validated: names and indices."""
    for name, index, quoted in config.PATH_STEP.findall(path.removeprefix("$")):
        yield int(index) if index else name or quoted
