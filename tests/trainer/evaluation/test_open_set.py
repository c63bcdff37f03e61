"""Open-set detection: data without a class, and the ranking of its pictures."""

from __future__ import annotations

import pytest

from edge.model.bundle import load
from edge.model.classifier import Classifier
from trainer.data.index import index_folder
from trainer.evaluation import open_set
from trainer.recipe import TrainingError


@pytest.fixture(scope="module")
def index(split_folder):
    return index_folder(split_folder)


def test_class_is_excluded_from_every_split(index):
    """No split has its pictures, the other labels still match their classes, and the index has another hash."""
    rest, excluded = open_set.without(index, "patches")
    assert rest.classes == ("inclusion", "scratches")
    assert {p.path.parent.name for p in excluded} == {"patches"}
    for split, pictures in rest.splits.items():
        assert len(pictures) == len([p for p in index.splits[split] if p.path.parent.name != "patches"])
        names = (*rest.classes, "good")
        assert all(p.path.parent.name == names[p.label] for p in pictures)
    assert rest.sha256 != index.sha256
    assert rest.sha256 != open_set.without(index, "scratches")[0].sha256


def test_unknown_names_and_the_last_two_classes_are_refused(index):
    """A misspelt class is an error; so is excluding one of two classes."""
    with pytest.raises(TrainingError, match="patch: no such class"):
        open_set.without(index, "patch")
    with pytest.raises(TrainingError, match="1 class remains"):
        open_set.without(open_set.without(index, "patches")[0], "scratches")


def test_unknown_pictures_are_ranked_by_each_score(index):
    """With defect-free surface as the unknown class: an AUROC for each kind of score, with the counts."""
    every = [p for split in ("valid", "test") for p in index.splits[split]]
    unknown = [p for p in every if p.label == index.good]
    known = [p for p in every if p.label != index.good]
    found = open_set.rankings(Classifier(load("builtin")), "good", unknown, known)
    assert {one.score for one in found} == {"energy", "max-softmax"}
    assert all((one.ranking.positives, one.ranking.negatives) == (6, 18) for one in found)
    assert all(0 <= one.ranking.low <= one.ranking.auroc <= one.ranking.high <= 1 for one in found)
