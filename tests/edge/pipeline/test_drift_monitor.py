"""Drift of a camera from its calibration, as events and the state report it."""

from __future__ import annotations

import pytest
from fakes.inspection import Scene

from edge.config.camera_calibration import Reference
from edge.vision.drift import DriftDetector


def test_drift_is_reported_with_its_end() -> None:
    """An event with the figure and its limits, the state running with the reason, and an event when it is over."""
    made = {"time": "t", "version": "1", "source": "s", "frames": 9, "frame_px": [4, 4]}
    bright, sharp = ({"low": 0.95 * x, "middle": x, "high": 1.05 * x} for x in (100.0, 0.5))
    known = Reference.model_validate({"brightness": bright, "sharpness": sharp, "made": made})
    scene = Scene(report_s=1000)
    (session,) = scene.sessions
    session.drift = DriftDetector(known, 60)
    scene.note(scene.opened())
    scene.play(*[0] * 90, every_s=1.0)
    assert scene.kinds() == []
    scene.inspector.brightness = 40.0
    scene.play(*[0] * 90, every_s=1.0)
    assert scene.kinds() == ["camera.drifted"]
    detail = scene.events[0].detail or {}
    assert (detail["began"], set(detail["figures"])) == (["brightness"], {"brightness"})
    assert detail["figures"]["brightness"]["now"] == 40
    assert detail["figures"]["brightness"]["limits"] == [pytest.approx(70), pytest.approx(130)]
    state = scene.states[-1][1]
    assert (state["state"], state["reason"]) == ("running", "drifted: brightness")
    assert state["drift"]["drifted"] == ["brightness"]
    scene.inspector.brightness = 100.0
    scene.play(*[0] * 90, every_s=1.0)
    assert scene.kinds() == ["camera.drifted", "camera.drift_cleared"]
    assert (scene.events[1].detail or {})["seconds"] == pytest.approx(60, abs=40)
    state = scene.states[-1][1]
    assert (state["state"], state["reason"], state["drift"]["since"]) == ("running", None, None)
