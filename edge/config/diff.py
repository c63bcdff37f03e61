"""Differences between two configurations, and which of them a running node can take over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.config import Camera, Config

LIVE: Final = ("cameras", "decision", "report_s", "commands", "log", "grading", "rolls")
"""Sections that a running node takes over; of `log` only the level."""
LIVE_MODEL: Final = ("trusted_keys", "allow_unsigned", "keep", "keep_mb", "canary_s", "shadow")
"""Keys of `model` that a running node takes over."""
THRESHOLDS: Final = ("confidence", "unsure", "classes")
BESIDE: Final = ("name", "enabled", "max_memory_mb")
"""Keys that change neither how a camera is opened nor how it is inspected."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of active cameras, and keys.

    reopened: the camera process has to restart.  looked_at: inspected differently, the process goes on.
    thresholds: only these changed.  settings: further keys that a running node takes over.
    needs_restart: keys that take effect at the next start of the service.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()
    looked_at: tuple[str, ...] = ()
    thresholds: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()

    def as_json(self) -> dict[str, list[str]]:
        return {name: list(getattr(self, name)) for name in self.__slots__}


def merged(running: Config, wanted: Config) -> Config:
    """The running configuration, with everything of the wanted one that a running node can take over."""
    level = running.log.model_copy(update={"level": wanted.log.level})
    allow = wanted.commands
    if bool(allow.allow) != bool(running.commands.allow):  # the subscription is made with the connection
        allow = running.commands
    model = running.model.model_copy(update={name: getattr(wanted.model, name) for name in LIVE_MODEL})
    taken = {name: getattr(wanted, name) for name in LIVE}
    return running.model_copy(update={**taken, "log": level, "commands": allow, "model": model})


def compare(
    running: Config,
    wanted: Config,
    *,
    opening_keys: Collection[str],
    needs_new_process: Callable[[Camera, Camera], bool],
) -> Difference:
    """The differences from the running configuration to the wanted one.

    opening_keys: keys of a camera that concern how it is opened, and nothing else.
    needs_new_process: whether the process that runs for one camera cannot go on for the other.
    """
    before = {camera.name: camera for camera in running.active_cameras}
    after = {camera.name: camera for camera in wanted.active_cameras}
    both = [name for name in after if name in before]
    reopened = [name for name in both if needs_new_process(before[name], after[name])]
    ignored = (*opening_keys, *BESIDE, "decision")
    inspected = [
        name for name in both if name not in reopened and _is_inspected_differently(before[name], after[name], ignored)
    ]
    others = [name for name in both if name not in reopened and name not in inspected]
    thresholds = [name for name in others if _differ(before[name].decision, after[name].decision, THRESHOLDS)]
    return Difference(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(reopened),
        tuple(inspected),
        tuple(thresholds),
        (*_changed_keys(running, merged(running, wanted)), *_memory_limits(before, after)),
        needs_restart(running, wanted),
    )


def _differ(one: Any, other: Any, keys: tuple[str, ...]) -> bool:
    return any(getattr(one, key, None) != getattr(other, key, None) for key in keys)


def _is_inspected_differently(one: Camera, other: Camera, ignored: tuple[str, ...]) -> bool:
    keys = tuple(key for key in (*type(one).model_fields, "calibration") if key not in ignored)
    tracking = tuple(key for key in type(one.decision).model_fields if key not in THRESHOLDS)
    return _differ(one, other, keys) or _differ(one.decision, other.decision, tracking)


def needs_restart(running: Config, wanted: Config) -> tuple[str, ...]:
    """Keys, as `section.key`, that a running node cannot take over."""
    return _changed_keys(merged(running, wanted), wanted)


def _memory_limits(before: Mapping[str, Camera], after: Mapping[str, Camera]) -> list[str]:
    """Cameras whose process may grow to another size: that changes neither how it is opened nor its inspection."""
    changed = (n for n in after if n in before and _differ(before[n], after[n], ("max_memory_mb",)))
    return [f"cameras.{name}.max_memory_mb" for name in changed]


def _changed_keys(before: Config, after: Config) -> tuple[str, ...]:
    """Keys, as `section.key`, that differ; those of cameras and their decisions are not compared."""
    found: list[str] = []
    for name in Config.model_fields:
        one, other = getattr(before, name), getattr(after, name)
        if one == other or name in ("cameras", "decision"):
            continue
        inner = getattr(type(one), "model_fields", None)
        found += [name] if inner is None else [f"{name}.{key}" for key in inner if _differ(one, other, (key,))]
    return tuple(found)
