"""A class can be taken out of the data whole, and its pictures ranked by their strangeness."""

from __future__ import annotations

import pytest

from edge.model.bundle import load
from edge.model.classifier import Classifier
from trainer.data import index as data
from trainer.evaluation import open_set
from trainer.recipe import TrainingError


@pytest.fixture(scope="module")
def index(split_folder):
    return data.index(split_folder)


def test_class_is_left_out_everywhere(index):
    """No split shows it, the other labels still mean what they meant, and the data has another hash."""
    rest, gone = open_set.without(index, "patches")
    assert rest.classes == ("inclusion", "scratches")
    assert {p.path.parent.name for p in gone} == {"patches"}
    for split, pictures in rest.splits.items():
        assert len(pictures) == len([p for p in index.splits[split] if p.path.parent.name != "patches"])
        names = (*rest.classes, "good")
        assert all(p.path.parent.name == names[p.label] for p in pictures)
    assert rest.sha256 != index.sha256
    assert rest.sha256 != open_set.without(index, "scratches")[0].sha256


def test_unknown_names_and_the_last_pair_are_refused(index):
    """A misspelt class is named; of two classes none can be spared."""
    with pytest.raises(TrainingError, match="patch: no such class"):
        open_set.without(index, "patch")
    with pytest.raises(TrainingError, match="1 class remains"):
        open_set.without(open_set.without(index, "patches")[0], "scratches")


def test_strange_pictures_are_ranked_with_their_numbers(index):
    """Sound surface as the stranger: a figure for each kind of score, with how many of each were there."""
    every = [p for split in ("valid", "test") for p in index.splits[split]]
    strange = [p for p in every if p.label == index.good]
    known = [p for p in every if p.label != index.good]
    found = open_set.rankings(Classifier(load("builtin")), "good", strange, known)
    assert {one.score for one in found} == {"energy", "max-softmax"}
    assert all((one.ranking.positives, one.ranking.negatives) == (6, 18) for one in found)
    assert all(0 <= one.ranking.low <= one.ranking.auroc <= one.ranking.high <= 1 for one in found)
