"""What is missing until a camera is ready."""

import pytest
from pydantic import SecretStr

from edge import config
from edge.calibration.readiness import is_ready, steps_of
from edge.config import calibration
from edge.config.camera_calibration import Made
from edge.model import bundle


@pytest.fixture
def camera():
    return config.Camera(name="top", source=SecretStr("strip:"))


@pytest.fixture
def settings(tmp_path, camera):
    return config.Config(node="n", state_dir=tmp_path, cameras=(camera,))


def made(time="2026-11-29T20:00:00.000Z"):
    return Made(time=time, version="1", source="strip:", frames=9, frame_px=(800, 400))


def surface(sha256, time="2026-11-29T21:00:00.000Z"):
    promised = calibration.FalseAlarms(threshold=2.0, exact=True, expected=1.0, low=0.5, high=2.0, shown=3.0)
    return calibration.AnomalyPart(
        file="top.normal.npz",
        model={"name": "m", "version": "1", "sha256": sha256},
        false_alarms_per_hour=1.0,
        promised=promised,
        doubt=1.5,
        tiles=1000,
        pieces=10,
        piece_frames=5,
        fps=30.0,
        confirm=(2, 3),
        left_out=0,
        made=made(time),
    )


def states(camera, settings):
    return {step.name: step for step in steps_of(camera, settings, bundle.load("builtin"))}


def test_camera_without_calibrations_names_a_command_for_each_step(camera, settings):
    """Nothing is done; the region, the tiles and good surface are required."""
    found = states(camera, settings)
    assert {name for name, step in found.items() if step.state != "missing"} == {"classes"}
    assert found["classes"].state == "optional"
    assert [name for name, step in found.items() if step.required] == ["roi", "tile", "normal"]
    assert all(step.remedy.startswith("defectd calibrate ") for step in found.values())
    assert not is_ready(tuple(found.values()))


def test_required_calibrations_make_the_camera_ready(camera, settings):
    """Good surface counts for the model that decides alone."""
    path = settings.state.calibration("top")
    region = calibration.RegionPart(roi=(0, 0, 400, 400), tile_px=150, made=made())
    calibration.save(path, roi=region, normal=(surface("0" * 64),))
    assert states(camera, settings)["normal"].state == "stale"
    calibration.save(path, normal=(surface(bundle.load("builtin").sha256()),))
    found = states(camera, settings)
    assert is_ready(tuple(found.values()))
    assert (found["tile"].says, found["roi"].since) == ("tiles of 150 px", made().time)
    later = calibration.RegionPart(roi=(0, 0, 400, 400), tile_px=100, made=made("2026-11-29T22:00:00.000Z"))
    calibration.save(path, roi=later)
    assert "before the region or its tiles were changed" in states(camera, settings)["normal"].says


def test_thresholds_for_tiles_of_another_size_are_stale(camera, settings):
    """The daemon does not use them either."""
    levels = config.CalibratedThresholds(bundle=None, tile_px=150, temperature=None, classes={})
    reliability = calibration.Reliability(before=0.1, after=0.1, n=9)
    part = calibration.ThresholdsPart(levels=levels, classes=(), reliability=reliability, sound=0, made=made())
    calibration.save(settings.state.calibration("top"), thresholds=part)
    assert states(camera, settings)["thresholds"].state == "stale"


def test_keys_of_the_configuration_count_as_done(settings):
    """They override what a calibration would write."""
    values = {"roi": (0, 0, 100, 100), "tile_px": 100, "anomaly": "classes"}
    camera = config.Camera(name="top", source=SecretStr("strip:"), **values)
    assert is_ready(steps_of(camera, settings, bundle.load("builtin")))
