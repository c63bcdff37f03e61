"""The index of a data folder: classes, splits, unusable files, notes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import surfaces

from trainer.data.index import NEU_SHA256, Index, index_folder
from trainer.recipe import TrainingError


def test_index_of_splits_names_classes_and_keeps_good_apart(split_folder):
    """Classes are the folders in order, `good` is not a class, and every picture is in one split."""
    index = index_folder(split_folder)
    assert index.classes == ("inclusion", "patches", "scratches")
    assert {k: len(v) for k, v in index.splits.items()} == {"train": 28, "held_out": 4, "valid": 12, "test": 12}
    assert sum(p.label == index.good for p in index.splits["test"]) == 3
    paths = [p.path for pictures in index.splits.values() for p in pictures]
    assert len(paths) == len(set(paths))


def test_index_of_plain_class_folders_makes_its_own_splits(class_folder):
    """Plain class folders are split by neighbouring file numbers, with every class in each split."""
    index = index_folder(class_folder)
    for pictures in index.splits.values():
        assert {p.label for p in pictures} == {0, 1, 2}
    assert sum(map(len, index.splits.values())) == 36
    numbers = [int(p.path.stem.split("_")[1]) for p in index.splits["held_out"] if p.label == 0]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_index_hash_follows_content(class_folder, tmp_path):
    """The hash is the same for the same files elsewhere, and changes with one byte or one name."""
    copy = tmp_path / "copy"
    shutil.copytree(class_folder, copy)
    before = index_folder(class_folder).sha256
    assert index_folder(copy).sha256 == before
    some = copy / "patches" / "patches_3.png"
    some.write_bytes(some.read_bytes() + b" ")
    changed = index_folder(copy).sha256
    assert changed != before
    some.rename(some.with_name("patches_300.png"))
    assert index_folder(copy).sha256 not in (before, changed)


def test_index_names_what_is_missing(tmp_path):
    """A missing folder, a folder without classes and an empty class are different errors, each with its path."""
    with pytest.raises(TrainingError, match="no such folder"):
        index_folder(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="0 class folders"):
        index_folder(tmp_path)
    for name in ("rust", "dent"):
        (tmp_path / name).mkdir()
    with pytest.raises(TrainingError, match=r"dent: no pictures"):
        index_folder(tmp_path)
    for name in ("rust", "dent"):
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(TrainingError, match="too few pictures of dent"):
        index_folder(tmp_path)


# Unusable files ----------------------------------------------------------------------------------------------------


def test_unusable_pictures_are_listed_and_the_others_are_used(tmp_path):
    """Damaged, flat and tiny files are left out, each with its name and the reason."""
    for n, name in enumerate(("dent", "rust")):
        surfaces.write(tmp_path / name, [f"{k}" for k in range(8)], 10 * n)
    (tmp_path / "dent" / "bad.png").write_bytes((tmp_path / "dent" / "0.png").read_bytes()[:500])
    cv2.imwrite(str(tmp_path / "dent" / "black.png"), np.zeros((100, 100), np.uint8))
    cv2.imwrite(str(tmp_path / "rust" / "tiny.png"), surfaces.texture(5)[:9, :9])
    index = index_folder(tmp_path)
    assert {one.path.name: one.reason.split(":")[0] for one in index.left_out} == {
        "bad.png": "is cut off",
        "black.png": "shows nothing",
        "tiny.png": "is 9x9 px, at least 16 each way",
    }
    assert len(index.pictures) == 16
    assert any("3 files are left out" in note for note in index.notes)


def test_uneven_classes_are_noted(tmp_path):
    """A note names the classes if one has five times the pictures of another."""
    surfaces.write(tmp_path / "dent", [f"{k}" for k in range(40)])
    surfaces.write(tmp_path / "rust", [f"{k}" for k in range(8)], 50)
    notes = index_folder(tmp_path).notes
    assert any(note.startswith("uneven classes: 40 pictures of dent, 8 of rust") for note in notes)


def test_a_class_of_black_pictures_gives_the_reason(tmp_path):
    """If no picture of a class is usable, the message gives the reason."""
    surfaces.write(tmp_path / "dent", [f"{k}" for k in range(8)])
    (tmp_path / "rust").mkdir()
    for k in range(8):
        cv2.imwrite(str(tmp_path / "rust" / f"{k}.png"), np.zeros((100, 100), np.uint8))
    with pytest.raises(TrainingError, match=r"too few pictures of rust.*0\.png shows nothing: every pixel is about 0"):
        index_folder(tmp_path)


def test_one_picture_of_a_class_is_too_few(tmp_path):
    """The message gives the number of pictures that are needed."""
    surfaces.write(tmp_path / "dent", [f"{k}" for k in range(8)])
    surfaces.write(tmp_path / "rust", ["only"], 50)
    with pytest.raises(TrainingError, match="too few pictures of rust: at least 5 are needed"):
        index_folder(tmp_path)


# Splits ------------------------------------------------------------------------------------------------------------


def test_missing_parts_of_a_given_split_are_taken_from_train(tmp_path):
    """A class that valid lacks, and a test split that is missing altogether, are taken from train, with a note."""
    for n, name in enumerate(("dent", "rust")):
        surfaces.write(tmp_path / "train" / name, [f"{k}" for k in range(20)], 100 * n)
    surfaces.write(tmp_path / "val" / "dent", ["100", "101"], 500)
    (tmp_path / "val" / "rust").mkdir()
    index = index_folder(tmp_path)
    assert index.counts()["valid"] == {"dent": 2, "rust": 2}
    assert index.counts()["test"] == {"dent": 2, "rust": 2}
    assert "valid has no pictures of rust: 2 are taken from train" in index.notes


def test_near_duplicates_stay_in_one_split(tmp_path):
    """No group is in two splits, and every class is in each split."""
    index = index_folder(surfaces.write_with_duplicates(tmp_path))
    parts = surfaces.groups(index.splits.values())
    assert sum(map(len, parts)) == len(set.union(*parts)) == 2 * 17
    assert all({p.label for p in pictures} == {0, 1} for pictures in index.splits.values())
    assert "10 pictures have near duplicates or show a place that another shows (4 groups)" in index.notes


def test_a_given_split_stays_and_its_near_duplicates_are_noted(tmp_path):
    """A near duplicate of a training picture stays in test, and a note explains it."""
    surfaces.write_with_duplicates(tmp_path)
    split = tmp_path / "split"
    for name in ("dent", "rust"):
        shutil.copytree(tmp_path / name, split / "train" / name)
        for part in ("valid", "test"):
            (split / part / name).mkdir(parents=True)
            source = split / "train" / name / ("17.png" if part == "test" else "9.png")
            source.rename(split / part / name / source.name)
    index = index_folder(split)
    assert [p.path.name for p in index.splits["test"]] == ["17.png", "17.png"]
    assert "2 pictures of test have a near duplicate in train: test partly measures memory" in index.notes


def test_a_class_with_a_single_place_is_split_by_number_with_a_note(tmp_path):
    """If all pictures of a class are near duplicates, the class is split all the same, and a note reports it."""
    surfaces.write(tmp_path / "dent", [f"{k}" for k in range(12)])
    (tmp_path / "rust").mkdir()
    for k in range(12):
        cv2.imwrite(str(tmp_path / "rust" / f"{k}.png"), surfaces.texture(700, 300)[:200, 8 * k : 8 * k + 200])
    index = index_folder(tmp_path)
    assert all(1 in {p.label for p in pictures} for pictures in index.splits.values())
    assert "all pictures of rust show the same place: training and test cannot be kept apart" in index.notes


# The file ----------------------------------------------------------------------------------------------------------


def test_an_index_can_be_written_and_read(tmp_path):
    """With splits, groups, notes and unusable files, but without the path of the folder."""
    folder = surfaces.write_with_duplicates(tmp_path)
    (folder / "dent" / "bad.png").write_bytes(b"no picture")
    index = index_folder(folder)
    text = json.dumps(index.as_json(folder))
    assert str(tmp_path) not in text
    (tmp_path / "index.json").write_text(text, "utf-8")
    assert Index.from_json(tmp_path / "index.json", folder) == index
    (tmp_path / "index.json").write_text("{}", "utf-8")
    with pytest.raises(TrainingError, match="not an index of pictures"):
        Index.from_json(tmp_path / "index.json", folder)


NEU = Path(__file__).parents[4] / "shared" / "data" / "neu-cls"


@pytest.mark.skipif(not NEU.is_dir(), reason="the NEU pictures are not here: they are not part of the repository")
def test_neu_is_the_data_that_the_shipped_model_was_trained_on():
    """Hash and split are those of the record."""
    index = index_folder(NEU, find_duplicates=False)
    assert index.sha256 == NEU_SHA256
    assert {split: len(pictures) for split, pictures in index.splits.items()} == {
        "train": 1590, "held_out": 66, "valid": 72, "test": 72,
    }  # fmt: skip
