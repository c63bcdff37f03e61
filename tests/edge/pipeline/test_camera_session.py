"""What a camera keeps over a reload, and what starts anew."""

from __future__ import annotations

from dataclasses import replace

from fakes.inspection import Scene

from edge.config.camera_calibration import Reference
from edge.vision.drift import DriftDetector


def test_drift_figures_survive_a_reload_with_the_same_reference() -> None:
    """A reload for another reason keeps the gathered minutes; another calibration starts anew and ends the drift."""
    made = {"time": "t", "version": "1", "source": "s", "frames": 9, "frame_px": [4, 4]}
    same = {"low": 95.0, "middle": 100.0, "high": 105.0}
    known = Reference.model_validate({"brightness": same, "sharpness": same, "made": made})
    scene = Scene()
    (session,) = scene.sessions
    session.drift, session.drift_since_ns = DriftDetector(known, 60), 1
    watch, plain = session.drift, scene.session().settings
    same_reference = replace(plain, reference=known, camera=plain.camera.model_copy(update={"drift_s": 60.0}))
    session.reconfigure(same_reference)
    assert (session.drift, session.drift_since_ns) == (watch, 1)
    session.reconfigure(replace(same_reference, camera=plain.camera.model_copy(update={"drift_s": 120.0})))
    assert session.drift is not None
    assert (session.drift.window_s, session.drift_since_ns) == (120, None)
    session.reconfigure(plain)
    assert session.drift is None


def test_counters_survive_a_reload_and_tracking_starts_anew() -> None:
    """Counts, losses, stages and the state stay as they are; frame numbers and frame sizes are forgotten."""
    scene = Scene({"budget_ms": 20})
    scene.note(scene.opened())
    scene.play(0, 1, 2)
    scene.play(0, age_ms=100)
    (session,) = scene.sessions
    counters, state, tracking = session.counters, session.state, session.tracking
    total, losses = counters.account.total(), dict(counters.losses)
    session.reconfigure(scene.session(budget_ms=70).settings)
    assert session.settings.budget_ns == 70_000_000
    assert session.counters is counters
    assert (counters.account.total(), counters.losses) == (total, losses)
    assert losses == {("bad_image", "dark"): 1, ("late", "late"): 1}
    assert session.state is state
    assert session.tracking is not tracking
    assert (session.tracking.frame_px, session.tracking.last_number) == (None, -1)


def test_losses_have_a_bounded_number_of_reasons() -> None:
    """Beyond twenty kinds a loss is counted as `other`; the sum stays right."""
    (session,) = Scene().sessions
    for n in range(100):
        session.miss("bad_image", n, "bad_image", f"reason {n}")
    assert len(session.counters.losses) <= 21
    assert sum(session.counters.losses.values()) == session.counters.account.delivered() == 100
