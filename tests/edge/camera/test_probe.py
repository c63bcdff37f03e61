"""The probe: what each camera delivers, or why it does not open."""

from __future__ import annotations

from camera_scene import camera

from edge.camera.probe import Probe, probe
from edge.host.clock import SystemClock


def test_probe_reports_the_actual_format_or_the_reason(tmp_path):
    """Every camera has its result: a format, or an error."""
    cameras = [camera("near", "strip:?width=320&height=64", fps=50), camera("far", tmp_path / "missing.png")]
    results = probe(cameras, SystemClock())
    assert list(results) == ["near", "far"]
    near = results["near"].as_json()["actual"]
    assert (near["backend"], near["width"], near["height"], near["fps"]) == ("strip", 320, 64, 50.0)
    assert results["far"].actual is None
    assert "does not exist" in results["far"].as_json()["error"]


def test_pictures_that_can_never_be_inspected_are_an_error():
    """One usable picture is enough: a recording may start with bad ones."""
    cameras = [camera("dark", "strip:?width=320&height=64", fps=200), camera("late", "strip:?width=256&height=64")]

    def fault(frame):
        return "dark" if frame.camera == "dark" or frame.number < 3 else None

    results = probe(cameras, SystemClock(), fault)
    assert results["dark"].actual is not None
    assert "30 pictures can be inspected: 30 dark" in results["dark"].as_json()["error"]
    assert results["late"].error == ""


def test_probe_of_no_camera_has_no_result():
    """A configuration whose cameras are all disabled opens none."""
    assert probe([], SystemClock()) == {}
    assert Probe(error="x").as_json() == {"error": "x"}
