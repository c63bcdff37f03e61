"""Calibrations apply to frames of the size that they were made with, and to no others."""

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.bundles import bundle
from fakes.clock import FakeClock
from fakes.networks import SIDE
from pydantic import SecretStr

from edge import config
from edge.camera.opening import OPENING_KEYS, needs_new_process
from edge.cli import main
from edge.config import calibration
from edge.config.calibration import FlatfieldPart, RegionPart, ScalePart
from edge.config.camera_calibration import CameraCalibration, Made
from edge.config.diff import compare
from edge.config.state_dir import StateDir
from edge.errors import ConfigError
from edge.model.classifier import Classifier
from edge.monitoring.doctor import calibrations, cameras
from edge.vision.inspector import Inspector

MIDDLE = Classifier(bundle(weights=(0, 0, 0, 0, 0, 8), offsets=(-9, -9, -9, -9, -9, -4), good=(0, 0)))
SIZE = (8 * SIDE, 4 * SIDE)


def made(size=SIZE):
    return Made(time="2026-11-22T13:46:11.482Z", version="1", source="by hand", frames=1, frame_px=size)


def site(tmp_path, *, size=SIZE, **camera):
    """A configuration with one camera and all of its parts calibrated for frames of a size."""
    path = StateDir(tmp_path / "var").calibration("top")
    calibration.save(
        path,
        roi=RegionPart(roi=(SIDE, 0, 6 * SIDE, 4 * SIDE), made=made(size)),
        scale=ScalePart(scale=config.Scale(mm_per_px=0.5), made=made(size)),
        flatfield=FlatfieldPart(file="gain.png", before=0.3, after=0.1, made=made(size)),
    )
    write_gain(path.with_name("gain.png"), size)
    return written(tmp_path, **camera)


def written(tmp_path, **camera):
    one = {"name": "top", "source": "strip:", "overlap": 0.0, **camera}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"node": "n", "state_dir": "var", "cameras": [one]}))
    return config.load(tmp_path / "c.yaml")


def write_gain(path, size):
    gain = np.full((size[1] // 8, size[0] // 8), 2 * 16_384, np.uint16)  # twice as bright everywhere
    cv2.imwrite(str(path), gain)


def frame(size, mean=100):
    noise = np.random.default_rng(0).normal(0, 3, (size[1], size[0]))
    return np.clip(mean + noise, 0, 255).astype(np.uint8)


def looked_at(camera, size):
    return Inspector(camera, MIDDLE, FakeClock()).inspect_alone(frame(size))


def test_parts_apply_to_the_size_they_were_made_with(tmp_path):
    """Region, light and scale are used; nothing is refused."""
    (camera,) = calibration.applied(site(tmp_path, tile_px=2 * SIDE)).cameras
    assert calibration.misfits(camera, SIZE) == ()
    verdict = looked_at(camera, SIZE)
    assert verdict.tiles == 3 * 2
    assert verdict.state == "defect"  # the gain of two makes 100 as bright as scratches


def test_region_of_another_size_makes_the_frame_bad(tmp_path):
    """Tiles would lie at the wrong place: no verdict, and the reason gives both sizes."""
    (camera,) = calibration.applied(site(tmp_path, tile_px=2 * SIDE)).cameras
    verdict = looked_at(camera, (16 * SIDE, 4 * SIDE))
    assert (verdict.state, verdict.tiles) == ("bad_image", 0)
    assert verdict.reason == f"roi calibrated for {8 * SIDE}x{4 * SIDE} px, not for {16 * SIDE}x{4 * SIDE}"
    checked = Inspector(camera, MIDDLE, FakeClock()).check(frame((16 * SIDE, 4 * SIDE)), 0)
    assert checked.fault == verdict.reason


def test_flatfield_of_another_size_is_left_out(tmp_path):
    """The frame is inspected without it; the refusal names the command to run."""
    (camera,) = calibration.applied(site(tmp_path, tile_px=2 * SIDE, roi=[0, 0, 8 * SIDE, 4 * SIDE])).cameras
    other = (8 * SIDE, 6 * SIDE)
    assert looked_at(camera, other).state == "ok"
    found = {misfit.part: misfit for misfit in calibration.misfits(camera, other)}
    assert set(found) == {"scale", "flatfield"}  # the region is by hand: it has no size
    assert not any(misfit.blocks for misfit in found.values())
    assert "defectd calibrate flatfield --camera top" in str(found["flatfield"])


def test_tiles_in_mm_need_the_scale_of_this_size(tmp_path):
    """With tile_mm and a scale that does not apply, no tile has a known size: no verdict."""
    settings = site(tmp_path, tile_mm=SIDE, roi=[0, 0, 8 * SIDE, 4 * SIDE])
    (camera,) = calibration.applied(settings).cameras
    assert camera.tile_px == 2 * SIDE
    assert looked_at(camera, SIZE).tiles == 4 * 2
    verdict = looked_at(camera, (8 * SIDE, 6 * SIDE))
    assert (verdict.state, verdict.tiles) == ("bad_image", 0)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"tile_mm": 50}, "defectd calibrate scale --camera top"),
        ({"tile_mm": 1, "scale": {"mm_per_px": 1}}, "is 1 px"),
        ({"tile_mm": 50_000, "scale": {"mm_per_px": 1}}, "not 16 to 8192"),
    ],
)
def test_tile_mm_without_a_scale_that_gives_tiles_is_refused(tmp_path, camera, words):
    """With key, value and remedy; a disabled camera is not checked."""
    with pytest.raises(ConfigError, match=words) as refused:
        calibration.applied(written(tmp_path, **camera))
    assert refused.value.problems[0].key == "cameras.top.tile_mm"
    calibration.applied(written(tmp_path, **camera, enabled=False))


def test_tile_mm_beside_tile_px_is_refused(tmp_path):
    """Only one of them can apply."""
    with pytest.raises(ConfigError, match="give one of them"):
        written(tmp_path, tile_mm=50, tile_px=100)


def test_calibration_for_another_size_alone_is_a_change(tmp_path):
    """A reload takes it over, and events carry a new hash."""
    before = calibration.applied(site(tmp_path))
    after = calibration.applied(site(tmp_path, size=(16 * SIDE, 4 * SIDE)))
    assert before.cameras[0].roi == after.cameras[0].roi
    opening = {"opening_keys": OPENING_KEYS, "needs_new_process": needs_new_process}
    assert compare(before, after, **opening).looked_at == ("top",)
    assert before.sha256 != after.sha256
    assert compare(before, calibration.applied(site(tmp_path)), **opening).looked_at == ()


def test_camera_without_calibrations_is_as_configured(tmp_path):
    """Its keys stay as they are, and frames may have any size."""
    settings = written(tmp_path)
    assert calibration.applied(settings) == settings
    assert calibration.misfits(settings.cameras[0], (1, 1)) == ()


def test_doctor_compares_calibrations_with_the_cameras(tmp_path):
    """The sizes of the files are reported; a part that does not apply is a finding with the command to run."""
    settings = site(tmp_path)
    (finding,) = calibrations.findings(settings)
    assert (finding.grade, f"roi for {8 * SIDE}x{4 * SIDE} px" in finding.says) == ("ok", True)
    found = {f.grade: f for f in calibrations.compared_with(settings, {"top": (1600, 256)})}
    assert "calibrate roi --camera top" in found["fail"].remedy
    assert "1600x256" in found["fail"].says
    assert set(found) == {"fail", "warning"}
    assert list(calibrations.compared_with(settings, {"top": SIZE})) == []
    calibration.save(StateDir(tmp_path / "var").calibration("top"), roi=RegionPart(roi=(0, 0, 9, 9), made=made((9, 9))))
    assert [f.grade for f in calibrations.findings(settings)] == ["warning"]


def test_doctor_asks_the_daemon_that_has_the_cameras(tmp_path, monkeypatch):
    """Its state messages name the refused parts; a daemon that does not answer is reported."""
    settings = site(tmp_path)
    fitted = calibration.applied(settings).cameras[0]
    refused = [misfit.as_json() for misfit in calibration.misfits(fitted, (1600, 256))]
    answer = {"cameras": {"top": {"calibration": {"used": [], "refused": refused}}, "side": {"calibration": None}}}
    monkeypatch.setattr(cameras, "ask", lambda *_: answer)
    with settings.state.locked():  # as a running daemon holds it
        found = list(cameras.opened(settings, FakeClock()))
    assert [f.grade for f in found] == ["ok", "fail", "warning", "warning"]
    assert all("--camera top" in f.remedy for f in found[1:])
    assert list(calibrations.of_daemon({})) == []


def test_calibration_with_tiles_in_mm_uses_the_scale_as_far_as_there_is_one(tmp_path):
    """The region is checked with the tiles that the daemon will use; without a scale yet nothing is refused."""
    settings = site(tmp_path, tile_mm=SIDE)
    path = StateDir(tmp_path / "var").calibration("top")
    assert calibration.tiled(settings.cameras[0], path).tile_px == 2 * SIDE
    assert calibration.tiled(settings.cameras[0], tmp_path / "none.yaml").tile_px == 200
    assert calibration.tiled(settings.cameras[0].model_copy(update={"tile_mm": None}), path).tile_px == 200


def test_flatfield_is_not_measured_in_a_region_for_another_size(tmp_path):
    """It would measure the light beside the strip: refused with the command that has to come first."""
    site(tmp_path, source="recorded")
    (tmp_path / "recorded").mkdir()
    for n in range(12):
        cv2.imwrite(str(tmp_path / "recorded" / f"{n}.png"), np.roll(frame((400, 256)), n, axis=0))
    result = CliRunner().invoke(main, ["calibrate", "flatfield", "-c", str(tmp_path / "c.yaml")])
    assert result.exit_code == 1
    assert "defectd calibrate roi --camera top" in result.stderr


def test_calibration_stays_with_copies_of_the_camera():
    """A change of a key keeps it; the camera that it was made from has none; a file cannot set it."""
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    calibrated = camera.with_calibration(CameraCalibration(made_px={"roi": SIZE}))
    changed = calibrated.model_copy(update={"tile_px": 100})
    assert calibration.made_px(changed) == {"roi": SIZE}
    assert calibration.misfits(changed, (1, 1))[0].part == "roi"
    assert calibration.made_px(camera) == {}
    assert camera != calibrated
    assert "calibration" not in config.Camera.model_fields
