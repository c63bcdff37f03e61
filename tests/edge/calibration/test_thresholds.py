"""Temperature and thresholds from labelled tiles: the fit, refusals, the report, and their use."""

import csv
import json
import logging
from itertools import pairwise

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.bundles import bundle, write_bundle
from fakes.clock import FakeClock
from fakes.configured import calibrated_camera
from fakes.networks import CLASSES, SIDE
from pydantic import SecretStr

from edge import config
from edge.calibration import binomial, labelled_tiles, threshold_plots
from edge.calibration.thresholds import (
    Fit,
    Result,
    Sample,
    WorkingPoint,
    allowed_alarms,
    calibrate,
    calibration_error,
    choose,
    fit_temperature,
    halves,
    outcome,
)
from edge.cli import main
from edge.config import calibration
from edge.config.calibration import Reliability
from edge.config.state_dir import StateDir
from edge.errors import CalibrationError, ConfigError
from edge.model.classifier import Classifier, Scores
from edge.vision.inspector import Inspector

UNSURE = 0.35


def sample_of(p, labels, *, defect_free_only=()):
    """Tiles whose class probabilities are p at temperature 1; the rest of a row is `good`."""
    p = np.array(p, np.float64)
    good = np.clip(1 - p.sum(axis=1, keepdims=True), 1e-6, None)
    logits = np.log(np.maximum(p, 1e-6)).astype(np.float32)
    scores = Scores(logits, np.zeros((len(p), 2), np.float32), np.log(good).astype(np.float32))
    fits = ~np.isin(np.arange(len(p)), defect_free_only)
    return Sample(scores, np.array(labels, np.int64), halves(labels), fits)


def two_classes(own, defect_free):
    """Class 0 with these confidences in its pictures, class 1 always certain, defect-free tiles like class 0."""
    rows = [[v, 0.0] for v in own] + [[0.0, 0.99]] * len(own) + [[v, 0.0] for v in defect_free]
    return sample_of(rows, [0] * len(own) + [1] * len(own) + [2] * len(defect_free))


def drawn(n, temperature, spread=3.0):
    """Random labels, drawn with the softmax of the logits at this temperature."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, spread, (n, 4))
    p = np.exp(logits / temperature)
    p /= p.sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(4, p=row) for row in p])
    scores = Scores(logits[:, :3].astype(np.float32), np.zeros((n, 2), np.float32), logits[:, 3:].astype(np.float32))
    return Sample(scores, labels, halves(labels.tolist()), np.ones(n, bool))


# ---- the fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_found(temperature):
    """Within a tenth, from three thousand tiles."""
    assert fit_temperature(drawn(3000, temperature)) == pytest.approx(temperature, rel=0.1)


def test_an_overconfident_model_is_corrected_on_pictures_it_was_not_fitted_on():
    """The calibration error falls, and is reported with n."""
    sample = drawn(2000, 2.5)
    found = calibrate(sample, WorkingPoint(), names="abc", temperature=1.0, unsure=UNSURE, thresholds=[0.6] * 3)
    assert found.helps
    assert found.reliability.before > 0.1
    assert found.reliability.after < 0.04
    assert found.reliability.n == 2000


def test_a_temperature_that_would_not_help_is_not_used():
    """Each half fits a temperature that is wrong for the other half: the bundle's stays."""
    one, other = drawn(400, 0.5), drawn(400, 2.5)
    joined = Sample(
        Scores.joined([one.scores, other.scores]),
        np.concatenate([one.labels, other.labels]),
        np.repeat([0, 1], 400),
        np.ones(800, bool),
    )
    found = calibrate(joined, WorkingPoint(), names="abc", temperature=1.1, unsure=UNSURE, thresholds=[0.6] * 3)
    assert not found.helps
    assert found.fit.temperature == 1.1


def test_a_temperature_has_to_beat_the_published_confidence():
    """Where the sharpness of the bundle already makes these labels the most probable, no temperature is kept."""
    sample = drawn(2000, 0.55)
    settings = {"names": "abc", "temperature": 1.1, "unsure": UNSURE, "thresholds": [0.6] * 3}
    assert calibrate(sample, WorkingPoint(), **settings).helps
    found = calibrate(sample, WorkingPoint(), **settings, sharpness=1.1 / fit_temperature(sample))
    assert not found.helps
    assert found.fit.temperature == 1.1
    assert found.reliability.before == found.reliability.after < 0.04


def test_an_implausible_temperature_is_not_used():
    """With every picture right, the smallest temperature is the most probable: all tiles would be certain."""
    sample = two_classes([0.9, 0.8, 0.95, 0.85] * 5, [])
    assert fit_temperature(sample) < 0.1
    found = calibrate(sample, WorkingPoint(), names="ab", temperature=1.1, unsure=UNSURE, thresholds=[0.6] * 2)
    assert (found.helps, found.fit.temperature) == (False, 1.1)


def test_calibration_error_is_the_gap_between_confidence_and_truth():
    """By hand: confidence 0.9 and right half of the time, confidence 0.5 and right half of the time."""
    confidence = np.array([0.9] * 10 + [0.5] * 10)
    right = np.array([1, 0] * 10, float)
    assert calibration_error(confidence, right) == pytest.approx(0.2)
    assert calibration_error(np.array([]), np.array([])) == 0.0


def test_halves_separate_neighbours_only_once():
    """The first half of each class, then the second: pictures of one place are neighbours."""
    assert halves([0, 0, 0, 0, 1, 1, 2]).tolist() == [0, 0, 1, 1, 0, 1, 1]


def chosen(sample, target=None, before=(0.6, 0.6)):
    return choose(sample, 1.0, target or WorkingPoint(), unsure=UNSURE, before=np.array(before))


def test_a_threshold_keeps_the_recall_and_a_margin_to_defect_free_surface():
    """Of confidences 0.5 to 1, 90 % are above 0.55; the next defect-free tile is at 0.45: halfway between."""
    own = np.linspace(0.5, 0.9999, 101)
    threshold = chosen(two_classes(own, [0.45, 0.4, 0.1]), WorkingPoint(recall=0.9))[0]
    assert threshold == pytest.approx((0.55 + 0.45) / 2, abs=0.003)
    assert (own >= threshold).mean() >= 0.9


def test_recall_is_kept_also_where_defect_free_surface_is_more_certain():
    """Then there are false alarms, and the margin ignores those tiles."""
    own = np.linspace(0.5, 0.9999, 101)
    threshold = chosen(two_classes(own, [0.95] * 5), WorkingPoint(recall=0.9))[0]
    assert (own >= threshold).mean() >= 0.9
    assert threshold == pytest.approx((0.55 + UNSURE) / 2, abs=0.003)


def test_no_threshold_falls_below_unsure_and_none_is_made_without_pictures():
    """A class that is never recognised gets the minimum; a class without pictures keeps its threshold."""
    sample = sample_of([[0.3, 0.2, 0.1]] * 12 + [[0.1, 0.1, 0.7]] * 12, [0] * 12 + [2] * 12)
    found = chosen(sample, before=(0.6,) * 3)
    assert found[0] == UNSURE
    assert np.isnan(found[1])


def test_no_more_defect_free_tiles_alarm_than_the_rate_allows():
    """The allowed false alarms are spent where they gain most pictures; their number is that of the exact bound."""
    own = np.linspace(0.5, 0.9999, 100)
    defect_free = [*np.linspace(0.4, 0.95, 12), *([0.05] * 988)]
    sample = two_classes(own, defect_free)
    allowed = allowed_alarms(0.01, 1000)
    assert binomial.upper(allowed, 1000) <= 0.01 < binomial.upper(allowed + 1, 1000)
    strict, loose = chosen(sample, WorkingPoint(rate=0.004))[0], chosen(sample, WorkingPoint(rate=0.01))[0]
    assert (np.array(defect_free) >= strict).sum() == allowed_alarms(0.004, 1000)
    assert (np.array(defect_free) >= loose).sum() == allowed
    assert loose < strict


def test_a_rate_that_the_tiles_cannot_show_is_refused_with_the_number_needed():
    """The number of defect-free tiles that would show the rate if none of them raised an alarm."""
    with pytest.raises(CalibrationError, match=r"1000 defect-free tiles.*Give (\d+)") as refused:
        allowed_alarms(1e-5, 1000)
    needed = int(str(refused.value).split("Give ")[1].split()[0])
    assert binomial.upper(0, needed) <= 1e-5 < binomial.upper(0, needed - 2)


def test_the_report_counts_pictures_that_were_not_fitted_on():
    """The second half is less certain than the first: a fit on all pictures would look better."""
    own = np.concatenate([np.full(50, 0.95), np.full(50, 0.5)])
    found = calibrate(
        two_classes(own, [0.1] * 20),
        WorkingPoint(recall=0.95),
        names="ab",
        temperature=1.0,
        unsure=UNSURE,
        thresholds=[0.6, 0.6],
    )
    reported, kept = found.points[0], found.thresholds["a"]
    assert (own >= kept).mean() >= 0.95
    assert reported.found < 95
    assert reported.n == 100


def test_outcomes_are_counted_as_the_decision_makes_them():
    """Found by any class, named by its own; a defect-free tile raises an alarm of its best class alone."""
    p = np.array([[0.7, 0.1], [0.2, 0.7], [0.5, 0.1], [0.65, 0.3], [0.3, 0.5], [0.1, 0.1]])
    counts, alarms = outcome(p, np.array([0, 0, 0, 2, 2, 2]), np.array([0.6, 0.6]))
    assert counts.tolist() == [[3, 0], [2, 0], [1, 0]]
    assert alarms.tolist() == [1, 0]


def test_table_and_chart_show_recall_against_false_alarms():
    """Higher thresholds, fewer of both; a panel for each class that has pictures."""
    sample = two_classes(np.linspace(0.4, 0.999, 60), np.linspace(0.0, 0.9, 80))
    rows = threshold_plots.table(sample, 1.0)
    assert [row.alarms for row in rows] == sorted((row.alarms for row in rows), reverse=True)
    assert rows[0].recall[0] > rows[-1].recall[0]
    fit = Fit(1.0, np.array([0.7, 0.6]))
    found = Result(fit, (), 80, 0, Reliability(before=0.1, after=0.1, n=1), helps=True)
    picture = threshold_plots.chart(sample, found, "ab", UNSURE, 1e6)
    assert picture.shape == (threshold_plots.TOP + threshold_plots.HIGH, 3 * threshold_plots.WIDE, 3)
    red = (picture == threshold_plots.RED).all(axis=2)
    assert red[:, : threshold_plots.WIDE].any()
    assert red[:, threshold_plots.WIDE : 2 * threshold_plots.WIDE].any()


@pytest.mark.parametrize("per_hour", [1.0, 4_000.0, 54_000.0, 1e6, 3.2e7])
@pytest.mark.parametrize("defect_free", [0, 80, 9_999, 10_000, 250_000])
def test_labels_of_false_alarms_stay_apart_and_inside_the_panel(per_hour, defect_free):
    """The label of the lane without alarms does not run into the first one of the axis: "0" and "0.001"."""
    ticks = threshold_plots.AlarmAxis.of(defect_free, per_hour).ticks()
    extents = [(left, left + threshold_plots.width_px(text)) for _, text, left in ticks]
    assert [text for _, text, _ in ticks].count("0") == 1
    assert all(end + 4 <= start for (_, end), (start, _) in pairwise(extents)), ticks
    assert extents[-1][1] <= threshold_plots.WIDE
    assert extents[0][0] >= threshold_plots.LEFT


# ---- labelled folders ---------------------------------------------------------------------------------


def pictures(folder, name, count, side=32, level=200):
    (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(level)
    for number in range(count):
        tile = np.clip(rng.normal(level, 3, (side, side)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name / f"{number}.png"), tile)


def read(folder, sides=(32,)):
    left = labelled_tiles.LeftOut()
    found = labelled_tiles.find([folder], CLASSES)
    return [one.label for one, _ in labelled_tiles.read(found, SIDE, sides, left)], left


def test_class_folders_are_read_however_they_are_spelled(tmp_path):
    """Spaces and capitals do not matter; `unsure`, empty and hidden folders are left out."""
    for name in ("Scratches", "rolled-in scale", "GOOD", "normal", "unsure", ".trash"):
        pictures(tmp_path, name, 1)
    (tmp_path / "crazing").mkdir()
    labels, left = read(tmp_path)
    assert sorted(labels) == [4, 5, 6, 6]
    assert not left.reasons


def test_folders_that_name_no_class_are_refused_with_the_names_of_the_classes(tmp_path):
    """All wrong folders in one message."""
    for name in ("scratches", "rust", "holes"):
        pictures(tmp_path, name, 1)
    with pytest.raises(CalibrationError, match=r"holes, .*rust.*It knows: crazing, .*scratches"):
        labelled_tiles.find([tmp_path], CLASSES)
    with pytest.raises(CalibrationError, match="no class folders"):
        labelled_tiles.find([tmp_path / "rust"], CLASSES)


def test_files_that_cannot_be_read_are_listed_and_the_others_are_used(tmp_path):
    """A broken picture loses only itself."""
    pictures(tmp_path, "scratches", 3)
    (tmp_path / "scratches" / "1.png").write_bytes(b"no picture")
    labels, left = read(tmp_path)
    assert labels == [5, 5]
    assert [path.name for path, _ in left.reasons] == ["1.png"]
    assert "1.png" in next(left.lines())


@pytest.mark.parametrize(("sides", "words"), [((32, 48), "give one size"), ((48, 48), "give tiles of 32x32")])
def test_pictures_that_are_no_tiles_are_refused(tmp_path, sides, words):
    """Mixed sizes, or a size that is neither the camera's nor the model's."""
    for name, side in zip(("crazing", "scratches"), sides, strict=True):
        pictures(tmp_path, name, 2, side=side)
    with pytest.raises(CalibrationError, match=words):
        read(tmp_path)


def test_classes_with_too_few_pictures_are_refused_with_how_many_they_have():
    """A class may have no picture at all, unless no class has any."""
    with pytest.raises(CalibrationError, match=r"crazing has 3, good has 9; .* at least 10"):
        labelled_tiles.check_counts([0] * 3 + [1] * 10 + [6] * 9, CLASSES, 10)
    with pytest.raises(CalibrationError, match="no picture of a defect"):
        labelled_tiles.check_counts([6] * 50, CLASSES, 10)
    labelled_tiles.check_counts([1] * 10, CLASSES, 10)


def test_exported_pictures_with_the_label_of_the_model_are_counted(tmp_path):
    """No person has moved them to another folder."""
    pictures(tmp_path, "scratches", 2)
    pictures(tmp_path, "good", 1)
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "kind"])
        rows.writerows([["scratches/0.png", "scratches", "defect"], ["scratches/9.png", "scratches", "defect"]])
        rows.writerow(["good/0.png", "good", "audit"])
    assert labelled_tiles.checked([tmp_path]) == labelled_tiles.Checked(3, 2, 2, 0)
    assert labelled_tiles.checked([tmp_path / "good"]) == labelled_tiles.Checked(0, 0, 0, 0)


# ---- use by the daemon ---------------------------------------------------------------------

MADE = {"weights": (0, 0, 0, 0, 0, 4), "offsets": (0, 0, 0, 0, 0, 0), "good": (0, 2)}


def camera(**keys):
    return config.Camera(name="top", source=SecretStr("x"), tile_px=32, **keys)


def verdict_of(thresholds=None, decision=None, made=None):
    """The verdict on a bright frame, scratches at 0.79."""
    keys = {"calibrated_thresholds": thresholds} if thresholds else {}
    inspector = Inspector(
        camera(decision=decision or config.Decision(), **keys), Classifier(made or bundle(**MADE)), FakeClock()
    )
    frame = np.full((32, 64), 240, np.uint8)
    frame[::2] -= 20
    return inspector.inspect_alone(frame)


def test_calibrated_thresholds_override_the_general_one_and_not_those_of_the_configuration():
    """A scratch at 0.8: a defect by default, not at 0.95, and again where decision.classes has 0.5."""
    assert verdict_of().state == "defect"
    assert verdict_of(config.CalibratedThresholds(classes={"scratches": 0.95})).state == "unsure"
    by_hand = config.Decision(classes={"scratches": 0.5})
    assert verdict_of(config.CalibratedThresholds(classes={"scratches": 0.95}), by_hand).state == "defect"
    assert verdict_of(config.CalibratedThresholds(classes={"scratches": 0.1})).state == "defect"


def test_a_calibrated_temperature_overrides_that_of_the_bundle():
    """For this camera."""
    assert verdict_of(config.CalibratedThresholds(temperature=4.0)).state in ("ok", "unsure")
    sharp = verdict_of(config.CalibratedThresholds(temperature=0.2)).detections.regions[0].confidence
    assert sharp > verdict_of().detections.regions[0].confidence


def test_thresholds_of_another_model_or_tile_size_are_not_used_and_logged(caplog):
    """Also after a change of the model; with the model that they were made for they are used again."""
    made = bundle(**MADE)
    own = config.CalibratedThresholds(bundle=made.digest, tile_px=32, classes={"scratches": 0.95})
    assert verdict_of(own, made=made).state == "unsure"
    with caplog.at_level(logging.WARNING):
        assert verdict_of(own.model_copy(update={"bundle": "0" * 64}), made=made).state == "defect"
        assert verdict_of(own.model_copy(update={"tile_px": 64}), made=made).state == "defect"
    assert caplog.text.count("calibrate thresholds --camera top") == 2
    inspector = Inspector(camera(calibrated_thresholds=own), Classifier(made), FakeClock())
    other = Classifier(made)
    other.bundle = "f" * 64
    assert inspector.fitted(other).calibrated_thresholds is None
    assert inspector.fitted(other).fitted(Classifier(made)).calibrated_thresholds == own


def test_thresholds_for_an_unknown_class_are_refused():
    """As under `decision.classes`."""
    with pytest.raises(ConfigError, match=r"calibrated_thresholds\.classes\.rust"):
        verdict_of(config.CalibratedThresholds(classes={"rust": 0.5}))


# ---- the command --------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    """A configuration with a tiny bundle: bright is scratches, dark is good; labelled tiles of both."""
    made = bundle(weights=(0, 0, 0, 0, 0, 12), offsets=(-3, -3, -3, -3, -3, -4), good=(0, 2))
    write_bundle(tmp_path / "bundle", made.networks["student.onnx"], made.card.model_dump(mode="json", by_alias=True))
    pictures(tmp_path / "tiles", "scratches", 20, level=200)
    pictures(tmp_path / "tiles", "good", 20, level=60)
    for number in range(4):
        frame = np.clip(np.random.default_rng(number).normal(60, 5, (64, 256)), 0, 255).astype(np.uint8)
        (tmp_path / "good-frames").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "good-frames" / f"{number}.png"), frame)
    settings = {
        "node": "n",
        "state_dir": str(tmp_path / "var"),
        "model": {"bundle": str(tmp_path / "bundle")},
        "cameras": [{"name": "top", "source": str(tmp_path / "good-frames"), "tile_px": 32, "fps": 10}],
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def calibrated(place, *more):
    words = ["calibrate", "thresholds", "-c", str(place / "c.yaml"), "--labelled", str(place / "tiles"), *more]
    return CliRunner().invoke(main, words)


def test_the_command_writes_thresholds_that_the_daemon_uses(place):
    """With the digest of the model, a picture, and false alarms at the rate of the camera."""
    done = calibrated(place, "--good", str(place / "good-frames"), "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    path = StateDir(place / "var").calibration("top")
    kept = calibration.load(path).thresholds
    assert printed["calibrated_thresholds"]["classes"] == kept.calibrated_thresholds.classes
    assert set(kept.calibrated_thresholds.classes) == {"scratches"}
    assert kept.sound == 20 + 4 * tiles_of(place)
    assert kept.tiles_per_hour == 3600 * 10 * tiles_of(place)
    assert cv2.imread(str(path.with_name("top.thresholds.png"))).shape[1] == 1080
    assert calibrated_camera(place / "c.yaml").calibrated_thresholds == kept.calibrated_thresholds


def tiles_of(place):
    camera = calibrated_camera(place / "c.yaml")
    inspector = Inspector(camera, Classifier(bundle()), FakeClock())
    return inspector.prepare(np.zeros((64, 256), np.uint8), follow=False).tiles


def test_the_command_prints_recall_and_false_alarms(place):
    """Recall with its interval, false alarms per hour, and the table."""
    done = calibrated(place, "--good", str(place / "good-frames"), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "20 of 20 found [83.2%, 100.0%]" in done.stdout
    assert "tiles an hour: 0 [0," in done.stdout
    assert "crazing            no pictures: keeps its threshold 0.6" in done.stdout
    assert "named right" in done.stdout


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--recall", "0.9", "--false-alarms-per-hour", "3"], 2, "give one"),
        (["--false-alarms-per-hour", "3"], 2, "--good"),
        (["--false-alarms-per-hour", "1e8", "--good", "good-frames"], 2, "as many as there are tiles"),
        (["--false-alarms-per-hour", "3", "--good", "good-frames"], 1, "defect-free tiles cannot show"),
    ],
)
def test_impossible_working_points_are_refused(place, monkeypatch, more, code, words):
    """Two of them, an unknown number of tiles an hour, a rate that the tiles cannot show; nothing is written."""
    monkeypatch.chdir(place)
    done = calibrated(place, *more)
    assert done.exit_code == code
    assert words in done.output
    assert not (place / "var" / "calibration").exists()


def test_an_interrupted_run_writes_nothing(place, monkeypatch):
    """Ctrl-C while the picture is drawn."""

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(threshold_plots, "chart", interrupted)
    assert calibrated(place).exit_code == 1
    assert not (place / "var" / "calibration").exists()
