"""Cross-validation: folds of the pictures."""

from __future__ import annotations

import pytest
import surfaces

from trainer.data.folds import folds, training_index
from trainer.data.index import index_folder
from trainer.recipe import TrainingError


@pytest.fixture
def index(tmp_path):
    return index_folder(surfaces.write_with_duplicates(tmp_path))


@pytest.mark.parametrize("by", ["numbers", "twins"])
def test_folds_hold_out_every_picture_once_and_keep_near_duplicates_together(index, by):
    """Four folds of about equal size with both classes, whose two sides share no group."""
    every = folds(index.pictures, 4, by=by)
    assert sorted(p.path for _, out in every for p in out) == sorted(p.path for p in index.pictures)
    for rest, out in every:
        assert not set.intersection(*surfaces.groups((rest, out)))
        assert {p.label for p in out} == {0, 1}
        assert 7 <= len(out) <= 13


def test_folds_by_number_hold_out_neighbours(index):
    """By number, a fold holds out a run of file numbers, and near duplicates from elsewhere."""
    for _, out in folds(index.pictures, 4):
        numbers = sorted(int(p.path.stem) for p in out if p.label == 0 and p.path.stem != "17")
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) or 16 in numbers


def test_more_folds_than_pictures_are_refused(index):
    """The message gives the number of independent pictures."""
    with pytest.raises(TrainingError, match="40 folds need 40 independent pictures of each class; one has 17"):
        folds(index.pictures, 40)


def test_a_fold_trains_without_its_held_out_pictures(index):
    """Its index has the other pictures, a small valid split, no test split, and a hash of its own."""
    rest, out = folds(index.pictures, 4)[0]
    own = training_index(index, rest, "first")
    assert set(own.pictures) == set(rest)
    assert not set(own.pictures) & set(out)
    assert own.splits["test"] == ()
    assert all({p.label for p in own.splits[split]} == {0, 1} for split in ("train", "held_out", "valid"))
    assert len({index.sha256, own.sha256, training_index(index, rest, "second").sha256}) == 3
