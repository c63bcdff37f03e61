"""Errors about keys: the new name of an old key first, then the known keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import Config, parse
from edge.config.messages import PATTERNS, RENAMED_KEYS, RENAMED_VALUES, SHOWN_KEYS, _section_at
from edge.errors import ConfigError, Problem

CAMERA = {"name": "top", "source": "strip:"}


def raw_with(place: str, value: Any) -> dict[str, Any]:
    """A configuration with a value at the place of a key, such as `cameras.image_quality.dark`."""
    inner: Any = value
    section, *keys = place.split(".")
    for key in reversed(keys):
        inner = {key: inner}
    if section == "cameras":
        return {"node": "n1", "cameras": [CAMERA, {**CAMERA, "name": "side", **inner}]}
    return {"node": "n1", "cameras": [CAMERA], section: inner}


def problems(raw: Any) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(raw, origin="test", base=Path("/"), env={})
    return {problem.key: problem for problem in caught.value.problems}


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_old_key_is_refused_with_its_new_name(old: str, new: str) -> None:
    """At its place in the file, in a section or in any camera; the new name is a key there."""
    section, _, name = old.rpartition(".")
    place = f"{section}.{name}".replace("cameras.", "cameras[1].", 1)
    found = problems(raw_with(old, 1))
    assert list(found) == [place]
    assert found[place].remedy == f"Write {new!r}"
    assert new in found[place].allowed
    known = _section_at(tuple(section.split(".")))
    assert known is not None
    assert new in known.model_fields
    assert name not in known.model_fields


@pytest.mark.parametrize(
    ("place", "old", "new"), [(place, *pair) for place, pairs in RENAMED_VALUES.items() for pair in pairs.items()]
)
def test_old_value_is_refused_with_its_new_name(place: str, old: str, new: str) -> None:
    """The key names the value that is in its place, which is accepted."""
    assert problems(raw_with(place, old))[place].remedy == f"Write {new!r}"
    assert isinstance(parse(raw_with(place, new), origin="test", base=Path("/"), env={}), Config)


def test_old_key_inside_an_old_section_is_reported_in_the_same_run() -> None:
    """One run of `check` names both, also where nothing looks into the old section."""
    found = problems(raw_with("cameras.health", {"after_s": 2, "dark": 3}))
    assert {key: problem.remedy for key, problem in found.items()} == {
        "cameras[1].health": "Write 'image_quality'",
        "cameras[1].health.after_s": "Write 'min_fault_s'",
    }


def test_unknown_key_names_what_was_meant_before_what_is_known() -> None:
    """The remedy comes first, then some of the known keys, the most similar ones."""
    found = problems(raw_with("cameras.overlapp", 0.2))["cameras[1].overlapp"]
    assert found.allowed == "unknown key"
    assert found.remedy.startswith("Write 'overlap'. Known here: overlap, ")
    assert found.remedy.count(",") <= SHOWN_KEYS
    assert found.remedy.endswith("more (see config.yaml)")


def test_unknown_key_like_no_other_is_to_be_removed() -> None:
    """Where nothing is similar, no key is suggested; a short section is listed whole."""
    found = problems(raw_with("log.qqq", 1))["log.qqq"]
    assert found.remedy.startswith("Remove it. Known here: ")
    assert set(found.remedy.removeprefix("Remove it. Known here: ").split(", ")) == {"level", "format"}


def patterns(schema: Any) -> set[str]:
    """Every regular expression of a JSON schema."""
    if isinstance(schema, list):
        return {found for inner in schema for found in patterns(inner)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
    return own | {found for inner in schema.values() for found in patterns(inner)}


def test_every_pattern_of_the_schema_has_words() -> None:
    """A person must not have to read a regular expression."""
    assert patterns(Config.model_json_schema()) <= set(PATTERNS)
    (problem,) = problems({"node": "a b", "cameras": [CAMERA]}).values()
    assert "letters, digits" in problem.allowed
    assert "^" not in problem.allowed


def test_remedy_shows_no_default_of_several_values() -> None:
    """It would be a Python dictionary; `true` and `false` are written as in the file."""
    (problem,) = problems({"node": "a", "cameras": [CAMERA], "commands": 3}).values()
    assert "{" not in problem.remedy
    assert "Verb" not in problem.remedy
    (problem,) = problems({"node": "a", "cameras": [{**CAMERA, "loop": "often"}]}).values()
    assert "(default false)" in problem.remedy
