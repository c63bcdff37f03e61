"""From one model to the next on a real inspection loop that keeps inspecting frames."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fakes import node
from fakes.broken_networks import that_breaks, that_is_slow, with_a_hole
from fakes.bundles import bundle_of, card, write_bundle
from fakes.neighbours import FakeSupervisor
from fakes.networks import CLASSES, network
from fakes.node import CAMERA
from fakes.waiting import until

from edge.camera.notices import FramesLost
from edge.control.effective_config import MAX_CANARY_STARTS
from edge.control.model_rollout import MAX_SLOWDOWN, ModelRollout
from edge.control.requests import Model
from edge.errors import BundleError, CommandError
from edge.frame import Frame
from edge.host.clock import SystemClock
from edge.host.worker import Worker
from edge.model.store import CONFIGURED, ActiveModel, Store

STEEL = np.tile(np.linspace(20, 200, 64).astype(np.uint8), (64, 1))
BRIGHT = np.clip(STEEL.astype(int) // 8 + 230, 0, 244).astype(np.uint8)

EVERY_NS = 5_000_000


class EndlessStrip(FakeSupervisor):
    """A frame every few milliseconds, until `end`; `shown` is the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = STEEL
        self.made = 0
        """Frames so far."""
        self.rng = np.random.default_rng(1)
        self.next_ns = 0
        self.waiting: deque[Frame] = deque()
        self.running = True
        self.lock = threading.Lock()

    def wait(self, timeout_s: float) -> bool:
        now_ns = SystemClock().monotonic_ns()
        with self.lock:
            if self.running and not self.waiting and now_ns >= self.next_ns:
                self.next_ns = now_ns + EVERY_NS
                noise = self.rng.integers(0, 8, self.shown.shape, np.uint8)
                self.waiting.append(Frame("top", self.made, self.shown + noise, now_ns))
                self.made += 1
        return bool(self.waiting) or super().wait(timeout_s)

    def end(self) -> None:
        """No frame is made after this call."""
        with self.lock:
            self.running = False

    def heads(self) -> tuple[tuple[str, int], ...]:
        return tuple((frame.camera, frame.grabbed_ns) for frame in self.waiting)

    def pop(self, _name: str) -> Frame:
        return self.waiting.popleft()

    def release(self, _frame: Frame) -> None:
        pass


class Scene(node.Scene):
    """A node that inspects, and its models."""

    def __init__(
        self, folder: Path, *, budget_ms: float | None = None, max_slowdown: float = MAX_SLOWDOWN, **model: Any
    ) -> None:
        """budget_ms: None: frames wait, so that a busy machine leaves out no tiles."""
        self.folder = folder
        onnx = network(weights=(0, 0, 0, 0, 0, 1))
        first = write_bundle(folder / "first", onnx, card(onnx, version="first"))
        time = {"live": False} if budget_ms is None else {"budget_ms": budget_ms}
        camera = {**CAMERA, **time, "tile_px": 32, "mode": "parts", "image_quality": {"enabled": False}}
        self.strip = EndlessStrip()
        super().__init__(
            folder,
            [camera],
            supervise=lambda _cameras, _clock: self.strip,
            report_s=0.05,
            model={"bundle": str(first), **model},
        )
        self.rollout = ModelRollout(
            self.node,
            self.prepared,
            self.orders,
            lambda: self.loop.sessions,
            self.clock,
            max_slowdown=max_slowdown,
        )
        self.store = Store(self.node.settings.state_dir)

    def start(self) -> None:
        super().start()
        self.rollout.resume()

    def stop(self, *, killed: bool = False) -> None:
        self.strip.end()
        super().stop()
        if not killed:
            self.rollout.close()

    def installed(self, version: str, make: Any = network, **changes: Any) -> str:
        """The digest of a bundle that is in the store."""
        return self.store.put(bundle_of(self.folder, version, make, **changes), None, self.clock)

    @property
    def active_model(self) -> ActiveModel:
        return self.store.active(self.node.configured.model.bundle)

    @property
    def shadow_state(self) -> Any:
        """What the latest state of the camera reports about the shadow model."""
        until(lambda: "top" in self.node.states, 10, "a state of the camera")
        return self.node.states["top"]["shadow"]

    def total(self) -> dict[str, Any]:
        return self.loop.sessions[0].counters.account.total()

    def inspected(self) -> int:
        frames = self.total()["frames"]
        return int(frames["ok"] + frames["defect"] + frames["unsure"])

    def inspect_more(self, frames: int = 20) -> None:
        """Wait until this many more frames are inspected."""
        goal = self.inspected() + frames
        until(lambda: self.inspected() >= goal, 20, "frames that are inspected")

    def reported(self, kind: str) -> list[tuple[dict[str, Any], str]]:
        """Details of events of this type, and the version of the model that signed them."""
        return [(e.detail or {}, origin.model["version"]) for e, origin in self.delivery.events if e.type == kind]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path, canary_s=0.0) as scene:
        yield scene


def test_swap_changes_who_decides_between_two_frames(scene: Scene) -> None:
    """Each event is signed by the model that decided it, in order; the account has every frame."""
    scene.inspect_more()
    done = scene.rollout.use(scene.installed("second", weights=(0, 0, 0, 0, 9, 1)))
    scene.inspect_more()
    assert (done["changed"], done["to"]["version"], done["from"]["version"]) == (True, "second", "first")
    assert scene.node.origin.model["bundle"] == scene.store.list()[0].digest
    assert scene.outputs.properties.model_version == "second"
    assert scene.delivery.status["model"]["version"] == "second"
    opened = [(e.defect.class_name, o.model["version"]) for e, o in scene.delivery.events if e.type == "defect.opened"]
    assert {version for name, version in opened if name == "rolled-in_scale"} == {"second"}
    signed = [origin.model["version"] for _, origin in scene.delivery.events]
    assert signed == sorted(signed), "first before second"
    assert scene.reported("model.changed")[0][1] == "second"
    scene.strip.end()
    until(lambda: scene.total()["delivered"] == scene.strip.made, 10, "the count of the last frame")
    total = scene.total()
    assert total["frames"]["ok"] + total["frames"]["defect"] == total["delivered"] == scene.strip.made


def test_canary_is_promoted_and_can_still_be_rolled_back(scene: Scene) -> None:
    """The time and enough frames promote it; then a rollback by a command works, once."""
    scene.inspect_more(120)
    digest = scene.installed("second", weights=(0, 0, 0, 0, 0.5, 1))
    scene.rollout.use(digest)
    assert scene.rollout.use(digest) == {"changed": False, "model": scene.node.origin.model, "on_trial": True}
    scene.inspect_more(120)
    until(lambda: scene.rollout.check() or not scene.rollout.status()["on_trial"], 10, "the promotion")
    assert scene.active_model.current == digest
    done = scene.rollout.perform(Model(action="rollback"))
    assert done["to"]["version"] == "first"
    scene.inspect_more()
    assert scene.reported("model.rolled_back")[0][1] == "first"
    with pytest.raises(CommandError, match="none to go back to"):
        scene.rollout.perform(Model(action="rollback"))


@pytest.mark.parametrize(("make", "reason"), [(with_a_hole, "not finite"), (that_breaks, "does not run")])
def test_canary_that_fails_on_a_frame_is_replaced_within_that_frame(scene: Scene, make: Any, reason: str) -> None:
    """The previous model gives the verdict; nothing is lost, the reason is reported and kept."""
    scene.inspect_more()
    digest = scene.installed("hole", make)
    scene.rollout.use(digest)
    scene.inspect_more()
    assert scene.reported("model.rolled_back") == []
    scene.strip.shown = BRIGHT
    until(lambda: scene.reported("model.rolled_back"), 10, "the rollback")
    scene.inspect_more()
    ((detail, signer),) = scene.reported("model.rolled_back")
    assert reason in detail["reason"]
    assert (signer, detail["from"]["version"], detail["to"]["version"]) == ("first", "hole", "first")
    scene.rollout.check()
    active = scene.active_model
    assert (active.current, list(active.rejected)) == (CONFIGURED, [digest])
    assert scene.delivery.status["model"]["version"] == "first"
    assert scene.total()["frames"]["unsure"] == 0, "no verdict came from the broken model"
    assert scene.rollout.use(digest)["changed"], "it may be used again"


def test_canary_with_more_unsure_frames_is_rolled_back(scene: Scene) -> None:
    """The next check after enough frames compares it with the previous model."""
    scene.inspect_more(150)
    scene.rollout.use(scene.installed("unsure", weights=(0,) * 6, offsets=(0.0, 0, 0, 0, 0, 1.25)))
    scene.inspect_more(150)
    until(lambda: scene.rollout.check() or scene.reported("model.rolled_back"), 10, "the rollback")
    ((detail, signer),) = scene.reported("model.rolled_back")
    assert "camera top: unsure frames" in detail["reason"]
    assert signer == "first"
    assert not scene.rollout.status()["on_trial"]


@pytest.mark.parametrize("make", [network, that_is_slow])
def test_missed_frames_count_against_a_canary_only_if_it_is_slower(tmp_path: Path, make: Any) -> None:
    """Both models are timed now: a machine that has become busy slows both."""
    with Scene(tmp_path, canary_s=3600.0, max_slowdown=3.0) as scene:
        scene.inspect_more(120)
        scene.rollout.use(scene.installed("second", make, weights=(0, 0, 0, 0, 0.5, 1)))
        scene.inspect_more(10)
        scene.strip.send(FramesLost("top", 200, "overflow"))
        until(lambda: scene.total()["frames"]["dropped"] >= 200, 5, "the lost frames")
        scene.rollout.check()
        assert bool(scene.reported("model.rolled_back")) == (make is that_is_slow)
        scene.inspect_more(10)


@pytest.mark.parametrize(
    ("make", "changes", "reason"),
    [
        (network, {"classes": [*CLASSES[:5], "rust"]}, "not a class of the model"),
        (that_is_slow, {}, "too slow for this machine"),
        (network, {"selftest": {"seed": 7, "tiles": 1, "logits": [[9.0] * 6]}}, "self-test failed"),
        (partial(with_a_hole, 0.1), {}, "not finite"),
    ],
)
def test_bundle_that_does_not_fit_is_refused_and_nothing_changes(
    tmp_path: Path, make: Any, changes: dict[str, Any], reason: str
) -> None:
    """Wrong classes, too slow, other logits, not numbers: an event reports it, and inspection goes on."""
    with Scene(tmp_path, budget_ms=1.0 if make is that_is_slow else 5000) as scene:
        scene.node.set_thresholds("top", {"classes": {"scratches": 0.7}})
        with pytest.raises(BundleError, match=reason):
            scene.rollout.use(scene.installed("wrong", make, **changes))
        scene.inspect_more()
        ((detail, signer),) = scene.reported("model.refused")
        assert reason in detail["reason"]
        assert (signer, scene.rollout.status()["current"]) == ("first", CONFIGURED)
        assert scene.node.model is scene.prepared.effective.model


def test_canary_stays_one_over_restarts_until_they_are_too_many(tmp_path: Path) -> None:
    """A proper stop does not count; a model with which the daemon dies again and again is not started for ever."""
    with Scene(tmp_path, canary_s=3600.0) as scene:
        scene.inspect_more()
        scene.rollout.use(scene.installed("second", weights=(0, 0, 0, 0, 0.5, 1)))
    for starts in (1, 2):
        scene = Scene(tmp_path, canary_s=3600.0)
        scene.start()
        assert scene.node.origin.model["version"] == "second"
        assert (scene.active_model.is_canary, scene.active_model.unclean_starts) == (True, starts)
        scene.inspect_more()
        scene.stop(killed=True)
    assert starts == MAX_CANARY_STARTS
    with Scene(tmp_path, canary_s=3600.0) as scene:
        assert scene.node.origin.model["version"] == "first"
        assert "did not end properly" in scene.reported("model.rolled_back")[0][0]["reason"]
    with Scene(tmp_path, canary_s=3600.0) as scene:
        assert (scene.node.origin.model["version"], scene.reported("model.rolled_back")) == ("first", [])


def test_canary_after_a_restart_still_has_its_previous_model(tmp_path: Path) -> None:
    """A canary that fails on a frame after a restart is replaced within that frame."""
    with Scene(tmp_path, canary_s=3600.0) as scene:
        scene.rollout.use(scene.installed("hole", with_a_hole))
    with Scene(tmp_path, canary_s=3600.0) as scene:
        scene.strip.shown = BRIGHT
        until(lambda: scene.reported("model.rolled_back"), 10, "the rollback")
        scene.inspect_more()


def test_damaged_installed_model_is_passed_over_at_the_start(tmp_path: Path) -> None:
    """After a loss of bits on disk the model of the configuration decides, and an event reports it."""
    with Scene(tmp_path) as scene:
        digest = scene.installed("second", weights=(0, 0, 0, 0, 0.5, 1))
        scene.rollout.use(digest)
    path = scene.store.folder / digest / "student.onnx"
    path.write_bytes(path.read_bytes()[:-9])
    with Scene(tmp_path) as scene:
        assert scene.node.origin.model["version"] == "first"
        assert "damaged" in scene.reported("model.rolled_back")[0][0]["reason"]


def test_one_installation_runs_at_a_time_and_its_failure_is_reported(scene: Scene) -> None:
    """A URL that leads nowhere ends in an event; the inspection loop is not affected."""
    ready = threading.Event()

    def install_slowly() -> None:
        assert ready.wait(5)

    scene.rollout._installing = Worker("model", install_slowly, scene.clock)
    scene.rollout._installing.start()
    with pytest.raises(CommandError, match="is being installed"):
        scene.rollout.perform(Model(action="install", url="https://127.0.0.1:1/x.zip"))
    ready.set()
    assert scene.rollout._installing.join(5)
    url = "https://u:secret@127.0.0.1:1/x.zip"
    assert scene.rollout.perform(Model(action="install", url=url)) == {"started": True}
    until(lambda: scene.reported("model.refused"), 10, "the refusal")
    assert "cannot be downloaded" in scene.reported("model.refused")[0][0]["reason"]
    assert "secret" not in str(scene.reported("model.refused"))
    scene.inspect_more()


def test_installation_that_ends_in_an_error_of_the_program_is_reported(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for it gets an event, not silence after `started`."""

    def fail(*_: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xfc", 0, 1, "invalid start byte")

    monkeypatch.setattr("edge.control.model_rollout.download", fail)
    assert scene.rollout.perform(Model(action="install", url="https://127.0.0.1/x.zip")) == {"started": True}
    until(lambda: scene.reported("model.refused"), 10, "the refusal")
    assert "UnicodeDecodeError" in scene.reported("model.refused")[0][0]["reason"]
    scene.inspect_more()


def test_shadow_model_runs_on_its_share_and_its_disagreements_are_counted(tmp_path: Path) -> None:
    """The state of the camera counts them; the shadow model decides nothing; a broken one is refused."""
    bundle_of(tmp_path, "other", weights=(0,) * 6, offsets=(0.0, 0, 0, 0, 0, 1.25))
    with Scene(tmp_path, budget_ms=5000, shadow={"bundle": str(tmp_path / "vother"), "share": 0.5}) as scene:
        scene.inspect_more(60)
        until(lambda: scene.shadow_state["frames"] > 10, 10, "frames that the shadow model inspected, too")
        shadow = scene.shadow_state
        assert shadow["model"]["version"] == "other"
        assert shadow["disagreed"] == sum(shadow["otherwise"].values()) > 0
        assert shadow["frames"] + shadow["no_time"] <= scene.inspected() / 2 + 1
        assert scene.node.origin.model["version"] == "first"
        content = yaml.safe_load(scene.path.read_text())
        content["model"]["shadow"] = None
        scene.write(content)
        scene.node.reload()
        until(lambda: scene.shadow_state is None, 10, "no shadow model in the state")
        broken = with_a_hole(0.3)
        wrong = write_bundle(tmp_path / "wrong", broken, card(broken))
        content["model"]["shadow"] = {"bundle": str(wrong)}
        scene.write(content)
        with pytest.raises(BundleError, match="not finite"):
            scene.node.reload()
        assert len(scene.reported("config.refused")) == 1
