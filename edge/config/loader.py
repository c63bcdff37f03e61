"""Reads a configuration file: one YAML file, checked whole before anything starts.

`load` either returns a frozen `Config` or raises a `ConfigError` that lists every problem.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from edge.config import messages, secret_file, yaml_file
from edge.config.schema import Camera, Config
from edge.config.value_types import Locate, PathKey
from edge.errors import ConfigError, Problem
from edge.host.suggestion import did_you_mean


def load(path: Path, env: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.  Relative paths in it are relative to its folder.

    Raises ConfigError with all problems found.
    """
    raw = yaml_file.read(path, may_be_pipe=True)
    return parse(raw, origin=str(path), base=path.resolve().parent, env=os.environ if env is None else env)


def state_dir_of(path: Path) -> Path:
    """The state directory that a file names, although the rest of the file may be wrong.

    Raises ConfigError when the file cannot be read at all.
    """
    raw = yaml_file.read(path, may_be_pipe=True)
    named = raw.get("state_dir") if isinstance(raw, dict) else None
    default = Config.model_fields["state_dir"].get_default()
    return path.resolve().parent / Path(named if isinstance(named, str) else default).expanduser()


def parse(raw: object, *, origin: str, base: Path, env: Mapping[str, str]) -> Config:
    """Check a configuration that was read already.  base: the folder that relative paths are relative to.

    Raises ConfigError with all problems found.
    """
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        problem = Problem("file", found, "must be a mapping of keys", "See config.yaml for every key")
        raise ConfigError(origin, (problem,))
    problems: list[Problem] = []
    filled = yaml_file.fill(raw, origin=origin, base=base, env=env, problems=problems)
    own_keys = [set(d) if isinstance(d, dict) else set() for d in _camera_decisions(filled)]
    _inherit_decision(filled)
    try:
        config = Config.model_validate(filled)
    except ValidationError as error:
        known = {problem.key for problem in problems}
        more = messages.problems(error.errors(), raw, own_keys)
        raise ConfigError(origin, (*problems, *(p for p in more if p.key not in known))) from None
    if problems:
        raise ConfigError(origin, tuple(problems))
    anchored: Config = _anchored(config, Config, (), lambda where: yaml_file.located(where, base=base, env=env))
    return anchored


def find_camera(settings: Config, name: str | None, origin: str) -> Camera:
    """A camera by name, or the first.  Raises ConfigError when there is none of that name."""
    names = [camera.name for camera in settings.cameras]
    if name is not None and name not in names:
        remedy = f"{did_you_mean(name, names)}The configuration has: {', '.join(names)}"
        raise ConfigError(origin, (Problem("--camera", name, "no such camera", remedy),))
    return settings.cameras[names.index(name) if name else 0]


def require_secrets(config: Config, origin: str) -> None:
    """Raises ConfigError for each file of a password that is missing, with the command that makes it.

    For `check`: a daemon reads these files at each connection, and they may come later.
    """
    files = {"mqtt": config.mqtt.password_file, "sparkplug": config.sparkplug.password_file}
    missing = tuple(
        Problem(f"{section}.password_file", str(path), "the file is missing", secret_file.remedy_for(path))
        for section, path in files.items()
        if path is not None and not path.exists()
    )
    if missing:
        raise ConfigError(origin, missing)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "defectd configuration", **schema}


def _camera_decisions(raw: dict[Any, Any]) -> list[Any]:
    cameras = raw.get("cameras")
    if not isinstance(cameras, list):
        return []
    return [camera.get("decision") if isinstance(camera, dict) else None for camera in cameras]


def _inherit_decision(raw: dict[Any, Any]) -> None:
    """Lay each camera's `decision` over the top-level one, key by key."""
    common = raw.get("decision")
    cameras = raw.get("cameras")
    if not isinstance(common, dict) or not isinstance(cameras, list):
        return
    for camera in cameras:
        if isinstance(camera, dict) and isinstance(camera.get("decision", {}), dict):
            camera["decision"] = {**common, **camera.get("decision", {})}


def _anchored(value: Any, annotation: Any, metadata: Sequence[Any], locate: Locate) -> Any:
    """The value with every path in it made absolute.  A path is known by its type, wherever that type stands.

    annotation, metadata: the type of the value, and what `Annotated` adds to it.
    """
    marker = next((mark for mark in metadata if isinstance(mark, PathKey)), None)
    if marker is not None:
        return marker.anchored(value, locate)
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _anchored(value, parts[0], (*metadata, *parts[1:]), locate)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return value.model_copy(
            update={
                name: _anchored(getattr(value, name), field.annotation, field.metadata, locate)
                for name, field in fields
                if getattr(value, name) is not None and holds_paths(field.annotation, field.metadata)
            }
        )
    if origin in (typing.Union, types.UnionType):
        fitting = next((part for part in parts if holds_paths(part) and _fits(value, part)), None)
        return value if fitting is None else _anchored(value, fitting, (), locate)
    if origin in (tuple, list) and holds_paths(annotation):
        return origin(_anchored(one, parts[0], (), locate) for one in value)
    return value


def holds_paths(annotation: Any, metadata: Sequence[Any] = ()) -> bool:
    """Whether values of a type are paths, or sections or lists that may have paths in them."""
    if any(isinstance(mark, PathKey) for mark in metadata):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(holds_paths(field.annotation, field.metadata) for field in annotation.model_fields.values())
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        return holds_paths(parts[0], parts[1:])
    return any(holds_paths(part) for part in parts)


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of one of the types of a union, as far as its class tells."""
    if typing.get_origin(annotation) is Annotated:
        return _fits(value, typing.get_args(annotation)[0])
    return isinstance(value, typing.get_origin(annotation) or annotation)
