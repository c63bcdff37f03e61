"""Thresholds set by commands: they override the configuration and are kept in `state_dir` over restarts.

Only changed values are kept, by camera and key, so that an edit of the configuration still applies to the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edge import config
from edge.config.state_dir import StateDir
from edge.host import atomic_files, regular_file

log = logging.getLogger(__name__)

KEYS: Final = ("confidence", "unsure", "classes")
"""Keys of `decision` that a command may set."""
MAX_BYTES: Final = 256 * 1024

Changes = dict[str, dict[str, Any]]
"""Values by camera and key."""


def adjusted(configured: config.Config, changes: Changes) -> config.Config:
    """The configuration, overridden by the changes.  Raises ValueError when they contradict each other."""
    return configured.model_copy(
        update={"cameras": tuple(_camera(camera, changes.get(camera.name, {})) for camera in configured.cameras)}
    )


def merged(changes: Changes, camera: str, wanted: Mapping[str, Any]) -> Changes:
    """A copy with the wanted values of one camera; None as a value goes back to the configuration."""
    own = {**changes.get(camera, {}), **wanted}
    kept = {key: value for key, value in own.items() if value is not None}
    rest = {name: values for name, values in changes.items() if name != camera}
    return {**rest, camera: kept} if kept else rest


def load(configured: config.Config, classes: Mapping[str, Sequence[str]]) -> Changes:
    """The kept changes that fit this configuration; the others are left out and logged.

    classes: those that name the defects of each camera.
    """
    path = configured.state.overrides
    try:
        kept = json.loads(regular_file.read(path, MAX_BYTES))["cameras"]
        items = dict(kept).items()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.error("%s cannot be used (%s): the thresholds of the configuration apply", path, error)  # noqa: TRY400
        return {}
    changes: Changes = {}
    for name, values in items:
        fitting = {key: values[key] for key in KEYS if isinstance(values, dict) and key in values}
        try:
            if name not in {camera.name for camera in configured.cameras}:
                raise ValueError("no such camera")
            unknown = sorted(set(fitting.get("classes") or {}) - set(classes[name]))
            if unknown:
                raise ValueError(f"the model does not know {unknown}")
            adjusted(configured, {name: fitting})
        except ValueError as error:
            log.warning("thresholds set for camera %r by a command do not apply: %s", str(name)[:80], error)
            continue
        changes[name] = fitting
        log.info("camera %s: thresholds set by a command hold: %s", name, json.dumps(fitting))
    return changes


def save(state_dir: Path, changes: Changes) -> None:
    """Keep the changes over restarts and power cuts.  Raises OSError; the file is then unchanged."""
    atomic_files.replace(StateDir(state_dir).overrides, json.dumps({"cameras": changes}, indent=1).encode() + b"\n")


def _camera(camera: config.Camera, changes: Mapping[str, Any]) -> config.Camera:
    if not changes:
        return camera
    try:
        decision = config.Decision.model_validate({**camera.decision.model_dump(), **changes})
    except ValidationError as error:
        raise ValueError("; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())) from None
    return camera.model_copy(update={"decision": decision})
