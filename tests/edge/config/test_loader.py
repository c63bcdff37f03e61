"""Paths of the configuration: every key that holds one is relative to the file, whatever section it stands in."""

from __future__ import annotations

import copy
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from edge.config import Config, parse
from edge.config.value_types import PathKey

BASE = Path("/etc/defectd")
RAW: dict[str, Any] = {
    "node": "n1",
    "model": {"shadow": {"bundle": "builtin"}},
    "mqtt": {"username": "u", "cert_file": "cert.pem", "key_file": "key.pem"},
    "sparkplug": {"username": "u"},
    "web": {"tls": {"certificate": "page.crt", "key": "page.key"}},
    "cameras": [{"name": "top", "source": "strip:"}],
}


def path_keys(annotation: Any, metadata: tuple[Any, ...] = (), key: str = "") -> set[str]:
    """Every place below a type at which a path may stand: `cameras[].flatfield`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return path_keys(parts[0], parts[1:], key)
    if annotation is Path or any(isinstance(mark, PathKey) for mark in metadata):
        return {key}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return {
            found
            for name, field in fields
            for found in path_keys(field.annotation, tuple(field.metadata), f"{key}.{name}".lstrip("."))
        }
    if origin in (typing.Union, types.UnionType):
        return {found for part in parts for found in path_keys(part, (), key)}
    return {found for part in parts for found in path_keys(part, (), f"{key}[]")}


def with_value(key: str, value: str) -> dict[str, Any]:
    """A configuration with a value at a place."""
    raw: Any = copy.deepcopy(RAW)
    at, steps = raw, key.replace("[]", ".0").split(".")
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        index: Any = int(step) if step.isdigit() else step
        if following is None:
            at[index] = value
        elif following == "0" and not isinstance(at.get(index), list):
            at[index] = [None]
        elif isinstance(at, dict):
            at.setdefault(index, {})
        at = at[index]
    return typing.cast("dict[str, Any]", raw)


def value_at(config: Config, key: str) -> str:
    at: Any = config
    for step in key.replace("[]", ".0").split("."):
        at = at[int(step)] if step.isdigit() else getattr(at, step)
    return str(at.get_secret_value() if hasattr(at, "get_secret_value") else at)


KEYS = sorted(path_keys(Config))


def test_models_name_their_paths_by_type() -> None:
    """The keys that are known to hold paths are among those that the types name."""
    assert set(KEYS) >= {
        "state_dir",
        "evidence.dir",
        "model.bundle",
        "model.shadow.bundle",
        "mqtt.password_file",
        "mqtt.ca_file",
        "mqtt.cert_file",
        "mqtt.key_file",
        "sparkplug.password_file",
        "cameras[].source",
        "cameras[].flatfield",
        "cameras[].anomaly[]",
    }


@pytest.mark.parametrize("key", KEYS)
def test_every_path_key_is_relative_to_the_file(key: str) -> None:
    """A relative path is made absolute, an absolute one stays."""
    found = parse(with_value(key, "here/it.is"), origin="test", base=BASE, env={})
    assert value_at(found, key) == "/etc/defectd/here/it.is"
    found = parse(with_value(key, "/there/it.is"), origin="test", base=BASE, env={})
    assert value_at(found, key) == "/there/it.is"


@pytest.mark.parametrize("key", KEYS)
def test_every_path_key_knows_the_home_directory(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """~ is the home directory of the user that reads, at every key."""
    monkeypatch.setenv("HOME", "/home/ada")
    found = parse(with_value(key, "~/it.is"), origin="test", base=BASE, env={})
    assert value_at(found, key) == "/home/ada/it.is"


def test_several_paths_of_one_key_are_all_relative_to_the_file() -> None:
    """`cameras.anomaly` holds a path for each model."""
    raw = {**RAW, "cameras": [{"name": "top", "source": "strip:", "anomaly": ["a.npz", "/b.npz"]}]}
    found = parse(raw, origin="test", base=BASE, env={}).cameras[0].anomaly
    assert found == (BASE / "a.npz", Path("/b.npz"))


@pytest.mark.parametrize("key", ["model.bundle", "model.shadow.bundle"])
def test_builtin_bundle_is_no_path(key: str) -> None:
    """The name of the bundle inside the package stays as it is."""
    assert value_at(parse(with_value(key, "builtin"), origin="test", base=BASE, env={}), key) == "builtin"


def test_what_is_no_path_is_left_alone() -> None:
    """Anomaly models may be switched off by a word; regions are no paths."""
    camera = {"name": "top", "source": "0", "anomaly": "classes", "roi": [[0, 0], [9, 0], [9, 9], [0, 9], [3, 3]]}
    (found,) = parse({**RAW, "cameras": [camera]}, origin="test", base=BASE, env={}).cameras
    assert (found.anomaly, len(found.roi or ()), found.source.get_secret_value()) == ("classes", 5, "0")
