"""Outcomes per picture are written, pooled and compared, each exactly once."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from trainer.data.corruptions import CLEAN, SUITE, further
from trainer.data.pictures import Picture
from trainer.evaluation.outcomes import Outcomes, compare, load_all, picture_key, pooled, predict_pictures
from trainer.recipe import TrainingError

CLASSES = ("dark", "bright")


@pytest.fixture
def pictures(tmp_path):
    """Ten flat pictures of two classes, and one of defect-free surface."""
    made = []
    for label, name in enumerate((*CLASSES, "good")):
        (tmp_path / name).mkdir()
        for n in range(5 if name != "good" else 1):
            path = tmp_path / name / f"{n}.png"
            cv2.imwrite(str(path), np.full((64, 64), 60 + 80 * label + n, np.uint8))
            made.append(Picture(path, label))
    return made


def by_brightness(images):
    """A predictor: `bright` above 100 gray levels."""
    bright = np.array([image.mean() > 100 for image in images])
    return np.where(bright[:, None], [0.01, 0.97], [0.9, 0.05]).astype(np.float32)


def predicted(pictures, **changes):
    return predict_pictures("student", by_brightness, pictures, CLASSES, **({"split": "test"} | changes))


def outcomes(right, variant="student", fold=0, start=0):
    """Pictures of the first class, correct where `right`; under the corruption `fog` all are wrong."""
    right = np.array(right)
    probabilities = np.where(right[:, None], [0.8, 0.1], [0.3, 0.6]).astype(np.float32)
    wrong = np.full_like(probabilities, [0.1, 0.9])
    keys = tuple(f"{start + i:016x}" for i in range(len(right)))
    whole = np.full(len(right), fold, np.int64)
    return Outcomes(
        variant, "3-fold", 0, CLASSES, keys, whole, np.zeros_like(whole), {CLEAN: probabilities, "fog": wrong}
    )


def test_every_picture_of_a_defect_is_predicted_under_every_corruption(pictures):
    """Ten of eleven pictures in sixteen conditions; the counts show the corruption that misleads the predictor."""
    reported = []
    found = predicted(pictures, progress=reported.append)
    assert len(found) == 10
    assert reported == list(found.probabilities) == [CLEAN, *(c.name for c in SUITE)]
    assert found.count().right == 10
    assert found.count("brightness x0.6").right == 5  # 140 becomes 84: dark
    summary = found.summary()
    assert summary.robust_worst == "brightness x0.6"
    shares = [c.right / c.of for c in summary.robustness.values()]
    assert summary.robust_mean == pytest.approx(np.mean(shares), abs=1e-5)


def test_the_second_group_is_counted_beside_the_published_mean(pictures):
    """Inverted, half of the pictures mislead the predictor; the published mean and the pair know nothing of it."""
    found = predicted(pictures, corruptions=(*SUITE, *further(20.0, 64)))
    summary, before = found.summary(), predicted(pictures).summary()
    assert summary.further["inverted gray"].right == 5  # 60 becomes 195, bright; 140 becomes 115
    assert (summary.robust_mean, summary.robust_worst) == (before.robust_mean, before.robust_worst)
    assert len(summary.robustness) == 15
    better = found.probabilities[CLEAN]
    pair = compare(found, replace(found, variant="int8", probabilities=found.probabilities | {"inverted gray": better}))
    assert (pair.worst_change, pair.mean_change) == (0, 0)


def test_picture_keys_depend_on_content_and_name_not_on_the_folder(pictures, tmp_path):
    """The same file elsewhere has the same key; a copy with another name has another key."""
    elsewhere = tmp_path / "moved" / "dark"
    elsewhere.mkdir(parents=True)
    original = pictures[0].path
    (elsewhere / original.name).write_bytes(original.read_bytes())
    (elsewhere / "copy.png").write_bytes(original.read_bytes())
    assert picture_key(Picture(elsewhere / original.name, 0)) == picture_key(pictures[0])
    assert picture_key(Picture(elsewhere / "copy.png", 0)) != picture_key(pictures[0])


def test_outcomes_do_not_depend_on_the_other_pictures(pictures):
    """A picture alone gets the same corruption as in a set."""
    alone, among = predicted(pictures[3:4]), predicted(pictures)
    assert all(np.array_equal(alone.probabilities[c][0], among.probabilities[c][3]) for c in among.probabilities)


def test_a_split_without_defects_is_refused(pictures):
    """Only defect-free surface: the message names the split."""
    with pytest.raises(TrainingError, match="valid: no pictures of dark, bright"):
        predicted(pictures[-1:], split="valid")


def test_outcomes_can_be_written_and_read(pictures, tmp_path):
    """The file restores every number and the summary."""
    found = predicted(pictures)
    found.write(tmp_path / "out" / "student-0.json")
    again = Outcomes.load(tmp_path / "out" / "student-0.json")
    assert all(np.array_equal(again.probabilities[c], p) for c, p in found.probabilities.items())
    assert again.summary() == found.summary()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["student-0.json"]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"schema":"other/1"}', "picture"])
def test_damaged_file_is_refused_by_name(damage, tmp_path):
    """Truncated, foreign, or with fewer rows than pictures: the message names the remedy."""
    path = tmp_path / "student-0.json"
    outcomes([True, False]).write(path)
    if damage == "picture":
        path.write_text(path.read_text().replace('"0000000000000001"', '"1","2"'))
    else:
        path.write_bytes(damage)
    with pytest.raises(TrainingError, match=r"student-0\.json: .* Delete it"):
        Outcomes.load(path)


def test_folds_are_pooled_by_variant(tmp_path):
    """Counts add up, and the count of each fold is kept."""
    outcomes([True, True, False]).write(tmp_path / "student-0.json")
    outcomes([True, True], fold=1, start=3).write(tmp_path / "student-1.json")
    outcomes([True], "teacher").write(tmp_path / "teacher-0.json")
    student, teacher = load_all(tmp_path)
    assert (student.variant, len(student), teacher.variant, len(teacher)) == ("student", 5, "teacher", 1)
    summary = student.summary()
    assert (summary.right.right, summary.right.of) == (4, 5)
    assert [(f.right, f.of) for f in summary.folds] == [(2, 3), (2, 2)]
    assert summary.confusion == ((4, 1), (0, 0))
    assert summary.robustness["fog"].right == 0


def test_folds_that_do_not_belong_together_are_refused():
    """A picture in two folds, or another seed of the corruptions, is an error."""
    one = outcomes([True, True])
    with pytest.raises(TrainingError, match="one picture is in two folds"):
        pooled([one, replace(one, fold=one.fold + 1)])
    with pytest.raises(TrainingError, match="measured in different ways"):
        pooled([one, replace(outcomes([True], fold=1, start=9), seed=1)])


def test_calibration_error_is_of_the_confidence_that_the_daemon_publishes():
    """With a `good` output there are two: of the published probability, and among the classes."""
    summary = outcomes([True] * 9 + [False]).summary()
    assert summary.calibration_error == pytest.approx(0.9 * 0.2 + 0.1 * 0.6)
    assert summary.calibration_error_among_classes == pytest.approx(0.9 * (1 - 8 / 9) + 0.1 * 6 / 9, abs=1e-4)


def test_published_confidence_of_folds_is_fitted_on_the_other_folds():
    """Before: that which decides. After: sharpened by what the other folds showed; a split takes what it is given."""
    rng = np.random.default_rng(0)
    made = pooled([outcomes(rng.random(200) < 0.95, fold=n, start=200 * n) for n in range(3)])
    found = made.summary().calibration
    assert (found.n, found.how) == (600, "fitted on the other folds")
    assert found.before.value > 0.2
    assert found.after.value < found.before.value / 3
    assert found.sharpness == made.sharpness() > 1.2
    alone = outcomes([True] * 20).summary(2.0).calibration
    assert (alone.sharpness, alone.how) == (2.0, "fitted on the folds")
    assert alone.after.value < alone.before.value == pytest.approx(0.2)


def test_variants_are_compared_on_their_common_pictures():
    """The order does not matter; other pictures are ignored."""
    first = outcomes([True, True, False, True])
    other = outcomes([True, False, False, True, True], "int8")
    shuffled = replace(
        other,
        pictures=other.pictures[::-1],
        probabilities={name: rows[::-1] for name, rows in other.probabilities.items()},
    )
    found = compare(first, shuffled)
    assert (found.clean.both, found.clean.only_first, found.clean.only_second, found.clean.neither) == (2, 1, 0, 1)
    assert (found.change, found.split) == (-0.25, "3-fold")
    assert (found.worst, found.worst_change, found.mean_change) == ("fog", 0, 0)
    with pytest.raises(TrainingError, match="no picture in common"):
        compare(first, outcomes([True], "other", start=99))
