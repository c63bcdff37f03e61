"""Folders of pictures."""

from __future__ import annotations

import shutil

import pytest

from trainer import data
from trainer.recipe import TrainingError


def test_index_of_splits_names_classes_and_keeps_good_apart(split_folder):
    """Classes are the folders in order, `good` is no class, and every picture is in one split."""
    index = data.index(split_folder)
    assert index.classes == ("inclusion", "patches", "scratches")
    assert {k: len(v) for k, v in index.splits.items()} == {"train": 28, "held_out": 4, "valid": 12, "test": 12}
    assert sum(p.label == index.good for p in index.splits["test"]) == 3
    paths = [p.path for pictures in index.splits.values() for p in pictures]
    assert len(paths) == len(set(paths))


def test_index_of_plain_class_folders_makes_its_own_splits(class_folder):
    """A user's folder is split by neighbouring file numbers, each class in each part."""
    index = data.index(class_folder)
    for pictures in index.splits.values():
        assert {p.label for p in pictures} == {0, 1, 2}
    assert sum(map(len, index.splits.values())) == 36
    numbers = [int(p.path.stem.split("_")[1]) for p in index.splits["held_out"] if p.label == 0]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_index_hash_follows_content(class_folder, tmp_path):
    """The hash stays with the same files elsewhere and changes with one byte or one name."""
    copy = tmp_path / "copy"
    shutil.copytree(class_folder, copy)
    before = data.index(class_folder).sha256
    assert data.index(copy).sha256 == before
    some = copy / "patches" / "patches_3.png"
    some.write_bytes(some.read_bytes() + b" ")
    changed = data.index(copy).sha256
    assert changed != before
    some.rename(some.with_name("patches_300.png"))
    assert data.index(copy).sha256 not in (before, changed)


def test_index_names_what_is_missing(tmp_path):
    """No folder, no classes and an empty class are told apart, each with its path."""
    with pytest.raises(TrainingError, match="no such folder"):
        data.index(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="0 class folders"):
        data.index(tmp_path)
    for name in ("rust", "dent"):
        (tmp_path / name).mkdir()
    with pytest.raises(TrainingError, match=r"dent: no pictures"):
        data.index(tmp_path)
    for name in ("rust", "dent"):
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(TrainingError, match="too few pictures of dent"):
        data.index(tmp_path)


def test_read_names_the_file_that_is_no_picture(tmp_path):
    """An unreadable picture is an error with its path, not a black tile."""
    for content in (b"", b"not a picture"):
        bad = tmp_path / "bad.png"
        bad.write_bytes(content)
        with pytest.raises(TrainingError, match=r"bad\.png: not a picture"):
            data.read(bad)


def test_boxes_file_errors_name_the_file(tmp_path):
    """A file of boxes that is none is refused."""
    path = tmp_path / "boxes.json"
    path.write_text("[1, 2]", "utf-8")
    with pytest.raises(TrainingError, match=r"boxes\.json: not a file of boxes"):
        data.read_boxes(path)
