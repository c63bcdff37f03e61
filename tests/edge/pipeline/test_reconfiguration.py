"""Changes of the cameras and models in use: everything or nothing, between two frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.inspection import Scene, ScriptedInspector

from edge import config
from edge.camera.notices import CameraRemoved
from edge.coverage.severity import Severities
from edge.errors import CommandError, ConfigError, Problem
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.orders import PromoteModel, Reconfigure, SetThresholds
from edge.pipeline.shadow import Shadow


def test_thresholds_change_from_the_next_frame_on() -> None:
    """The state message and an event report them."""
    scene = Scene()
    scene.note(scene.opened())
    before, decision = scene.inspector, config.Decision(confidence=0.9)
    scene.order(SetThresholds("top", decision))
    assert before.made == [(None, decision)]
    assert scene.inspector is not before
    assert scene.sessions[0].camera.decision == decision
    assert scene.states[-1][1]["thresholds"]["confidence"] == 0.9
    assert scene.events[-1].type == "thresholds.changed"


class Picky(ScriptedInspector):
    """Fits no other model and no other thresholds."""

    def fitted(self, classifier: Any = None, decision: config.Decision | None = None) -> ScriptedInspector:
        raise ConfigError("config", (Problem("decision.classes", "rust", "not a class of the model", "Remove it"),))


def with_inspector(session: CameraSession, inspector: ScriptedInspector) -> None:
    session.settings = replace(session.settings, inspector=inspector)


def test_thresholds_that_fit_no_class_change_nothing() -> None:
    """The order is refused with the reason; no event, no state, the old thresholds hold."""
    scene = Scene()
    with_inspector(scene.sessions[0], Picky(scene.clock))
    before = scene.sessions[0].settings
    answer = scene.order(SetThresholds("top", config.Decision(classes={"rust": 0.5})))
    assert isinstance(answer, CommandError)
    assert (answer.code, "rust" in str(answer)) == ("bad_value", True)
    assert scene.sessions[0].settings is before
    assert (scene.events, scene.states) == ([], [])


def test_reconfiguration_is_everything_or_nothing() -> None:
    """One camera that does not fit the model leaves all of them as they were, and nothing is called."""
    scene = Scene({"name": "top"}, {"name": "side"})
    with_inspector(scene.sessions[1], Picky(scene.clock))
    before, called = [session.settings for session in scene.sessions], []
    model: Any = "second"
    order = Reconfigure(
        cameras={"new": scene.session(name="new").settings}, classifier=model, on_change=lambda: called.append(1)
    )
    assert isinstance(scene.order(order), CommandError)
    assert [session.settings for session in scene.loop.sessions] == before
    assert (called, scene.events) == ([], [])


def test_change_is_called_between_the_last_old_event_and_the_first_new_one() -> None:
    """Open defects of a camera with new settings are closed before it."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1, 1)
    fresh, before = scene.session(mode="parts").settings, []
    assert scene.order(Reconfigure(cameras={"top": fresh}, on_change=lambda: before.append(scene.kinds()))) is None
    scene.play(1)
    assert before == [["defect.opened", "defect.closed"]]
    assert scene.kinds() == ["defect.opened", "defect.closed"] * 2


def test_cameras_are_added_and_removed_between_two_frames() -> None:
    """A new camera is inspected; one that is not named goes with its last frame, after its last message."""
    scene = Scene()
    scene.note(scene.opened())
    fresh = scene.session(name="side", mode="parts").settings
    scene.order(Reconfigure(cameras={"side": fresh}, names=frozenset({"side"})))
    assert [session.name for session in scene.loop.sessions] == ["top", "side"]
    scene.play(1, camera="side")
    assert [event.camera for event in scene.events] == ["side", "side"]
    scene.note(CameraRemoved("top", scene.clock.monotonic_ns()))
    assert [session.name for session in scene.loop.sessions] == ["side"]
    assert scene.removed == ["top"]
    assert [(name, state["reason"]) for name, state in scene.states if name == "top"][-1] == ("top", "removed")


def test_removed_camera_of_a_known_name_stays() -> None:
    """A camera that was removed and is wanted again before its last frame keeps its session."""
    scene = Scene()
    scene.order(Reconfigure(names=frozenset()))
    scene.order(Reconfigure(names=frozenset({"top"})))
    scene.note(CameraRemoved("top", scene.clock.monotonic_ns()))
    assert scene.loop.sessions == (scene.sessions[0],)
    assert scene.removed == []


def canary(scene: Scene) -> list[str]:
    """A canary model decides.  Returns the reasons for which the loop fell back."""
    reasons: list[str] = []
    second: Any = "second"
    first: Any = "first"
    scene.order(Reconfigure(classifier=second, previous=first, on_fall_back=reasons.append))
    return reasons


@pytest.mark.parametrize("failure", ["raises", "not finite"])
def test_canary_that_fails_costs_no_frame(failure: str) -> None:
    """The previous model gives the verdict on the same frame and decides from then on; the loop reports it once."""
    scene = Scene({"mode": "parts"})
    reasons = canary(scene)
    failing = scene.inspector
    failing.made.clear()
    failing.made.clear()
    if failure == "raises":
        failing.failure = RuntimeError("out of memory")
    else:
        failing.broken = 3
    scene.play(1, 1)
    assert reasons == ["out of memory" if failure == "raises" else "the scores of 3 tiles are not finite"]
    assert [made[0] for made in failing.made] == ["first"]
    assert scene.kinds() == ["defect.opened", "defect.closed"] * 2
    assert scene.sessions[0].counters.account.total()["frames"]["defect"] == 2


def test_promoted_model_has_nothing_to_fall_back_to() -> None:
    """Its failure is the loop's: the daemon sees it and ends."""
    scene = Scene()
    reasons = canary(scene)
    scene.order(PromoteModel())
    scene.inspector.failure = RuntimeError("out of memory")
    with pytest.raises(RuntimeError):
        scene.play(1)
    assert reasons == []
    assert len(scene.cameras.released) == 1


def test_shadow_model_is_replaced_only_when_asked() -> None:
    """An order without a word about it keeps the shadow model; one may also remove it."""
    scene = Scene()
    shadow = Shadow({"name": "second"}, 1.0, {}, scene.clock)
    scene.order(Reconfigure(replaces_shadow=True, shadow=shadow))
    scene.order(Reconfigure(report_s=5.0))
    assert scene.loop.shadow is shadow
    scene.order(Reconfigure(replaces_shadow=True))
    assert scene.loop.shadow is None


def test_severities_follow_the_rules_in_use() -> None:
    """Both events of a defect say how severe it is; other rules hold from the next event on."""
    product = {"product": "sheet", "coils": ["*"], "severity": [{"severity": "major", "min_length_mm": 40.0}]}
    scene = Scene(severities=Severities([product]))
    scene.play(0, 1, 1, 1)
    scene.order(Reconfigure(severities=Severities([{**product, "severity": [{"severity": "critical"}]}])))
    scene.play(0, 0, 0, 0)
    found = [event.defect.severity for event in scene.events if event.defect is not None]
    assert found == ["major", "critical"]  # its length is not known: the rule applies
