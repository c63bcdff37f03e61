"""The anomaly model: learned from footage of good surface; one number governs false alarms."""

import json
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.clock import FakeClock
from fakes.configured import calibrated_camera
from pydantic import SecretStr

from edge import config
from edge.calibration import anomaly
from edge.calibration.anomaly import AllowedAlarms, Collector, Pace, fit
from edge.calibration.anomaly_plots import (
    CAPTION_PX,
    FONT,
    MAP_CAPTION,
    TEXT_SIZE,
    contact_sheet,
    heat_map,
    tail_plot,
    wrapped,
)
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
    collector = Collector(Inspector(camera(), classifier(), FakeClock()), classifier())
    for number, frame in enumerate(frames):
        collector.add(f"f{number}", frame, follows=follow and number > 0)
    return collector


def good(count=FRAMES):
    return [good_frame(number) for number in range(count)]


def with_defects(at, count=FRAMES):
    """Good frames with dark blots in some of them."""
    frames = [frame.copy() for frame in good(count)]
    for number in at:
        cv2.circle(frames[number], (100, 100), 25, 20, cv2.FILLED)
    return frames


def gouged(number):
    """A good frame with three dark lines along the strip."""
    frame, rng = good_frame(number).copy(), np.random.default_rng(number)
    for _ in range(3):
        left = int(rng.integers(20, 380))
        end = (left + int(rng.integers(-15, 15)), 199)
        cv2.line(frame, (left, 0), end, int(rng.integers(20, 60)), 3)
    return frame


@cache
def found():
    return fit(collected(good()), AllowedAlarms(10.0, None), HOURLY)


def test_good_frames_raise_no_alarm_and_defects_do(tmp_path):
    """On new frames; a blot that may match no class is a defect with an anomaly score."""
    path = tmp_path / "top.npz"
    often = fit(collected(good()), AllowedAlarms(500.0, None), HOURLY)
    path.write_bytes(often.anomaly.coded())
    inspector = Inspector(camera(anomaly=(path,)), classifier(), FakeClock())
    strip = clean()
    states = [inspector.inspect_alone(strip.frame(n)).state for n in range(1000, 1020)]
    assert states.count("ok") >= 18
    blotted = good_frame(7).copy()
    cv2.circle(blotted, (100, 100), 25, 20, cv2.FILLED)
    verdict = inspector.inspect_alone(blotted)
    assert verdict.state == "defect"
    region = verdict.detections.regions[0]
    assert region.anomaly is not None
    assert region.anomaly > 1
    assert 0 <= region.confidence <= 1


def test_threshold_rises_as_fewer_alarms_are_allowed():
    """Thousands of alarms per hour can be counted; one cannot, and three hours would be needed to show it."""
    rare = fit(collected(good()), AllowedAlarms(1.0, None), HOURLY)
    often = fit(collected(good()), AllowedAlarms(5000.0, None), HOURLY)
    assert rare.promise.threshold > found().promise.threshold > often.promise.threshold
    assert often.promise.exact
    assert not rare.promise.exact
    assert rare.promise.low <= rare.promise.expected <= rare.promise.high
    assert rare.promise.shown > 1
    assert rare.needed_hours == pytest.approx(3.0, rel=0.01)
    assert rare.alone is not None


def test_threshold_far_beyond_the_footage_is_reported():
    """With the rate that the footage supports: that rate gives a threshold within twice the largest score."""
    collector = collected(good())
    rare = fit(collector, AllowedAlarms(1.0, None), HOURLY)
    largest = rare.maxima.max()
    assert rare.promise.threshold > 2 * largest
    assert rare.supported_rate is not None
    assert rare.supported_rate > 1
    enough = fit(collector, AllowedAlarms(1.01 * rare.supported_rate, None), HOURLY)
    assert enough.promise.threshold == pytest.approx(2 * largest, rel=0.02)
    assert enough.supported_rate is None


def test_footage_with_defects_in_many_frames_is_refused():
    """They must not pass as good surface; a few are left out, in all frames that show much of them."""
    strip = Strip()
    with pytest.raises(CalibrationError, match="stand out: this is no good surface"):
        fit(collected([strip.frame(number) for number in range(60)]), AllowedAlarms(10.0, None), HOURLY)
    rare = Strip(**STRIP, spacing_px=3600)
    collector = collected([rare.frame(number) for number in range(40, 340)])
    result = fit(collector, AllowedAlarms(10.0, None), HOURLY)
    shown = {n - 40 for n in range(40, 340) for _, box in rare.truth(n) if box[2] * box[3] > 3000}
    assert len(shown) > 10
    assert shown <= set(result.left_out)
    assert result.places == len({defect.track for n in range(40, 340) for defect, _ in rare.truth(n)})


def test_share_of_tiles_holds_on_other_tiles():
    """Five of a hundred tiles allowed: on new frames, no more than chance permits."""
    half = fit(collected(good(), follow=False), AllowedAlarms(None, 0.05), Pace(30.0, 1, 1))
    collector = collected([good_frame(n) for n in range(700, 740)], follow=False)
    scores = half.anomaly.surface.score(collector.values())
    assert (scores > half.promise.threshold).mean() <= 0.09
    assert half.promise.exact


def test_a_few_defects_are_found_shown_and_left_out():
    """Two places of a few frames each: the threshold is about that of clean footage, and the sheet shows them."""
    collector = collected(with_defects([50, 51, 52, 100]))
    result = fit(collector, AllowedAlarms(10.0, None), HOURLY)
    assert {50, 51, 52, 100} <= set(result.left_out)
    assert len(result.left_out) < 30
    assert result.places == 2
    assert result.promise.threshold < 1.6 * found().promise.threshold
    shown = [one for one in result.shown_tiles if one.left_out and one.picture is not None]
    assert {one.frame for one in shown} >= {50, 51, 52, 100}
    kept = fit(collector, AllowedAlarms(10.0, None), HOURLY, keep_all=True)
    assert kept.left_out == ()
    assert kept.promise.threshold > result.promise.threshold
    assert contact_sheet(result.shown_tiles).shape[1] == 900
    assert tail_plot(result).shape == (560, 920, 3)


def test_map_shows_where_good_surface_is_most_anomalous():
    """A reflection that comes and goes at one place: the tile there is the hottest, and every tile has a score."""
    frames = [frame.copy() for frame in good()]
    for frame in frames[::9]:
        cv2.circle(frame, (330, 60), 8, 230, cv2.FILLED)
    result = fit(collected(frames), AllowedAlarms(10.0, None), HOURLY, keep_all=True)
    x, y, w, h = result.boxes[int(np.nanargmax(result.place_scores))]
    assert x <= 330 <= x + w
    assert y <= 60 <= y + h
    assert len(result.place_scores) == len(result.boxes) > 1
    caption = wrapped(MAP_CAPTION, 400 - 12)
    assert heat_map(result).shape == (200 + 10 + CAPTION_PX * len(caption), 400, 3)


@pytest.mark.parametrize("width", [120, 256, 388, 1588])
def test_caption_of_the_map_fits_into_the_picture(width):
    """A narrow camera has more lines: no word is lost, and no line is wider than the picture."""
    lines = wrapped(MAP_CAPTION, width)
    assert " ".join(lines) == MAP_CAPTION
    assert max(cv2.getTextSize(line, FONT, TEXT_SIZE, 1)[0][0] for line in lines) <= width
    assert (len(lines) == 1) == (width >= 388)


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
def test_useless_footage_is_refused(frames, words):
    """Too few tiles, one picture, defects in many frames, no surface, a lens out of focus."""
    with pytest.raises(CalibrationError, match=words):
        fit(collected(frames()), AllowedAlarms(1.0, None), HOURLY)


def test_bundle_without_maximum_activations_uses_logits_and_features():
    """As older bundles do: good frames are below the threshold, a blot is above."""
    shipped = bundle.load("builtin")
    outputs = {name: words for name, words in shipped.card.outputs.items() if name != "peaks"}
    older = Classifier(replace(shipped, card=shipped.card.model_copy(update={"outputs": outputs})))
    collector = Collector(Inspector(camera(), older, FakeClock()), older)
    for number, frame in enumerate(good()):
        collector.add(str(number), frame, follows=number > 0)
    anomaly_model = fit(collector, AllowedAlarms(500.0, None), HOURLY).anomaly
    assert anomaly_model.surface.names == ("logits", "features", "odds")
    blotted = good_frame(7).copy()
    cv2.circle(blotted, (100, 100), 25, 20, cv2.FILLED)
    inspector = Inspector(camera(), older, FakeClock())
    scores = [
        anomaly_model.score(older.score(inspector.cut(inspector.prepare(frame, follow=False)))).max()
        for frame in (clean().frame(900), blotted)
    ]
    assert scores[0] < anomaly_model.threshold < scores[1]


def test_repeated_frames_are_counted_once():
    """A recording in a loop is no more footage than the recording itself."""
    once, looped = collected(good(60)), collected(good(60) * 4)
    assert looped.repeated == 180
    assert looped.counts == once.counts
    assert (
        fit(looped, AllowedAlarms(10.0, None), HOURLY).promise == fit(once, AllowedAlarms(10.0, None), HOURLY).promise
    )


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
    """Thresholds, reference, data and three pictures; the camera uses them unless it has `anomaly: classes`."""
    path = written_config(tmp_path)
    words = ("--false-alarms-per-hour", "100", "--consecutive", "--json")
    done = run("-c", path, "--camera", "top", "--source", footage, *words)
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    assert printed["false_alarms_per_hour"] == 100.0
    assert printed["confirm"] == [2, 3]
    folder = tmp_path / "var" / "calibration"
    pictures = {"top.normal.png", "top.normal-tiles.png", "top.normal-map.png"}
    assert {p.name for p in folder.iterdir()} == {"top.yaml", "top.yaml~", printed["file"], *pictures}
    assert calibration.load(folder / "top.yaml").reference is not None
    fitted = calibrated_camera(path)
    assert fitted.anomaly == (folder / printed["file"],)
    Inspector(fitted, classifier(), FakeClock())
    path.write_text(path.read_text().replace("fps: 30", "fps: 30\n  anomaly: classes"))
    assert calibrated_camera(path).anomaly == "classes"


def test_command_again_replaces_and_removes_its_data(tmp_path, footage):
    """One data file for each model, and that of the calibration before, stay. A dry run changes none."""
    path = written_config(tmp_path)
    for more in (("--i-have-looked",), ("--false-alarm-rate", "0.02"), ("--false-alarm-rate", "0.03")):
        assert run("-c", path, "--source", footage, "--consecutive", *more).exit_code == 0
    folder = tmp_path / "var" / "calibration"
    assert len(list(folder.glob("*.npz"))) == 2
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    dry = run("-c", path, "--source", footage, "--dry-run", "--false-alarm-rate", "0.02")
    assert dry.exit_code == 0
    assert "threshold" in dry.output
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_single_tiles_hold_for_frames_of_any_size(tmp_path, footage):
    """If a share of tiles is allowed; alarms per hour hold for the frames of the footage."""
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


def test_command_reports_that_footage_is_too_short(tmp_path, footage):
    """The hours needed, and the rate that the footage shows."""
    words = ("--source", footage, "--consecutive", "--false-alarms-per-hour", "0.5", "--i-have-looked")
    done = run("-c", written_config(tmp_path), *words)
    assert "6 h of good footage" in done.output
    assert "shown by this footage alone" in done.output


def test_footage_that_the_classes_call_defective_needs_a_person_who_has_looked(tmp_path):
    """Defects in nearly every frame stand out nowhere. The consent is in `made`, and known for that network only."""
    folder = tmp_path / "gouged"
    folder.mkdir()
    for number in range(60):
        cv2.imwrite(str(folder / f"{number:04d}.png"), gouged(number))
    path = written_config(tmp_path)
    words = ("-c", path, "--source", folder, "--consecutive", "--false-alarm-rate", "0.05")
    refused = run(*words)
    assert refused.exit_code == 1
    assert "60 of 60 frames (100%) defective" in refused.stderr
    assert "0000.png" in refused.stderr
    assert "--i-have-looked" in refused.stderr
    assert not (tmp_path / "var" / "calibration").exists()
    assert run(*words, "--i-have-looked").exit_code == 0
    (part,) = calibration.load(tmp_path / "var" / "calibration" / "top.yaml").normal
    assert "defective" in part.made.overruled[0]
    assert calibrated_camera(path).calibration.overruled == {part.model["sha256"]: part.made.overruled}


def test_threshold_far_beyond_the_footage_needs_the_same_consent(tmp_path, footage):
    """One false alarm per hour, from three seconds of good surface, would find only gross defects."""
    words = ("-c", written_config(tmp_path), "--source", footage, "--consecutive")
    refused = run(*words)
    assert refused.exit_code == 1
    assert "times the largest score" in refused.stderr
    accepted = run(*words, "--i-have-looked")
    assert accepted.exit_code == 0
    assert "OVERRULED: the threshold" in accepted.output


def test_footage_that_nothing_speaks_against_records_no_consent(tmp_path, footage):
    """The file stays one that earlier versions can read."""
    words = ("--source", footage, "--consecutive", "--false-alarms-per-hour", "100", "--i-have-looked")
    assert run("-c", written_config(tmp_path), *words).exit_code == 0
    assert "overruled" not in (tmp_path / "var" / "calibration" / "top.yaml").read_text()


def test_command_refuses_two_allowed_rates(tmp_path):
    """Per hour or per tile, not both."""
    done = run("-c", written_config(tmp_path), "--false-alarms-per-hour", "1", "--false-alarm-rate", "0.01")
    assert done.exit_code == 2


def test_a_model_without_its_own_calibration_is_refused(tmp_path):
    """Where the calibration was made with another model; the message names the command to run."""
    other = found().anomaly
    path = tmp_path / "top.npz"
    changed = anomaly.Model(other.model.name, "0", "b" * 64)
    path.write_bytes(replace(other, model=changed).coded())
    with pytest.raises(BundleError, match=r"does not fit the calibration.*calibrate normal --camera top"):
        validate(LoadedModel(bundle.load("builtin"), classifier()), [camera(anomaly=(path,))], FakeClock())
