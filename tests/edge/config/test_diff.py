"""The part of another configuration that a running node can take over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import Camera, Config, parse
from edge.config.diff import BESIDE, OPENING, Difference, compare, merged

CAMERA = {"name": "top", "source": "strip:", "fps": 30}


def configured(*cameras: dict[str, Any], **more: Any) -> Config:
    raw = {"node": "line3", "cameras": [*(cameras or [CAMERA])], **more}
    return parse(raw, origin="test", base=Path("/"), env={})


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
        ({"max_memory_mb": 400}, None),
        ({}, None),
    ],
)
def test_change_of_a_camera_restarts_no_more_than_it_must(changes: dict[str, Any], kind: str | None) -> None:
    """The process restarts for keys of opening, tracks for keys of inspection, nothing for thresholds."""
    found = compare(configured(), configured({**CAMERA, **changes}))
    assert found == (Difference() if kind is None else Difference(**{kind: ("top",)}))


def test_cameras_come_and_go_also_by_being_disabled() -> None:
    """They are added or removed; an unchanged camera is in none of the lists."""
    before = configured(CAMERA, {**CAMERA, "name": "gone"}, {**CAMERA, "name": "off", "enabled": False})
    after = configured(CAMERA, {**CAMERA, "name": "gone", "enabled": False}, {**CAMERA, "name": "off"})
    assert compare(before, after) == Difference(added=("off",), removed=("gone",))


def test_keys_that_need_a_restart_are_named_and_not_taken_over() -> None:
    """By section and key; the other keys of the same file are taken over."""
    wanted = configured(
        {**CAMERA, "tile_px": 100},
        mqtt={"broker": "embedded:1999"},
        log={"level": "debug", "format": "json"},
        report_s=3,
        commands={"allow": ["ping"]},
    )
    found = compare(configured(), wanted)
    assert found.needs_restart == ("log.format", "mqtt.broker")
    taken = merged(configured(), wanted)
    assert (taken.mqtt.broker, taken.log.level, taken.log.format) == ("embedded", "debug", "auto")
    assert (taken.report_s, taken.commands.allow, taken.cameras[0].tile_px) == (3, ["ping"], 100)


def test_first_allowed_command_needs_a_restart() -> None:
    """The subscription is made with the connection: a first command needs a new connection."""
    found = compare(configured(commands={"allow": []}), configured(commands={"allow": ["ping"]}))
    assert found.needs_restart == ("commands.allow",)
    assert merged(configured(), configured(commands={"allow": []})).commands.allow == ["ping", "state"]


def test_every_key_of_a_camera_has_its_place() -> None:
    """A new key that is in neither list counts as one of inspection."""
    assert set(OPENING) | set(BESIDE) < set(Camera.model_fields)
