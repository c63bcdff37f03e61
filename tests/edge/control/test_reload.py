"""Changes of a running node: a real inspection loop, fakes around it. Each change is made as a whole or not at all."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import node
from fakes.bundles import card, write_bundle
from fakes.networks import CLASSES, network
from fakes.node import CAMERA
from fakes.waiting import until

from edge import config
from edge.camera.notices import CameraRemoved
from edge.config import overrides
from edge.errors import CommandError, ConfigError


class Scene(node.Scene):
    """A node with its inspection loop running, and the file it was made from."""

    def __init__(self, folder: Path, **options: Any) -> None:
        onnx = network()
        bundle = write_bundle(folder / "tiny", onnx, card(onnx))
        super().__init__(folder, [CAMERA], model={"bundle": str(bundle)}, **options)

    def reload(self, *cameras: dict[str, Any], **sections: Any) -> dict[str, Any]:
        self.write({**self.first, "cameras": [*cameras] or self.first["cameras"], **sections})
        return self.node.reload()

    def assert_consistent(self) -> None:
        """Inspection loop, supervisor, events and settings agree."""
        settings = self.node.settings
        active = {camera.name: camera for camera in settings.active_cameras}
        cameras = self.cameras
        assert {name: cameras[name] for name in active} == {
            name: camera.model_copy(update={"max_memory_mb": cameras[name].max_memory_mb})
            for name, camera in active.items()
        }
        assert self.supervisor.wanted is None or self.supervisor.wanted == list(active.values())
        assert self.node.origin.config_sha256 == settings.sha256
        assert self.loop.failure is None


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    level = logging.getLogger("edge").level
    with Scene(tmp_path) as scene:
        yield scene
    logging.getLogger("edge").setLevel(level)  # a reload sets it


def test_reload_takes_over_what_it_can_and_names_the_rest(scene: Scene) -> None:
    """Added and changed cameras are reported; a broker needs a restart; the event carries the new hash."""
    before = scene.node.origin.config_sha256
    side = {"name": "side", "source": "strip:?width=640"}
    changes = scene.reload({**CAMERA, "tile_px": 100}, side, mqtt={"broker": "embedded:1999"}, report_s=5)
    assert (changes["added"], changes["looked_at"], changes["needs_restart"]) == (["side"], ["top"], ["mqtt.broker"])
    assert changes["settings"] == ["report_s"]
    assert changes["config_sha256"] != changes["config_sha256_before"] == before
    scene.assert_consistent()
    assert scene.cameras["top"].tile_px == 100
    event, origin = next(pair for pair in scene.delivery.events if pair[0].type == "config.changed")
    assert (origin.config_sha256, event.detail) == (changes["config_sha256"], changes)
    assert scene.delivery.status["cameras"] == ["top", "side"]
    assert scene.node.settings.mqtt.broker == "embedded"


def test_reload_uses_the_values_that_a_generated_strip_provides(scene: Scene) -> None:
    """As at a start: its scale and direction at once, its speed from the next start on."""
    changes = scene.reload({**CAMERA, "source": "strip:?mm_per_px=0.5"})
    camera = scene.cameras["top"]
    assert (camera.scale, camera.direction) == (config.Scale(mm_per_px=0.5), "up")
    assert changes["needs_restart"] == ["travel.speed_m_per_s"]
    scene.assert_consistent()


def test_counts_of_a_camera_continue_over_a_change(scene: Scene) -> None:
    """Frames counted before stay counted; only the settings of the inspection are new."""
    session = scene.loop.sessions[0]
    scene.reload({**CAMERA, "budget_ms": 70, "mode": "parts"})
    assert scene.loop.sessions[0] is session
    assert (session.settings.budget_ns, session.camera.mode) == (70_000_000, "parts")


def test_thresholds_apply_at_once_and_are_reported(scene: Scene) -> None:
    """Nothing restarts for them; values that a command has set still override the file."""
    scene.node.set_thresholds("top", {"unsure": 0.2})
    changes = scene.reload({**CAMERA, "decision": {"confidence": 0.9}})
    assert (changes["thresholds"], changes["reopened"], changes["looked_at"]) == (["top"], [], [])
    assert scene.delivery.kinds()[-2:] == ["config.changed", "thresholds.changed"]
    decision = scene.cameras["top"].decision
    assert (decision.confidence, decision.unsure) == (0.9, 0.2)
    scene.assert_consistent()


def test_removed_camera_ends_with_its_last_frame(scene: Scene) -> None:
    """Its counts are closed when the supervisor reports the end; then its retained messages are deleted."""
    scene.reload(CAMERA, {"name": "side", "source": "strip:"})
    until(lambda: "defectd/line3/side/state" in scene.delivery.retained, 5, "the state of the new camera")
    changes = scene.reload(CAMERA)
    assert changes["removed"] == ["side"]
    assert set(scene.cameras) == {"top", "side"}
    scene.supervisor.send(CameraRemoved("side", 0))
    until(lambda: set(scene.cameras) == {"top"}, 5, "the end of the session")
    until(lambda: not [topic for topic in scene.delivery.retained if "/side/" in topic], 5, "nothing retained")
    assert "side" not in scene.node.states


def test_camera_that_is_added_again_before_its_end_stays(scene: Scene) -> None:
    """A late notice of its removal does not end the new one."""
    scene.reload(CAMERA, {"name": "side", "source": "strip:"})
    scene.reload(CAMERA)
    scene.reload(CAMERA, {"name": "side", "source": "strip:"})
    scene.supervisor.send(CameraRemoved("side", 0))
    until(lambda: not scene.supervisor.notices, 5, "the notice")
    scene.reload(CAMERA, {"name": "side", "source": "strip:"})
    assert set(scene.cameras) == {"top", "side"}


def test_outputs_are_rebuilt_when_cameras_are_added_or_removed(scene: Scene) -> None:
    """A change of thresholds only gives them the new hash of the configuration."""
    scene.reload({**CAMERA, "decision": {"confidence": 0.9}})
    assert scene.outputs.rebuilt == []
    assert scene.outputs.properties.config_sha256 == scene.node.settings.sha256
    assert scene.delivery.status["outputs"] == scene.outputs.as_json()
    scene.reload(CAMERA, {"name": "side", "source": "strip:"})
    assert [[camera.name for camera in settings.cameras] for settings in scene.outputs.rebuilt] == [["top", "side"]]
    assert set(scene.outputs.states) >= {"top"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("cameras: [", "not usable YAML"),
        ({"node": "line3"}, "cameras: missing"),
        ({"node": "line3", "cameras": [{**CAMERA, "fsp": 1}]}, "fsp"),
        ({"node": "line3", "cameras": [{**CAMERA, "enabled": False}]}, "all disabled"),
        ({"node": "line3", "cameras": [{**CAMERA, "decision": {"classes": {"rust": 0.9}}}]}, "not a class"),
        ({"node": "line3", "cameras": [CAMERA], "mqtt": {"password": "hunter2", "broker": 3}}, "mqtt.broker"),
    ],
)
def test_bad_file_changes_nothing_and_the_reasons_are_reported(scene: Scene, content: Any, reason: str) -> None:
    """The caller and the subscribers of events get the reasons; no secret is in them."""
    before = (scene.node.settings, scene.node.origin, scene.cameras)
    scene.write(content)
    with pytest.raises(ConfigError, match=reason):
        scene.node.reload()
    assert (scene.node.settings, scene.node.origin, scene.cameras) == before
    assert scene.supervisor.wanted is None
    event, _ = scene.delivery.events[-1]
    assert event.type == "config.refused"
    assert event.detail is not None
    assert reason in str(event.detail["problems"])
    assert "hunter2" not in str(event.detail)


def test_loop_that_does_not_respond_leaves_everything_unchanged(tmp_path: Path) -> None:
    """The change is cancelled as a whole, and an event reports it."""
    scene = Scene(tmp_path, order_s=0.01)
    assert scene.loop.stop(5)
    before = (scene.node.settings, scene.cameras)
    with pytest.raises(CommandError, match="not reached"):
        scene.reload({**CAMERA, "tile_px": 100})
    assert (scene.node.settings, scene.cameras, scene.supervisor.wanted) == (*before, None)
    assert scene.delivery.kinds()[-1] == "config.refused"


def test_kept_thresholds_that_do_not_fit_the_new_file_are_left_out(scene: Scene) -> None:
    """As at a start: the file applies, and the log reports it."""
    scene.node.set_thresholds("top", {"confidence": 0.5})
    scene.reload({**CAMERA, "decision": {"unsure": 0.55, "confidence": 0.8}})
    assert scene.cameras["top"].decision.confidence == 0.8
    assert overrides.load(scene.node.configured, {"top": CLASSES}) == {}


# ---- a thousand files --------------------------------------------------------------------------------

SEEDS = (0, None, True, -1, 1e999, "", "x" * 300, "${HOME", "${file:/nope}", [], {}, [[]], "\udcff", "builtin", 17)
LINES = ("cameras:", "- name: top", "  source: 'strip:'", "node: [", "&a *a", "\t", "decision: {unsure: 0.9}", "%", "?")


def broken(rng: random.Random, good: dict[str, Any]) -> str:
    """A hastily edited file: values exchanged, keys lost or repeated, lines torn."""
    content: Any = copy.deepcopy(good)
    for _ in range(rng.randint(0, 3)):
        at = content
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = rng.choice(keys)
            if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
                at = at[key]
                continue
            if rng.random() < 0.2:
                del at[key]
            else:
                at[key] = rng.choice(SEEDS)
            break
        if not content:
            break
    text = yaml.safe_dump(content, allow_unicode=False)
    lines = text.splitlines()
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        spot = rng.randrange(len(lines) + 1)
        lines[spot:spot] = [rng.choice(LINES)]
        if rng.random() < 0.5:
            del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def test_a_thousand_files_give_no_traceback_and_no_half_of_a_change(scene: Scene) -> None:
    """Each is taken over as a whole or refused with its reasons, while the inspection loop runs."""
    rng = random.Random(20261122)
    cameras = [{**CAMERA, "tile_px": 100}, {"name": "side", "source": "strip:", "fps": 20, "decision": {"unsure": 0.3}}]
    good = {
        **scene.first,
        "state_dir": "./var",
        "report_s": 5,
        "decision": {"confidence": 0.7, "classes": {"scratches": 0.8}},
        "mqtt": {"broker": "embedded", "keepalive_s": 20},
        "log": {"level": "error"},
        "cameras": cameras,
    }
    taken = refused = 0
    for n in range(1000):
        before = (scene.node.settings, scene.cameras, scene.supervisor.wanted)
        scene.path.write_text(broken(rng, good), "utf-8", "surrogateescape")
        try:
            changes = scene.node.reload()
        except ConfigError:
            refused += 1
            assert (scene.node.settings, scene.cameras, scene.supervisor.wanted) == before
        else:
            taken += 1
            scene.supervisor.send(*(CameraRemoved(name, 0) for name in changes["removed"]))
            until(lambda changes=changes: not set(changes["removed"]) & set(scene.cameras), 5, "the end of a session")
        scene.assert_consistent()
        assert scene.delivery.kinds().count("config.refused") == refused, n
    assert taken > 150
    assert refused > 500


def test_reload_takes_over_products_and_rolls(scene: Scene) -> None:
    """Severities and grades change at once; no camera is touched, and nothing waits for a restart."""
    product = {"product": "sheet", "severity": [{"severity": "major"}]}
    changes = scene.reload(CAMERA, grading=[product], rolls=[{"name": "WR1", "diameter_mm": 480}])
    assert (changes["settings"], changes["needs_restart"]) == (["grading", "rolls"], [])
    assert [changes[key] for key in ("reopened", "looked_at")] == [[], []]
