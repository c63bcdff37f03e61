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
from fakes import CLASSES, card, network, write_bundle
from fakes.crew import CAMERA, TOPICS, Cameras, Crew, Outputs
from fakes.delivery import until

from edge import config
from edge.camera.notices import CameraRemoved
from edge.config import overrides
from edge.control.mqtt_commands import Commands
from edge.control.reload import ORDER_S, Node, Reach
from edge.control.startup import prepare
from edge.errors import CommandError, ConfigError
from edge.event import Origin
from edge.host.clock import SystemClock, boot_id
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import OrderQueue
from edge.pipeline.reporting import Subscribers


class Stage:
    """A node with its inspection loop running, and the file it was made from."""

    def __init__(self, folder: Path, *, order_s: float = ORDER_S, **more: Any) -> None:
        self.path = folder / "config.yaml"
        onnx = network()
        self.bundle = write_bundle(folder / "tiny", onnx, card(onnx))
        self.first = {"node": "line3", "model": {"bundle": str(self.bundle)}, "cameras": [CAMERA], **more}
        self.write(self.first)
        settings = config.load(self.path)
        settings.state_dir.mkdir(exist_ok=True)
        clock = SystemClock()
        prepared = prepare(settings, clock)
        self.crew, self.cameras, self.outputs = Crew(), Cameras(), Outputs()
        self.crew.origin = Origin("line3", boot_id(), {"name": "tiny", "version": "1", "sha256": "0" * 64}, "")
        self.control = OrderQueue()
        commands = Commands(TOPICS, settings.commands, ["top"], clock)
        crew: Any = self.crew
        cameras: Any = self.cameras
        outputs: Any = self.outputs
        reach = Reach(
            self.control,
            cameras,
            crew,
            crew,
            commands,
            EventLatency(["top"], clock),
            outputs,
        )
        origin = Origin("line3", boot_id(), self.crew.origin.model, settings.sha256)
        self.node = Node(prepared, origin, TOPICS, reach, clock, self.path, order_s=order_s)
        self.line = InspectionLoop(
            prepared.sessions,
            cameras,
            Subscribers(
                crew,
                state=self.node.note_state,
                coverage=lambda camera, message: crew.retain(TOPICS.coverage(camera), message),
                removed=self.node.forget,
            ),
            clock,
            report_s=60,
            orders=self.control,
        )
        self.line.start()

    def write(self, content: Any) -> None:
        self.path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def reload(self, *cameras: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.write({**self.first, "cameras": [*cameras] or self.first["cameras"], **more})
        return self.node.reload()

    def sessions(self) -> dict[str, config.Camera]:
        return {session.camera.name: session.camera for session in self.line.sessions}

    def is_consistent(self) -> None:
        """Inspection loop, supervisor, events and settings agree."""
        settings = self.node.settings
        active = {camera.name: camera for camera in settings.active_cameras}
        sessions = self.sessions()
        assert {name: sessions[name] for name in active} == {
            name: camera.model_copy(update={"max_memory_mb": sessions[name].max_memory_mb})
            for name, camera in active.items()
        }
        assert self.cameras.wanted is None or self.cameras.wanted == list(active.values())
        assert self.node.origin.config_sha256 == settings.sha256
        assert self.line.failure is None


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    level = logging.getLogger("edge").level
    yield stage
    logging.getLogger("edge").setLevel(level)  # a reload sets it
    assert stage.line.stop(5)
    assert stage.line.failure is None


def test_reload_takes_over_what_it_can_and_names_the_rest(stage: Stage) -> None:
    """Added and changed cameras are reported; a broker needs a restart; the event carries the new hash."""
    before = stage.node.origin.config_sha256
    side = {"name": "side", "source": "strip:?width=640"}
    told = stage.reload({**CAMERA, "tile_px": 100}, side, mqtt={"broker": "embedded:1999"}, report_s=5)
    assert (told["added"], told["looked_at"], told["needs_restart"]) == (["side"], ["top"], ["mqtt.broker"])
    assert told["settings"] == ["report_s"]
    assert told["config_sha256"] != told["config_sha256_before"] == before
    stage.is_consistent()
    assert stage.sessions()["top"].tile_px == 100
    event, origin = next(pair for pair in stage.crew.events if pair[0].type == "config.changed")
    assert (origin.config_sha256, event.detail) == (told["config_sha256"], told)
    assert stage.crew.status["cameras"] == ["top", "side"]
    assert stage.node.settings.mqtt.broker == "embedded"


def test_reload_uses_the_values_that_a_generated_strip_provides(stage: Stage) -> None:
    """As at a start: its scale and direction at once, its speed from the next start on."""
    told = stage.reload({**CAMERA, "source": "strip:?mm_per_px=0.5"})
    camera = stage.sessions()["top"]
    assert (camera.scale, camera.direction) == (config.Scale(mm_per_px=0.5), "up")
    assert told["needs_restart"] == ["travel.speed_m_per_s"]
    stage.is_consistent()


def test_counts_of_a_camera_continue_over_a_change(stage: Stage) -> None:
    """Frames counted before stay counted; only the settings of the inspection are new."""
    session = stage.line.sessions[0]
    stage.reload({**CAMERA, "budget_ms": 70, "mode": "parts"})
    assert stage.line.sessions[0] is session
    assert (session.settings.budget_ns, session.camera.mode) == (70_000_000, "parts")


def test_thresholds_apply_at_once_and_are_reported(stage: Stage) -> None:
    """Nothing restarts for them; values that a command has set still override the file."""
    stage.node.set_thresholds("top", {"unsure": 0.2})
    told = stage.reload({**CAMERA, "decision": {"confidence": 0.9}})
    assert (told["thresholds"], told["reopened"], told["looked_at"]) == (["top"], [], [])
    assert stage.crew.kinds()[-2:] == ["config.changed", "thresholds.changed"]
    decision = stage.sessions()["top"].decision
    assert (decision.confidence, decision.unsure) == (0.9, 0.2)
    stage.is_consistent()


def test_removed_camera_ends_with_its_last_frame(stage: Stage) -> None:
    """Its counts are closed when the supervisor reports the end; then its retained messages are deleted."""
    stage.reload(CAMERA, {"name": "side", "source": "strip:"})
    until(lambda: "defectd/line3/side/state" in stage.crew.retained, 5, "the state of the new camera")
    told = stage.reload(CAMERA)
    assert told["removed"] == ["side"]
    assert set(stage.sessions()) == {"top", "side"}
    stage.cameras.send(CameraRemoved("side", 0))
    until(lambda: set(stage.sessions()) == {"top"}, 5, "the end of the session")
    until(lambda: not [topic for topic in stage.crew.retained if "/side/" in topic], 5, "nothing retained")
    assert "side" not in stage.node.states


def test_camera_that_is_added_again_before_its_end_stays(stage: Stage) -> None:
    """A late notice of its removal does not end the new one."""
    stage.reload(CAMERA, {"name": "side", "source": "strip:"})
    stage.reload(CAMERA)
    stage.reload(CAMERA, {"name": "side", "source": "strip:"})
    stage.cameras.send(CameraRemoved("side", 0))
    until(lambda: not stage.cameras.notices, 5, "the notice")
    stage.reload(CAMERA, {"name": "side", "source": "strip:"})
    assert set(stage.sessions()) == {"top", "side"}


def test_outputs_are_rebuilt_when_cameras_are_added_or_removed(stage: Stage) -> None:
    """A change of thresholds only gives them the new hash of the configuration."""
    stage.reload({**CAMERA, "decision": {"confidence": 0.9}})
    assert stage.outputs.rebuilt == []
    assert stage.outputs.properties.config_sha256 == stage.node.settings.sha256
    assert stage.crew.status["outputs"] == stage.outputs.as_json()
    stage.reload(CAMERA, {"name": "side", "source": "strip:"})
    assert [[camera.name for camera in settings.cameras] for settings in stage.outputs.rebuilt] == [["top", "side"]]
    assert set(stage.outputs.states) >= {"top"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cameras: [", "not usable YAML"),
        ({"node": "line3"}, "cameras: missing"),
        ({"node": "line3", "cameras": [{**CAMERA, "fsp": 1}]}, "fsp"),
        ({"node": "line3", "cameras": [{**CAMERA, "enabled": False}]}, "all disabled"),
        ({"node": "line3", "cameras": [{**CAMERA, "decision": {"classes": {"rust": 0.9}}}]}, "not a class"),
        ({"node": "line3", "cameras": [CAMERA], "mqtt": {"password": "hunter2", "broker": 3}}, "mqtt.broker"),
    ],
)
def test_bad_file_changes_nothing_and_the_reasons_are_reported(stage: Stage, content: Any, said: str) -> None:
    """The caller and the subscribers of events get the reasons; no secret is in them."""
    before = (stage.node.settings, stage.node.origin, stage.sessions())
    stage.write(content)
    with pytest.raises(ConfigError, match=said):
        stage.node.reload()
    assert (stage.node.settings, stage.node.origin, stage.sessions()) == before
    assert stage.cameras.wanted is None
    event, _ = stage.crew.events[-1]
    assert event.type == "config.refused"
    assert event.detail is not None
    assert said in str(event.detail["problems"])
    assert "hunter2" not in str(event.detail)


def test_loop_that_does_not_respond_leaves_everything_unchanged(tmp_path: Path) -> None:
    """The change is cancelled as a whole, and an event reports it."""
    stage = Stage(tmp_path, order_s=0.01)
    assert stage.line.stop(5)
    before = (stage.node.settings, stage.sessions())
    with pytest.raises(CommandError, match="not reached"):
        stage.reload({**CAMERA, "tile_px": 100})
    assert (stage.node.settings, stage.sessions(), stage.cameras.wanted) == (*before, None)
    assert stage.crew.kinds()[-1] == "config.refused"


def test_kept_thresholds_that_do_not_fit_the_new_file_are_left_out(stage: Stage) -> None:
    """As at a start: the file applies, and the log reports it."""
    stage.node.set_thresholds("top", {"confidence": 0.5})
    stage.reload({**CAMERA, "decision": {"unsure": 0.55, "confidence": 0.8}})
    assert stage.sessions()["top"].decision.confidence == 0.8
    assert overrides.load(stage.node.configured, CLASSES) == {}


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


def test_a_thousand_files_give_no_traceback_and_no_half_of_a_change(stage: Stage) -> None:
    """Each is taken over as a whole or refused with its reasons, while the inspection loop runs."""
    rng = random.Random(20261122)
    cameras = [{**CAMERA, "tile_px": 100}, {"name": "side", "source": "strip:", "fps": 20, "decision": {"unsure": 0.3}}]
    good = {
        **stage.first,
        "state_dir": "./var",
        "report_s": 5,
        "decision": {"confidence": 0.7, "classes": {"scratches": 0.8}},
        "mqtt": {"broker": "embedded", "keepalive_s": 20},
        "log": {"level": "error"},
        "cameras": cameras,
    }
    taken = refused = 0
    for n in range(1000):
        before = (stage.node.settings, stage.sessions(), stage.cameras.wanted)
        stage.path.write_text(broken(rng, good), "utf-8", "surrogateescape")
        try:
            told = stage.node.reload()
        except ConfigError:
            refused += 1
            assert (stage.node.settings, stage.sessions(), stage.cameras.wanted) == before
        else:
            taken += 1
            stage.cameras.send(*(CameraRemoved(name, 0) for name in told["removed"]))
            until(lambda told=told: not set(told["removed"]) & set(stage.sessions()), 5, "the end of a session")
        stage.is_consistent()
        assert stage.crew.kinds().count("config.refused") == refused, n
    assert taken > 150
    assert refused > 500
