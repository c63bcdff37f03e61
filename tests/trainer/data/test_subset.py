"""Subsets of the pictures, for trials."""

from __future__ import annotations

import surfaces

from trainer.data.index import index_folder
from trainer.data.subset import subset


def test_a_subset_keeps_every_class_in_every_split(tmp_path):
    """It has about as many pictures of each class as requested, and a hash of its own."""
    index = index_folder(surfaces.write_with_duplicates(tmp_path))
    some = subset(index, 8)
    assert all({p.label for p in pictures} == {0, 1} for pictures in some.splits.values())
    assert 12 <= len(some.pictures) <= 20
    assert some.sha256 != index.sha256
    assert set(some.pictures) < set(index.pictures)
