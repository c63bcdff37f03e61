"""What is different between two configurations, and which of it a running node can take over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from edge.config import Camera, Config

LIVE: Final = ("cameras", "decision", "report_s", "commands", "log")
"""Sections that a running node takes over; of `log` the level."""
LIVE_MODEL: Final = ("trusted_keys", "allow_unsigned", "keep", "keep_mb", "canary_s", "shadow")
"""Keys of `model` of which the same is true."""
THRESHOLDS: Final = ("confidence", "unsure", "classes")
OPENING: Final = (
    *("source", "fps", "loop", "live", "width", "height", "pixel_format", "exposure", "gain"),
    *("rtsp_transport", "open_timeout_s", "read_timeout_s", "ring_frames"),
)
"""Keys with which a camera process is started."""
BESIDE: Final = ("name", "enabled", "max_memory_mb")
"""Keys that change nothing in how a camera is opened or looked at."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of active cameras, and keys.

    reopened: the camera process has to start again.  looked_at: inspected otherwise, the process goes on.
    thresholds: only these.  needs_restart: keys that hold from the next start of the service.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()
    looked_at: tuple[str, ...] = ()
    thresholds: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()

    def as_json(self) -> dict[str, list[str]]:
        return {name: list(getattr(self, name)) for name in self.__slots__}


def merged(running: Config, wanted: Config) -> Config:
    """The running configuration with what it can take over of the wanted one."""
    level = running.log.model_copy(update={"level": wanted.log.level})
    allow = wanted.commands
    if bool(allow.allow) != bool(running.commands.allow):  # the subscription is made with the connection
        allow = running.commands
    model = running.model.model_copy(update={name: getattr(wanted.model, name) for name in LIVE_MODEL})
    taken = {name: getattr(wanted, name) for name in LIVE}
    return running.model_copy(update={**taken, "log": level, "commands": allow, "model": model})


def compare(running: Config, wanted: Config) -> Difference:
    """From the running configuration to the wanted one."""
    before = {camera.name: camera for camera in running.active_cameras}
    after = {camera.name: camera for camera in wanted.active_cameras}
    both = [name for name in after if name in before]
    reopened = [name for name in both if _differ(before[name], after[name], OPENING)]
    looked_at = [name for name in both if name not in reopened and _is_looked_at_otherwise(before[name], after[name])]
    others = [name for name in both if name not in reopened and name not in looked_at]
    thresholds = [name for name in others if _differ(before[name].decision, after[name].decision, THRESHOLDS)]
    return Difference(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(reopened),
        tuple(looked_at),
        tuple(thresholds),
        _needs_restart(merged(running, wanted), wanted),
    )


def _differ(one: Any, other: Any, keys: tuple[str, ...]) -> bool:
    return any(getattr(one, key, None) != getattr(other, key, None) for key in keys)


def _is_looked_at_otherwise(one: Camera, other: Camera) -> bool:
    fields = (*type(one).model_fields, "calibration")
    keys = tuple(key for key in fields if key not in (*OPENING, *BESIDE, "decision"))
    tracking = tuple(key for key in type(one.decision).model_fields if key not in THRESHOLDS)
    return _differ(one, other, keys) or _differ(one.decision, other.decision, tracking)


def _needs_restart(taken: Config, wanted: Config) -> tuple[str, ...]:
    """Keys, as `section.key`, in which what is taken over is not what is wanted."""
    found = []
    for name in Config.model_fields:
        one, other = getattr(taken, name), getattr(wanted, name)
        if one == other or name in ("cameras", "decision"):
            continue
        inner = getattr(type(one), "model_fields", None)
        found += [name] if inner is None else [f"{name}.{key}" for key in inner if _differ(one, other, (key,))]
    return tuple(found)
