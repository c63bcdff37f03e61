"""From one model to the next on a real inspection loop that keeps inspecting frames."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fakes import CLASSES, card, network, write_bundle
from fakes.crew import CAMERA, TOPICS, Cameras, Crew, Outputs
from fakes.delivery import until
from fakes.models import bundle_of, that_breaks, that_is_slow, with_a_hole

from edge import config
from edge.camera.notices import FramesLost
from edge.control.effective_config import MAX_CANARY_STARTS
from edge.control.model_rollout import ModelRollout
from edge.control.mqtt_commands import Commands
from edge.control.reload import Node, Reach
from edge.control.requests import Model
from edge.control.startup import prepare
from edge.errors import BundleError, CommandError
from edge.event import Origin
from edge.frame import Frame
from edge.host.clock import SystemClock, boot_id
from edge.host.worker import Worker
from edge.model.store import CONFIGURED, Store
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import OrderQueue
from edge.pipeline.reporting import Subscribers

STEEL = np.tile(np.linspace(20, 200, 64).astype(np.uint8), (64, 1))
BRIGHT = np.clip(STEEL.astype(int) // 8 + 230, 0, 244).astype(np.uint8)

EVERY_NS = 5_000_000


class Strip(Cameras):
    """A frame every few milliseconds, as long as the loop asks; `shown` is the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = STEEL
        self.rng = np.random.default_rng(1)
        self.number = itertools.count()
        self.next_ns = 0
        self.waiting: deque[Frame] = deque()
        self.running = True

    def wait(self, timeout_s: float) -> bool:
        now_ns = SystemClock().monotonic_ns()
        if self.running and not self.waiting and now_ns >= self.next_ns:
            self.next_ns = now_ns + EVERY_NS
            noise = self.rng.integers(0, 8, self.shown.shape, np.uint8)
            self.waiting.append(Frame("top", next(self.number), self.shown + noise, now_ns))
        return bool(self.waiting) or super().wait(timeout_s)

    def heads(self) -> tuple[tuple[str, int], ...]:
        return tuple((frame.camera, frame.grabbed_ns) for frame in self.waiting)

    def pop(self, _name: str) -> Frame:
        return self.waiting.popleft()

    def release(self, _frame: Frame) -> None:
        pass


class Plant:
    """A node that inspects, and its models."""

    def __init__(self, folder: Path, **model: Any) -> None:
        self.folder = folder
        onnx = network(weights=(0, 0, 0, 0, 0, 1))
        first = write_bundle(folder / "first", onnx, card(onnx, version="first"))
        path = folder / "config.yaml"
        camera = {**CAMERA, "budget_ms": 5000, "tile_px": 32, "mode": "parts", "image_quality": {"enabled": False}}
        content = {"node": "line3", "model": {"bundle": str(first), **model}, "cameras": [camera]}
        path.write_text(yaml.safe_dump(content))
        settings = config.load(path)
        settings.state_dir.mkdir(exist_ok=True)
        self.clock = SystemClock()
        self.prepared = prepare(settings, self.clock)
        self.crew, self.strip, self.outputs = Crew(), Strip(), Outputs()
        origin = Origin("line3", boot_id(), self.prepared.effective.model.identity, self.prepared.settings.sha256)
        self.crew.origin = origin
        control = OrderQueue()
        crew: Any = self.crew
        outputs: Any = self.outputs
        strip: Any = self.strip
        commands = Commands(TOPICS, settings.commands, ["top"], self.clock)
        reach = Reach(control, strip, crew, crew, commands, EventLatency(["top"], self.clock), outputs)
        self.node = Node(self.prepared, origin, TOPICS, reach, self.clock, path)
        self.line = InspectionLoop(
            self.prepared.sessions,
            strip,
            Subscribers(crew, state=self.node.note_state),
            self.clock,
            report_s=0.05,
            orders=control,
            shadow=self.prepared.shadow,
        )
        self.rollout = ModelRollout(self.node, self.prepared, control, lambda: self.line.sessions, self.clock)
        self.store = Store(settings.state_dir)
        self.line.start()
        self.rollout.resume()

    def stop(self, *, killed: bool = False) -> None:
        self.strip.running = False
        assert self.line.stop(5)
        assert self.line.failure is None
        if not killed:
            self.rollout.close()

    def kept(self, version: str, make: Any = network, **changes: Any) -> str:
        return self.store.put(bundle_of(self.folder, version, make, **changes), None, self.clock)

    def inspected(self) -> int:
        frames = self.line.sessions[0].counters.account.total()["frames"]
        return int(frames["ok"] + frames["defect"] + frames["unsure"])

    def goes_on(self, frames: int = 20) -> None:
        goal = self.inspected() + frames
        until(lambda: self.inspected() >= goal, 20, "frames that are inspected")

    def told(self, kind: str) -> list[tuple[dict[str, Any], str]]:
        """Details of events of this type, and the version of the model that signed them."""
        return [(e.detail or {}, origin.model["version"]) for e, origin in self.crew.events if e.type == kind]


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path, canary_s=0.0)
    yield plant
    plant.stop()


def test_swap_changes_who_decides_between_two_frames(plant: Plant) -> None:
    """Each event is signed by the model that decided it, in order; the account has every frame."""
    plant.goes_on()
    done = plant.rollout.use(plant.kept("second", weights=(0, 0, 0, 0, 9, 1)))
    plant.goes_on()
    assert (done["changed"], done["to"]["version"], done["from"]["version"]) == (True, "second", "first")
    assert plant.node.origin.model["bundle"] == plant.store.list()[0].digest
    assert plant.outputs.properties.model_version == "second"
    assert plant.crew.status["model"]["version"] == "second"
    opened = [(e.defect.class_name, o.model["version"]) for e, o in plant.crew.events if e.type == "defect.opened"]
    assert {version for name, version in opened if name == "rolled-in_scale"} == {"second"}
    signed = [origin.model["version"] for _, origin in plant.crew.events]
    assert signed == sorted(signed), "first before second"
    assert plant.told("model.changed")[0][1] == "second"
    plant.strip.running = False
    until(lambda: not plant.strip.waiting, 5, "the last frame")
    total = plant.line.sessions[0].counters.account.total()
    assert total["frames"]["ok"] + total["frames"]["defect"] == total["delivered"] == next(plant.strip.number)


def test_canary_is_promoted_and_can_still_be_rolled_back(plant: Plant) -> None:
    """It is promoted after the time and enough frames; then a rollback by a command works, once."""
    plant.goes_on(120)
    digest = plant.kept("second", weights=(0, 0, 0, 0, 0.5, 1))
    plant.rollout.use(digest)
    assert plant.rollout.use(digest) == {"changed": False, "model": plant.node.origin.model, "on_trial": True}
    plant.goes_on(120)
    until(lambda: plant.rollout.check() or not plant.rollout.status()["on_trial"], 10, "the promotion")
    assert plant.store.active(plant.node.configured.model.bundle).current == digest
    done = plant.rollout.perform(Model(action="rollback"))
    assert done["to"]["version"] == "first"
    plant.goes_on()
    assert plant.told("model.rolled_back")[0][1] == "first"
    with pytest.raises(CommandError, match="none to go back to"):
        plant.rollout.perform(Model(action="rollback"))


@pytest.mark.parametrize(("make", "said"), [(with_a_hole, "not finite"), (that_breaks, "does not run")])
def test_canary_that_fails_on_a_frame_is_replaced_within_that_frame(plant: Plant, make: Any, said: str) -> None:
    """The previous model gives the verdict; nothing is lost, the reason is reported and kept."""
    plant.goes_on()
    digest = plant.kept("hole", make)
    plant.rollout.use(digest)
    plant.goes_on()
    assert plant.told("model.rolled_back") == []
    plant.strip.shown = BRIGHT
    until(lambda: plant.told("model.rolled_back"), 10, "the rollback")
    plant.goes_on()
    ((detail, signer),) = plant.told("model.rolled_back")
    assert said in detail["reason"]
    assert (signer, detail["from"]["version"], detail["to"]["version"]) == ("first", "hole", "first")
    plant.rollout.check()
    standing = plant.store.active(plant.node.configured.model.bundle)
    assert (standing.current, list(standing.rejected)) == (CONFIGURED, [digest])
    assert plant.crew.status["model"]["version"] == "first"
    assert plant.line.sessions[0].counters.account.total()["frames"]["unsure"] == 0, (
        "no verdict came from the broken model"
    )
    assert plant.rollout.use(digest)["changed"], "it may be tried again"


def test_canary_with_more_unsure_frames_is_rolled_back(plant: Plant) -> None:
    """Compared with the previous model, at the next check after enough frames."""
    plant.goes_on(150)
    plant.rollout.use(plant.kept("doubt", weights=(0,) * 6, offsets=(0.0, 0, 0, 0, 0, 1.25)))
    plant.goes_on(150)
    until(lambda: plant.rollout.check() or plant.told("model.rolled_back"), 10, "the rollback")
    ((detail, signer),) = plant.told("model.rolled_back")
    assert "camera top: unsure frames" in detail["reason"]
    assert signer == "first"
    assert not plant.rollout.status()["on_trial"]


@pytest.mark.parametrize("make", [network, that_is_slow])
def test_missed_frames_count_against_a_canary_only_if_it_is_slower(plant: Plant, make: Any) -> None:
    """Both models are timed now: a machine that has become busy slows both."""
    plant.goes_on(120)
    plant.node.settings = plant.node.settings.model_copy(
        update={"model": plant.node.settings.model.model_copy(update={"canary_s": 3600.0})}
    )
    plant.rollout.use(plant.kept("second", make, weights=(0, 0, 0, 0, 0.5, 1)))
    plant.goes_on(10)
    plant.strip.send(FramesLost("top", 200, "overflow"))
    until(lambda: plant.line.sessions[0].counters.account.total()["frames"]["dropped"] >= 200, 5, "the lost frames")
    plant.rollout.check()
    assert bool(plant.told("model.rolled_back")) == (make is that_is_slow)
    plant.goes_on(10)


@pytest.mark.parametrize(
    ("make", "changes", "said"),
    [
        (network, {"classes": [*CLASSES[:5], "rust"]}, "not a class of the model"),
        (that_is_slow, {}, "too slow for this machine"),
        (network, {"selftest": {"seed": 7, "tiles": 1, "logits": [[9.0] * 6]}}, "self-test failed"),
        (partial(with_a_hole, 0.1), {}, "not finite"),
    ],
)
def test_bundle_that_does_not_fit_is_refused_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, changes: dict[str, Any], said: str
) -> None:
    """Wrong classes, too slow, other logits, not numbers: an event reports it, and inspection goes on."""
    plant = Plant(tmp_path)
    try:
        plant.node.set_thresholds("top", {"classes": {"scratches": 0.7}})
        if "slow" in said:
            camera = plant.node.settings.cameras[0].model_copy(update={"budget_ms": 0.5})
            monkeypatch.setattr(plant.node, "settings", plant.node.settings.model_copy(update={"cameras": (camera,)}))
        with pytest.raises(BundleError, match=said):
            plant.rollout.use(plant.kept("wrong", make, **changes))
        plant.goes_on()
        ((detail, signer),) = plant.told("model.refused")
        assert said in detail["reason"]
        assert (signer, plant.rollout.status()["current"]) == ("first", CONFIGURED)
        assert plant.node.model is plant.prepared.effective.model
    finally:
        plant.stop()


def test_canary_stays_one_over_restarts_until_they_are_too_many(tmp_path: Path) -> None:
    """A proper stop does not count; a model that takes the daemon down with it is not tried for ever."""
    plant = Plant(tmp_path, canary_s=3600.0)
    plant.goes_on()
    plant.rollout.use(plant.kept("second", weights=(0, 0, 0, 0, 0.5, 1)))
    plant.stop()
    for starts in (1, 2):
        plant = Plant(tmp_path, canary_s=3600.0)
        assert plant.node.origin.model["version"] == "second"
        standing = plant.store.active(plant.node.configured.model.bundle)
        assert (standing.is_canary, standing.unclean_starts) == (True, starts)
        plant.goes_on()
        plant.stop(killed=True)
    assert starts == MAX_CANARY_STARTS
    plant = Plant(tmp_path, canary_s=3600.0)
    assert plant.node.origin.model["version"] == "first"
    assert "did not end properly" in plant.told("model.rolled_back")[0][0]["reason"]
    plant.stop()
    plant = Plant(tmp_path, canary_s=3600.0)
    assert (plant.node.origin.model["version"], plant.told("model.rolled_back")) == ("first", [])
    plant.stop()


def test_canary_after_a_restart_still_has_its_previous_model(tmp_path: Path) -> None:
    """It then fails on a frame, and is replaced within that frame."""
    plant = Plant(tmp_path, canary_s=3600.0)
    plant.rollout.use(plant.kept("hole", with_a_hole))
    plant.stop()
    plant = Plant(tmp_path, canary_s=3600.0)
    plant.strip.shown = BRIGHT
    until(lambda: plant.told("model.rolled_back"), 10, "the rollback")
    plant.goes_on()
    plant.stop()


def test_damaged_installed_model_is_passed_over_at_the_start(tmp_path: Path) -> None:
    """After a loss of bits on disk the model of the configuration decides, and an event reports it."""
    plant = Plant(tmp_path)
    digest = plant.kept("second", weights=(0, 0, 0, 0, 0.5, 1))
    plant.rollout.use(digest)
    plant.stop()
    path = plant.store.folder / digest / "student.onnx"
    path.write_bytes(path.read_bytes()[:-9])
    plant = Plant(tmp_path)
    assert plant.node.origin.model["version"] == "first"
    assert "damaged" in plant.told("model.rolled_back")[0][0]["reason"]
    plant.stop()


def test_one_installation_runs_at_a_time_and_its_failure_is_reported(plant: Plant) -> None:
    """A URL that leads nowhere ends in an event; the inspection loop is not affected."""
    ready = threading.Event()

    def install_slowly() -> None:
        assert ready.wait(5)

    plant.rollout._installing = Worker("model", install_slowly, plant.clock)
    plant.rollout._installing.start()
    with pytest.raises(CommandError, match="is being installed"):
        plant.rollout.perform(Model(action="install", url="https://127.0.0.1:1/x.zip"))
    ready.set()
    assert plant.rollout._installing.join(5)
    url = "https://u:secret@127.0.0.1:1/x.zip"
    assert plant.rollout.perform(Model(action="install", url=url)) == {"started": True}
    until(lambda: plant.told("model.refused"), 10, "the refusal")
    assert "cannot be downloaded" in plant.told("model.refused")[0][0]["reason"]
    assert "secret" not in str(plant.told("model.refused"))
    plant.goes_on()


def test_installation_that_ends_in_an_error_of_the_program_is_reported(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for it gets an event, not silence after `started`."""

    def fail(*_: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xfc", 0, 1, "invalid start byte")

    monkeypatch.setattr("edge.control.model_rollout.download", fail)
    assert plant.rollout.perform(Model(action="install", url="https://127.0.0.1/x.zip")) == {"started": True}
    until(lambda: plant.told("model.refused"), 10, "the refusal")
    assert "UnicodeDecodeError" in plant.told("model.refused")[0][0]["reason"]
    plant.goes_on()


def test_shadow_model_runs_on_its_share_and_its_disagreements_are_counted(tmp_path: Path) -> None:
    """They are in the state of the camera; it decides nothing; a broken one is refused."""
    bundle_of(tmp_path, "other", weights=(0,) * 6, offsets=(0.0, 0, 0, 0, 0, 1.25))
    plant = Plant(tmp_path, shadow={"bundle": str(tmp_path / "vother"), "share": 0.5})
    try:
        plant.goes_on(60)
        until(lambda: plant.node.states["top"]["shadow"]["frames"] > 10, 10, "the second opinion")
        shadow = plant.node.states["top"]["shadow"]
        assert shadow["model"]["version"] == "other"
        assert shadow["disagreed"] == sum(shadow["otherwise"].values()) > 0
        assert shadow["frames"] + shadow["no_time"] <= plant.inspected() / 2 + 1
        assert plant.node.origin.model["version"] == "first"
        content = yaml.safe_load((tmp_path / "config.yaml").read_text())
        content["model"]["shadow"] = None
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        plant.node.reload()
        until(lambda: plant.node.states["top"]["shadow"] is None, 10, "no shadow any more")
        broken = with_a_hole(0.3)
        wrong = write_bundle(tmp_path / "wrong", broken, card(broken))
        content["model"]["shadow"] = {"bundle": str(wrong)}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(BundleError, match="not finite"):
            plant.node.reload()
        assert plant.crew.events[-1][0].type == "config.refused"
    finally:
        plant.stop()
