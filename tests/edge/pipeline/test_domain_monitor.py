"""A camera on steel unlike the training's, as events and the state report it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fakes.inspection import Scene

from edge.vision.inspector import Verdict

SURFACE: Any = object()


def watched(distance: float) -> Scene:
    scene = Scene(report_s=1000)
    scene.inspector.surface = SURFACE
    scene.inspector.distances = [distance] * 4
    scores: Any = SimpleNamespace(features=None)
    inspect = scene.inspector.inspect

    def scored(*args: Any, **kwargs: Any) -> Verdict:
        from dataclasses import replace

        return replace(inspect(*args, **kwargs), scores=scores)

    scene.inspector.inspect = scored  # type: ignore[method-assign]
    scene.note(scene.opened())
    return scene


def test_strange_steel_is_reported_once_and_its_defects_lose_their_names() -> None:
    """One event with the remedy, the state with the answer; an event when the steel is known again."""
    scene = watched(2.0)
    scene.play(*[0] * 120, every_s=1.0)
    assert scene.kinds() == ["model.out_of_domain"]
    detail = scene.events[0].detail or {}
    assert (detail["distance"], "calibrate classes" in detail["remedy"]) == (2.0, True)
    assert "calibrate auto" in detail["remedy"], "this camera has no region: what is beside the strip counts"
    assert scene.inspector.names_known is False
    assert scene.states[-1][1]["domain"]["answer"] == "outside"
    scene.inspector.distances = [0.5] * 4
    scene.play(*[0] * 200, every_s=1.0)
    assert scene.kinds() == ["model.out_of_domain", "model.in_domain"]
    assert (scene.events[1].detail or {})["reason"] == "measured"
    assert scene.inspector.names_known is True


def test_teaching_ends_it() -> None:
    """The taught classes name defects at once, and nothing is compared any more."""
    scene = watched(2.0)
    scene.play(*[0] * 120, every_s=1.0)
    scene.inspector.surface = None
    type(scene.inspector).taught = SimpleNamespace(sha256="0" * 64, names=("weave",))
    try:
        scene.play(0, every_s=1.0)
    finally:
        type(scene.inspector).taught = None
    assert scene.kinds() == ["model.out_of_domain", "model.in_domain"]
    assert (scene.events[1].detail or {})["reason"] == "taught"
    assert scene.states[-1][1]["domain"] is None


def test_usual_steel_is_not_reported() -> None:
    """The answer is in the state only."""
    scene = watched(0.8)
    scene.play(*[0] * 120, every_s=1.0)
    assert scene.kinds() == []
    assert scene.sessions[0].domain is not None
    assert scene.sessions[0].domain.answer == "inside"
