"""The part of another configuration that a running node can take over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import Camera, Config, parse
from edge.config.diff import Difference, compare, merged

OPENING = ("source", "fps", "ring_frames")
CAMERA = {"name": "top", "source": "strip:", "fps": 30}


def configured(*cameras: dict[str, Any], **more: Any) -> Config:
    raw = {"node": "line3", "cameras": [*(cameras or [CAMERA])], **more}
    return parse(raw, origin="test", base=Path("/"), env={})


def opened_differently(one: Camera, other: Camera) -> bool:
    return any(getattr(one, key) != getattr(other, key) for key in OPENING)


def compared(before: Config, after: Config) -> Difference:
    return compare(before, after, opening_keys=OPENING, needs_new_process=opened_differently)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"source": "strip:?width=640"}, "reopened"),
        ({"fps": 25}, "reopened"),
        ({"ring_frames": 9}, "reopened"),
        ({"tile_px": 100}, "looked_at"),
        ({"roi": [0, 0, 400, 200]}, "looked_at"),
        ({"budget_ms": 30}, "looked_at"),
        ({"image_quality": {"dark": 3}}, "looked_at"),
        ({"decision": {"close_frames": 9}}, "looked_at"),
        ({"decision": {"confidence": 0.9, "close_frames": 9}}, "looked_at"),
        ({"decision": {"confidence": 0.9}}, "thresholds"),
        ({"decision": {"classes": {"scratches": 0.9}}}, "thresholds"),
        ({}, None),
    ],
)
def test_change_of_a_camera_costs_no_more_than_it_must(changes: dict[str, Any], kind: str | None) -> None:
    """A process starts again for how the camera is opened, tracks for how it is looked at, nothing for thresholds."""
    found = compared(configured(), configured({**CAMERA, **changes}))
    assert found == (Difference() if kind is None else Difference(**{kind: ("top",)}))


def test_other_keys_that_take_effect_are_named() -> None:
    """They act from now on, so "nothing changed" would be wrong."""
    wanted = configured(
        {**CAMERA, "max_memory_mb": 400},
        commands={"allow": ["ping"]},
        report_s=3,
        log={"level": "debug"},
        model={"keep": 2},
    )
    names = ("report_s", "log.level", "model.keep", "commands.allow", "cameras.top.max_memory_mb")
    found = compared(configured(), wanted)
    assert sorted(found.settings) == sorted(names)
    assert found == Difference(settings=found.settings)


def test_cameras_come_and_go_also_by_being_disabled() -> None:
    """They are added or removed; an unchanged camera is in none of the lists."""
    before = configured(CAMERA, {**CAMERA, "name": "gone"}, {**CAMERA, "name": "off", "enabled": False})
    after = configured(CAMERA, {**CAMERA, "name": "gone", "enabled": False}, {**CAMERA, "name": "off"})
    assert compared(before, after) == Difference(added=("off",), removed=("gone",))


def test_keys_that_need_a_restart_are_named_and_not_taken_over() -> None:
    """By section and key; the other keys of the same file are taken over."""
    wanted = configured(
        {**CAMERA, "tile_px": 100},
        mqtt={"broker": "embedded:1999"},
        log={"level": "debug", "format": "json"},
        report_s=3,
        commands={"allow": ["ping"]},
    )
    found = compared(configured(), wanted)
    assert found.needs_restart == ("log.format", "mqtt.broker")
    assert set(found.settings) == {"log.level", "report_s", "commands.allow"}
    taken = merged(configured(), wanted)
    assert (taken.mqtt.broker, taken.log.level, taken.log.format) == ("embedded", "debug", "auto")
    assert (taken.report_s, taken.commands.allow, taken.cameras[0].tile_px) == (3, ["ping"], 100)


def test_first_allowed_command_needs_a_restart() -> None:
    """The node subscribes to commands when it connects, so the first one needs a new connection."""
    found = compared(configured(commands={"allow": []}), configured(commands={"allow": ["ping"]}))
    assert found.needs_restart == ("commands.allow",)
    assert merged(configured(), configured(commands={"allow": []})).commands.allow == ["ping", "state"]


def test_opening_key_that_the_source_does_not_read_changes_nothing() -> None:
    """It needs no new process, and inspection does not depend on it."""
    after = configured({**CAMERA, "exposure": 3})
    found = compare(configured(), after, opening_keys=(*OPENING, "exposure"), needs_new_process=opened_differently)
    assert found == Difference()
