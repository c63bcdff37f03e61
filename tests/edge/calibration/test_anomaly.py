"""Good surface, learned from footage: one number governs false alarms."""

import json
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes import FakeClock
from fakes.configured import calibrated_camera
from pydantic import SecretStr

from edge import config
from edge.calibration import anomaly
from edge.calibration.anomaly import Collected, Pace, Wanted, fit
from edge.calibration.anomaly_plots import contact_sheet, heat_map, tail_plot
from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.config import calibration
from edge.control.loaded_model import LoadedModel
from edge.control.model_validation import validate
from edge.errors import BundleError, CalibrationError
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision.inspector import Inspector

FRAMES = 120
STRIP = {"width": 400, "height": 200, "seed": 3}
HOURLY = Pace(30.0, 2, 3)


@cache
def classifier():
    return Classifier(bundle.load("builtin"), network="student.int8.onnx")


@cache
def clean():
    return Strip(**STRIP, spacing_px=1_000_000)


@cache
def good_frame(number):
    return clean().frame(number)


def camera(**changes):
    return config.Camera(name="top", source=SecretStr("strip:"), **changes)


def collected(frames, *, follow=True):
    seen = Collected(Inspector(camera(), classifier(), FakeClock()), classifier())
    for number, frame in enumerate(frames):
        seen.see(f"f{number}", frame, follows=follow and number > 0)
    return seen


def good(count=FRAMES):
    return [good_frame(number) for number in range(count)]


def with_defects(at, count=FRAMES):
    """Good frames with dark blots in some of them."""
    frames = [frame.copy() for frame in good(count)]
    for number in at:
        cv2.circle(frames[number], (100, 100), 25, 20, cv2.FILLED)
    return frames


@cache
def found():
    return fit(collected(good()), Wanted(10.0, None), HOURLY)


def test_good_frames_raise_no_alarm_and_defects_do(tmp_path):
    """Of frames that were not seen; a blot that no class may know is a defect with its strangeness."""
    path = tmp_path / "top.npz"
    often = fit(collected(good()), Wanted(500.0, None), HOURLY)
    path.write_bytes(often.anomaly.coded())
    inspector = Inspector(camera(anomaly=(path,)), classifier(), FakeClock())
    strip = clean()
    states = [inspector.inspect_alone(strip.frame(n)).state for n in range(1000, 1020)]
    assert states.count("ok") >= 18
    blotted = good_frame(7).copy()
    cv2.circle(blotted, (100, 100), 25, 20, cv2.FILLED)
    verdict = inspector.inspect_alone(blotted)
    assert verdict.state == "defect"
    region = verdict.findings.regions[0]
    assert region.anomaly is not None
    assert region.anomaly > 1
    assert 0 <= region.confidence <= 1


def test_threshold_rises_with_what_is_asked_and_says_what_is_shown():
    """A thousand alarms an hour can nearly be counted; one cannot, and three hours are needed to show it."""
    rare = fit(collected(good()), Wanted(1.0, None), HOURLY)
    often = fit(collected(good()), Wanted(5000.0, None), HOURLY)
    assert rare.promise.threshold > found().promise.threshold > often.promise.threshold
    assert often.promise.exact
    assert not rare.promise.exact
    assert rare.promise.low <= rare.promise.expected <= rare.promise.high
    assert rare.promise.shown > 1
    assert rare.needed_hours == pytest.approx(3.0, rel=0.01)
    assert rare.alone is not None


def test_threshold_far_beyond_the_footage_is_told():
    """With the rate that the footage carries: asked for, it gives a threshold near what was seen."""
    seen = collected(good())
    rare = fit(seen, Wanted(1.0, None), HOURLY)
    largest = rare.maxima.max()
    assert rare.promise.threshold > 2 * largest
    assert rare.carried is not None
    assert rare.carried > 1
    enough = fit(seen, Wanted(1.01 * rare.carried, None), HOURLY)
    assert enough.promise.threshold == pytest.approx(2 * largest, rel=0.02)
    assert enough.carried is None


def test_footage_with_defects_in_many_frames_is_refused():
    """They must not pass for good surface; a few are found, in all frames that show much of them."""
    strip = Strip()
    with pytest.raises(CalibrationError, match="stand out: this is no good surface"):
        fit(collected([strip.frame(number) for number in range(60)]), Wanted(10.0, None), HOURLY)
    rare = Strip(**STRIP, spacing_px=3600)
    seen = collected([rare.frame(number) for number in range(40, 340)])
    result = fit(seen, Wanted(10.0, None), HOURLY)
    shown = {n - 40 for n in range(40, 340) for _, box in rare.truth(n) if box[2] * box[3] > 3000}
    assert len(shown) > 10
    assert shown <= set(result.left_out)
    assert result.places == len({defect.track for n in range(40, 340) for defect, _ in rare.truth(n)})


def test_share_of_tiles_is_kept_on_other_tiles():
    """Five of a hundred tiles asked: on frames that were not seen, no more than chance allows."""
    half = fit(collected(good(), follow=False), Wanted(None, 0.05), Pace(30.0, 1, 1))
    seen = collected([good_frame(n) for n in range(700, 740)], follow=False)
    scores = half.anomaly.surface.score(seen.values())
    assert (scores > half.promise.threshold).mean() <= 0.09
    assert half.promise.exact


def test_a_few_defects_are_found_shown_and_left_out():
    """Two places of a few frames each: the threshold is about that of clean footage, and the sheet shows them."""
    seen = collected(with_defects([50, 51, 52, 100]))
    result = fit(seen, Wanted(10.0, None), HOURLY)
    assert {50, 51, 52, 100} <= set(result.left_out)
    assert len(result.left_out) < 30
    assert result.places == 2
    assert result.promise.threshold < 1.6 * found().promise.threshold
    shown = [one for one in result.odd if one.left_out and one.picture is not None]
    assert {one.frame for one in shown} >= {50, 51, 52, 100}
    kept = fit(seen, Wanted(10.0, None), HOURLY, keep_all=True)
    assert kept.left_out == ()
    assert kept.promise.threshold > result.promise.threshold
    assert contact_sheet(result.odd).shape[1] == 900
    assert tail_plot(result).shape == (560, 920, 3)


def test_map_shows_where_good_surface_is_strangest():
    """A reflex that comes and goes at one place: the tile there is the hottest, and every tile has its figure."""
    frames = [frame.copy() for frame in good()]
    for frame in frames[::9]:
        cv2.circle(frame, (330, 60), 8, 230, cv2.FILLED)
    result = fit(collected(frames), Wanted(10.0, None), HOURLY, keep_all=True)
    x, y, w, h = result.boxes[int(np.nanargmax(result.hot))]
    assert x <= 330 <= x + w
    assert y <= 60 <= y + h
    assert len(result.hot) == len(result.boxes) > 1
    assert heat_map(result).shape == (228, 400, 3)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (lambda: good(6), "at least 20 are needed"),
        (lambda: [good_frame(0)] * 60, "59 of 60 frames repeat others: the strip must move"),
        (lambda: with_defects(range(0, 120, 8), 120), "stand out: this is no good surface"),
        (lambda: good(30) + [np.zeros((200, 400), np.uint8)] * 12, "12 of 42 frames show no surface"),
        (lambda: [cv2.GaussianBlur(frame, (0, 0), 3) for frame in good(40)], "out of focus"),
    ],
    ids=["few", "still", "bad", "dark", "blurred"],
)
def test_footage_that_says_nothing_is_refused(frames, words):
    """Too few tiles, one picture, defects all over, no surface, a lens that is out of focus."""
    with pytest.raises(CalibrationError, match=words):
        fit(collected(frames()), Wanted(1.0, None), HOURLY)


def test_bundle_without_peaks_is_told_by_logits_and_features():
    """One that was trained before there were any: good frames are good, a blot is not."""
    shipped = bundle.load("builtin")
    outputs = {name: words for name, words in shipped.card.outputs.items() if name != "peaks"}
    before = Classifier(replace(shipped, card=shipped.card.model_copy(update={"outputs": outputs})))
    seen = Collected(Inspector(camera(), before, FakeClock()), before)
    for number, frame in enumerate(good()):
        seen.see(str(number), frame, follows=number > 0)
    known = fit(seen, Wanted(500.0, None), HOURLY).anomaly
    assert known.surface.names == ("logits", "features")
    blotted = good_frame(7).copy()
    cv2.circle(blotted, (100, 100), 25, 20, cv2.FILLED)
    inspector = Inspector(camera(), before, FakeClock())
    scores = [
        known.score(before.score(inspector.cut(inspector.prepare(frame, follow=False)))).max()
        for frame in (clean().frame(900), blotted)
    ]
    assert scores[0] < known.threshold < scores[1]


def test_frames_that_come_again_are_counted_once():
    """A recording in a loop is no more footage than once."""
    once, looped = collected(good(60)), collected(good(60) * 4)
    assert looped.repeated == 180
    assert looped.counts == once.counts
    assert fit(looped, Wanted(10.0, None), HOURLY).promise == fit(once, Wanted(10.0, None), HOURLY).promise


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for number in range(80):
        cv2.imwrite(str(folder / f"{number:04d}.png"), good_frame(number))
    return folder


def written_config(folder):
    path = folder / "my.yaml"
    raw = {"node": "n", "state_dir": str(folder / "var"), "cameras": [{"name": "top", "source": "strip:", "fps": 30}]}
    path.write_text(yaml.safe_dump(raw))
    return path


def run(*arguments):
    return CliRunner().invoke(main, ["calibrate", "normal", *map(str, arguments)])


def test_command_writes_what_the_daemon_uses(tmp_path, footage):
    """Thresholds, reference, data and two pictures; the camera then has them; with `anomaly: classes` it has not."""
    path = written_config(tmp_path)
    done = run("-c", path, "--camera", "top", "--source", footage, "--consecutive", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["false_alarms_per_hour"] == 1.0
    assert told["confirm"] == [2, 3]
    folder = tmp_path / "var" / "calibration"
    pictures = {"top.normal.png", "top.normal-tiles.png", "top.normal-map.png"}
    assert {p.name for p in folder.iterdir()} == {"top.yaml", told["file"], *pictures}
    assert calibration.load(folder / "top.yaml").reference is not None
    fitted = calibrated_camera(path)
    assert fitted.anomaly == (folder / told["file"],)
    Inspector(fitted, classifier(), FakeClock())
    path.write_text(path.read_text().replace("fps: 30", "fps: 30\n  anomaly: classes"))
    assert calibrated_camera(path).anomaly == "classes"


def test_command_again_replaces_and_removes_its_data(tmp_path, footage):
    """One file of data for each model; nothing is left behind. A dry run changes nothing."""
    path = written_config(tmp_path)
    for more in ((), ("--false-alarm-rate", "0.02")):
        assert run("-c", path, "--source", footage, "--consecutive", *more).exit_code == 0
    folder = tmp_path / "var" / "calibration"
    assert len(list(folder.glob("*.npz"))) == 1
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    dry = run("-c", path, "--source", footage, "--dry-run")
    assert dry.exit_code == 0
    assert "threshold" in dry.output
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_single_tiles_hold_for_frames_of_any_size(tmp_path, footage):
    """With a share of tiles asked; alarms an hour are of the frames that were shown."""
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    for number in range(0, FRAMES, 4):
        cv2.imwrite(str(tiles / f"{number}.png"), good_frame(number)[:, 100:300])
    path = written_config(tmp_path)
    for asked, frame_px in ((("--false-alarm-rate", "0.05"), None), (("--false-alarms-per-hour", "90000"), [200, 200])):
        assert run("-c", path, "--source", tiles, *asked).exit_code == 0
        made = yaml.safe_load((tmp_path / "var" / "calibration" / "top.yaml").read_text())["normal"][0]["made"]
        assert made.get("frame_px") == frame_px
    assert run("-c", path, "--source", tiles, "--false-alarm-rate", "0.05").exit_code == 0
    inspector = Inspector(calibrated_camera(path), classifier(), FakeClock())
    assert inspector.inspect_alone(good_frame(801)).anomaly is not None


def test_command_says_when_footage_is_too_short(tmp_path, footage):
    """What is needed, and what can be promised now."""
    done = run("-c", written_config(tmp_path), "--source", footage, "--consecutive", "--false-alarms-per-hour", "0.5")
    assert "6 h of good footage" in done.output
    assert "shown by this footage alone" in done.output


def test_command_refuses_two_askings(tmp_path):
    """Per hour or per tile."""
    done = run("-c", written_config(tmp_path), "--false-alarms-per-hour", "1", "--false-alarm-rate", "0.01")
    assert done.exit_code == 2


def test_another_model_is_not_admitted(tmp_path):
    """A calibration made with another model: the new one is refused, and the command to run is named."""
    other = found().anomaly
    path = tmp_path / "top.npz"
    changed = anomaly.Model(other.model.name, "0", "b" * 64)
    path.write_bytes(replace(other, model=changed).coded())
    with pytest.raises(BundleError, match=r"does not fit the calibration.*calibrate normal --camera top"):
        validate(LoadedModel(bundle.load("builtin"), classifier()), [camera(anomaly=(path,))], FakeClock())
