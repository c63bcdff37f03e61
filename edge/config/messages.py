"""What is wrong with a configuration, worded for people: key, value, allowed values, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from edge.config.schema import Config
from edge.config.value_types import model_in
from edge.errors import Problem
from edge.host.redact import redact
from edge.host.text import one_line

RENAMED_KEYS: Final[Mapping[str, str]] = {
    "model.watch_s": "canary_s",
    "travel.between": "interpolation",
    "cameras.at_m": "offset_m",
    "cameras.levels": "calibrated_thresholds",
    "cameras.normality": "anomaly",
    "cameras.health": "image_quality",
    "cameras.image_quality.after_s": "min_fault_s",
    "cameras.see_all_frames": "tile_revisit_frames",
    "cameras.memory_mb": "max_memory_mb",
}
"""Keys up to version 0.1, each by its place, and the key that is in its place now."""
RENAMED_VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "travel.interpolation": {"ramp": "linear", "hold": "previous"},
}
"""Values up to version 0.1, by key."""
MAX_SHOWN: Final = 200
"""Characters of a key: an unknown one may be any text."""
MAX_COMPARED: Final = 100
"""Characters of an unknown key that are compared with the known ones: the time grows with their square."""
PATTERNS: Final[Mapping[str, str]] = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$": "1 to 63 letters, digits, _ . or -, with a letter or digit first",
    r"^[^$/+#\s\x00-\x1f][^+#\s\x00-\x1f]*$": "no blanks, no + or #, and no / or $ at its start",
    r"^[^$/+#\s\x00-\x1f][^+#\s\x00-\x1f]*[^/+#\s\x00-\x1f]$": "no blanks, no + or #, and no / at its ends",
    r"^[^+/#\x00-\x1f\x7f]+$": "no + / or #",
    r"^[^+#\s\x00-\x1f$][^+#\x00-\x1f]*$": "a topic in full, without + or #",
    r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s])?$": "a text without control characters, and no blank at its ends",
    "^[0-9a-f]{64}$": "a SHA-256 in 64 hexadecimal digits",
    "^[A-Za-z0-9 ]{4}$": "four letters or digits",
    r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$": "a name of a host, without a scheme and a port",
    r"^(/[A-Za-z0-9][A-Za-z0-9._~-]*)*$": "a path such as /line3, without a / at its end; or empty",
}
"""The patterns of the schema, for people; a test compares them with it."""
SHOWN_KEYS: Final = 6
"""Known keys that an error about an unknown one lists, those of the most similar name first."""

_MAY_BE_SECRET: Final = re.compile("pass|pwd|secret|token|auth|key|cred|user|url|source", re.IGNORECASE)
_PLAINER: Final = {
    "model_type": "should be a mapping of keys",
    "model_attributes_type": "should be a mapping of keys",
    "dict_type": "should be a mapping of keys",
    "tuple_type": "should be a list",
    "string_type": "should be a text; put it into quotes",
    "invalid_key": "a key must be a text; put it into quotes",
}


def problems(errors: Sequence[Any], raw: Any, own_keys: Sequence[set[Any]]) -> Iterator[Problem]:
    """Every error of pydantic as a problem, without those that only follow from another one.

    raw: the file's value before references were filled in.  own_keys: the keys that each camera's `decision` sets
    itself; a problem with an inherited key is reported once, at the top-level `decision`.
    """
    for details in errors:
        if _follows(details, errors, own_keys):
            continue
        yield _problem(details, raw)
        yield from _renamed_inside(tuple(details["loc"]), raw)


def _follows(details: Any, errors: Sequence[Any], own_keys: Sequence[set[Any]]) -> bool:
    """Whether the error is only a consequence of another one."""
    loc = details["loc"]
    inside = (other["loc"] for other in errors if len(other["loc"]) > len(loc))
    if details["type"] == "too_short" and any(other[: len(loc)] == loc for other in inside):
        return True
    if len(loc) < 3 or loc[0] != "cameras" or loc[2] != "decision" or loc[1] >= len(own_keys):
        return False
    inherited = loc[3] not in own_keys[loc[1]] if len(loc) > 3 else not own_keys[loc[1]]
    return inherited and any(other["loc"] == loc[2:] for other in errors)


def _problem(details: Any, raw: Any) -> Problem:
    """One error of pydantic as key, value, allowed range and remedy."""
    path = tuple(details["loc"])
    if len(path) > 1 and path[-1] == "[key]":  # pydantic's mark for "this key, not its value"
        path = path[:-1]
    key = _dotted(path) or "file"
    kind = details["type"]
    value = _shown(_dig(raw, path))
    if "password" in path or "source" in path:
        value = "(hidden)"
    if kind == "extra_forbidden":
        return _unknown_key(path, value)
    renamed = RENAMED_VALUES.get(_place(path), {}).get(_text(_dig(raw, path)))
    if renamed is not None:
        return Problem(key, value, "is the name up to version 0.1", f"Write {renamed!r}")
    message = str(details["msg"]).removeprefix("Value error, ")
    allowed = _PLAINER.get(kind) or re.sub(r"^(Input|String|Tuple) should", "should", message)
    if kind == "string_pattern_mismatch":
        allowed = f"should be {PATTERNS.get(details['ctx']['pattern'], 'of another form')}"
    if kind == "missing":
        value, allowed = "missing", "the key is required"
    return Problem(key, value, one_line(allowed), _remedy(path, kind))


def _unknown_key(path: tuple[Any, ...], value: str) -> Problem:
    key, name = _dotted(path), str(path[-1])[:MAX_COMPARED]
    new_name = RENAMED_KEYS.get(_place(path))
    if new_name is not None:
        return Problem(key, value, f"is now called {new_name!r}", f"Write {new_name!r}")
    section = _section_at(path[:-1])
    known = [] if section is None else list(section.model_fields)
    close = difflib.get_close_matches(name, known, n=1)
    what = f"Write {close[0]!r}" if close else "Remove it"
    if _MAY_BE_SECRET.search(name):
        value = "(hidden)"
    return Problem(key, value, "unknown key", f"{what}. Known here: {_listed(known, name)}")


def _listed(known: Sequence[str], name: str) -> str:
    """The known keys, shortened: those most like the unknown one."""
    by_likeness = sorted(known, key=lambda key: -difflib.SequenceMatcher(None, name, key).ratio())
    shown = ", ".join(by_likeness[:SHOWN_KEYS])
    more = len(known) - SHOWN_KEYS
    return f"{shown}, and {more} more (see config.yaml)" if more > 0 else shown


def _renamed_inside(path: tuple[Any, ...], raw: Any) -> Iterator[Problem]:
    """Old keys inside a section that is found under its own old name: pydantic does not look into it."""
    new_name = RENAMED_KEYS.get(_place(path))
    section = _dig(raw, path)
    if new_name is None or not isinstance(section, dict):
        return
    for key in section:
        inner = RENAMED_KEYS.get(_place((*path[:-1], new_name, key)))
        if inner is not None:
            value = _shown(section[key])
            yield Problem(_dotted((*path, key)), value, f"is now called {inner!r}", f"Write {inner!r}")


def _remedy(path: tuple[Any, ...], kind: str) -> str:
    section = _section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section and path else None
    if field is None or not field.description:
        return "See config.yaml for every key"
    if kind == "missing" or field.is_required():
        return f"Set it: {field.description}"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel | dict) or (isinstance(default, list | tuple) and default):
        return f"It means: {field.description}"  # a default of several values is in config.yaml
    shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
    return f"It means: {field.description} (default {shown})"


def _section_at(path: tuple[Any, ...]) -> type[BaseModel] | None:
    """The section that the keys at `path` belong to."""
    section: type[BaseModel] = Config
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(str(part))
        inner = None if field is None else model_in(field.annotation)
        if inner is None:
            return None
        section = inner
    return section


def _place(path: tuple[Any, ...]) -> str:
    """The key of a path without the numbers of list entries: `cameras.scale`."""
    return ".".join(str(part) for part in path if not isinstance(part, int))


def _dotted(path: tuple[Any, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return one_line(text, MAX_SHOWN)


def _dig(raw: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _text(raw: Any) -> str:
    return raw if isinstance(raw, str) else ""


def _shown(raw: Any, limit: int = 60) -> str:
    """The value as it stands in the file.  A filled-in reference is not shown: it may be a secret."""
    if isinstance(raw, dict):
        return "a mapping"
    if isinstance(raw, list) and any(isinstance(inner, dict | list) for inner in raw):
        return f"a list of {len(raw)}"
    if raw is None:
        return "empty"
    try:
        text = repr(raw)
    except ValueError:  # an integer too long to be written out
        return "a very large number"
    if "://" in text:
        text = redact(re.sub(r"\s", "", text))
    if isinstance(raw, str) and "${" in raw:
        text += " (filled in)"
    return text if len(text) <= limit else text[: limit - 3] + "..."
