"""Folders of pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.data import index as data
from trainer.data import near_duplicates
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
        with pytest.raises(TrainingError, match=r"bad\.png: is (empty|no image).* Remove or replace it"):
            data.read(bad)


def test_boxes_file_errors_name_the_file(tmp_path):
    """A file of boxes that is none is refused."""
    path = tmp_path / "boxes.json"
    path.write_text("[1, 2]", "utf-8")
    with pytest.raises(TrainingError, match=r"boxes\.json: not a file of boxes"):
        data.read_boxes(path)


# Spellings and formats ---------------------------------------------------------------------------------------------


def texture(seed, side=120):
    """Smooth noise that no other seed gives."""
    noise = np.random.default_rng(seed).normal(0, 1, (side, side)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5) * 90 + noise * 10
    return np.clip(smooth + 120, 0, 255).astype(np.uint8)


def put(folder, names, first_seed=0, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names):
        assert cv2.imwrite(str(folder / f"{name}{suffix}"), texture(first_seed + n))


@pytest.mark.parametrize(
    "names",
    [("Cr", "In", "RS"), ("crazing", "inclusion", "rolled-in_scale"), ("Crazing", "inclusion", "rolled in scale")],
)
def test_neu_is_known_in_every_spelling(tmp_path, names):
    """Short, long and loosely written class folders get the names of the model card."""
    for n, name in enumerate(names):
        put(tmp_path / name, [f"{k}" for k in range(6)], 10 * n)
    assert data.index(tmp_path).classes == ("crazing", "inclusion", "rolled-in_scale")


def test_neu_is_known_without_folders(tmp_path):
    """NEU-CLS as it is published: BMP files named by class and number in one folder."""
    for n, prefix in enumerate(("PS", "Sc")):
        put(tmp_path / "images", [f"{prefix}_{k}" for k in range(1, 8)], 10 * n, ".bmp")
    index = data.index(tmp_path)
    assert index.classes == ("pitted_surface", "scratches")
    assert len(index.pictures) == 14


def test_own_class_names_stay_as_they_are(tmp_path):
    """`in` beside a class of the user's own is not taken for inclusion."""
    for n, name in enumerate(("in", "out")):
        put(tmp_path / name, [f"{k}" for k in range(6)], 10 * n)
    assert data.index(tmp_path).classes == ("in", "out")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_formats_give_the_same_picture(tmp_path, suffix):
    """8 bit in four formats, and 16 bit where the format has it, are read as the daemon reads them."""
    picture = texture(1)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
    assert np.abs(data.read(tmp_path / f"a{suffix}").astype(int) - picture).mean() < (2 if suffix == ".jpg" else 1e-9)
    if suffix in (".png", ".tif"):
        cv2.imwrite(str(tmp_path / f"b{suffix}"), picture.astype(np.uint16) * 256 + 200)
        assert (data.read(tmp_path / f"b{suffix}") == picture).all()


# What cannot be used -----------------------------------------------------------------------------------------------


def test_unusable_pictures_are_listed_and_the_rest_goes_on(tmp_path):
    """Damaged, flat and tiny files are left out by name with the reason."""
    for n, name in enumerate(("dent", "rust")):
        put(tmp_path / name, [f"{k}" for k in range(8)], 10 * n)
    (tmp_path / "dent" / "bad.png").write_bytes((tmp_path / "dent" / "0.png").read_bytes()[:500])
    cv2.imwrite(str(tmp_path / "dent" / "black.png"), np.zeros((100, 100), np.uint8))
    cv2.imwrite(str(tmp_path / "rust" / "tiny.png"), texture(5)[:9, :9])
    index = data.index(tmp_path)
    assert {one.path.name: one.reason.split(":")[0] for one in index.left_out} == {
        "bad.png": "is cut off",
        "black.png": "shows nothing",
        "tiny.png": "is 9x9 px, at least 16 each way",
    }
    assert len(index.pictures) == 16
    assert any("3 files are left out" in note for note in index.notes)


def test_uneven_classes_are_told(tmp_path):
    """Five times as many of one class as of another is worth a word."""
    put(tmp_path / "dent", [f"{k}" for k in range(40)])
    put(tmp_path / "rust", [f"{k}" for k in range(8)], 50)
    notes = data.index(tmp_path).notes
    assert any(note.startswith("uneven classes: 40 pictures of dent, 8 of rust") for note in notes)


def test_a_class_of_black_pictures_says_so(tmp_path):
    """When nothing of a class is usable the reason stands in the message."""
    put(tmp_path / "dent", [f"{k}" for k in range(8)])
    (tmp_path / "rust").mkdir()
    for k in range(8):
        cv2.imwrite(str(tmp_path / "rust" / f"{k}.png"), np.zeros((100, 100), np.uint8))
    with pytest.raises(TrainingError, match=r"too few pictures of rust.*0\.png shows nothing: every pixel is about 0"):
        data.index(tmp_path)


def test_one_picture_of_a_class_is_too_few(tmp_path):
    """One picture is refused with the number that is needed."""
    put(tmp_path / "dent", [f"{k}" for k in range(8)])
    put(tmp_path / "rust", ["only"], 50)
    with pytest.raises(TrainingError, match="too few pictures of rust: at least 5 are needed"):
        data.index(tmp_path)


def test_mixed_sizes_are_cut_each_at_its_own_scale(tmp_path):
    """Pictures of several sizes and shapes go together: each shorter side fills the tile."""
    for n, name in enumerate(("dent", "rust")):
        put(tmp_path / name, [f"{k}" for k in range(6)], 10 * n)
    cv2.imwrite(str(tmp_path / "dent" / "wide.png"), cv2.resize(texture(90), (500, 250)))
    index = data.index(tmp_path)
    wide = next(p for p in index.pictures if p.path.stem == "wide")
    assert data.cut(data.read(wide.path), 100).shape == (2, 100, 100)
    assert data.tile_px(index.pictures) == 120


def test_what_a_given_split_lacks_is_taken_from_train(tmp_path):
    """A class that is missing in valid, and a test split that is missing altogether, are made up for, and told."""
    for n, name in enumerate(("dent", "rust")):
        put(tmp_path / "train" / name, [f"{k}" for k in range(20)], 100 * n)
    put(tmp_path / "val" / "dent", ["100", "101"], 500)
    (tmp_path / "val" / "rust").mkdir()
    index = data.index(tmp_path)
    assert index.counts()["valid"] == {"dent": 2, "rust": 2}
    assert index.counts()["test"] == {"dent": 2, "rust": 2}
    assert "valid has no pictures of rust: 2 are taken from train" in index.notes


# Twins -------------------------------------------------------------------------------------------------------------


def near(picture, kind):
    """The same picture once more, in a way that happens."""
    turned = {
        "copy": picture,
        "turned": np.ascontiguousarray(np.rot90(picture)),
        "mirrored": np.ascontiguousarray(picture[:, ::-1]),
        "darker": (picture * 0.7).astype(np.uint8),
        "smaller": cv2.resize(picture, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA),
    }
    if kind == "packed":
        return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    return turned[kind]


@pytest.mark.parametrize("kind", ["copy", "turned", "mirrored", "darker", "smaller", "packed"])
def test_the_same_picture_again_is_found(kind):
    """A copy that was turned, mirrored, dimmed, scaled or compressed has the same group, whatever its label."""
    pictures = [texture(n, 200) for n in range(6)]
    marks = [near_duplicates.mark(p) for p in (*pictures, near(pictures[2], kind))]
    assert near_duplicates.groups(marks, [0, 0, 0, 0, 0, 0, 1]) == [0, 1, 2, 3, 4, 5, 2]


def test_shifted_views_of_one_place_are_found():
    """Three crops along one surface are one group although the first and the last share nothing."""
    place = texture(3, 500)
    views = [place[:200, x : x + 200] for x in (0, 100, 200)]
    marks = [near_duplicates.mark(p) for p in (*views, texture(4, 200))]
    assert near_duplicates.groups(marks, [0] * 4) == [0, 0, 0, 3]


def test_parallel_scratches_are_no_twins():
    """Two pictures that share nothing but the direction and width of a bright line are different."""
    pictures = []
    for seed in (1, 2):
        picture = texture(seed, 200) // 2
        picture[:, 80 + 20 * seed : 88 + 20 * seed] = 250
        pictures.append(picture)
    assert near_duplicates.groups([near_duplicates.mark(p) for p in pictures], [0, 0]) == [0, 1]


@pytest.fixture
def twin_folder(tmp_path):
    """Two classes of 20 pictures in which numbers 3 and 17, and 0, 1 and 2, are twins."""
    for n, name in enumerate(("dent", "rust")):
        put(tmp_path / name, [f"{k}" for k in range(20)], 100 * n)
        place = texture(900 + n, 400)
        for k in (0, 1, 2):
            cv2.imwrite(str(tmp_path / name / f"{k}.png"), place[:200, 40 * k : 40 * k + 200])
        shutil.copy(tmp_path / name / "3.png", tmp_path / name / "17.png")
    return tmp_path


def sides(parts):
    """The groups of each part."""
    return [{p.group for p in part} for part in parts]


def test_twins_stay_on_one_side_of_every_split(twin_folder):
    """No group is in two splits, and every class is in each."""
    index = data.index(twin_folder)
    parts = sides(index.splits.values())
    assert sum(map(len, parts)) == len(set.union(*parts)) == 2 * 17
    assert all({p.label for p in pictures} == {0, 1} for pictures in index.splits.values())
    assert "10 pictures have near duplicates or show a place that another shows (4 groups)" in index.notes


@pytest.mark.parametrize("by", ["numbers", "twins"])
def test_folds_leave_every_picture_out_once_and_keep_twins_together(twin_folder, by):
    """Four folds of about equal size with both classes, whose two sides share no group."""
    index = data.index(twin_folder)
    folds = data.folds(index.pictures, 4, by=by)
    assert sorted(p.path for _, out in folds for p in out) == sorted(p.path for p in index.pictures)
    for rest, out in folds:
        assert not set.intersection(*sides((rest, out)))
        assert {p.label for p in out} == {0, 1}
        assert 7 <= len(out) <= 13


def test_folds_by_number_leave_out_neighbours(twin_folder):
    """By number, what is left out is a run of file numbers but for twins that join from elsewhere."""
    for _, out in data.folds(data.index(twin_folder).pictures, 4):
        numbers = sorted(int(p.path.stem) for p in out if p.label == 0 and p.path.stem != "17")
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) or 16 in numbers


def test_more_folds_than_pictures_are_refused(twin_folder):
    """The message says how many there are."""
    with pytest.raises(TrainingError, match="40 folds need 40 independent pictures of each class; one has 17"):
        data.folds(data.index(twin_folder).pictures, 40)


def test_a_given_split_is_kept_and_its_twins_are_told(twin_folder, tmp_path):
    """A twin of a training picture in test stays there, and the index says what that means."""
    split = tmp_path / "split"
    for name in ("dent", "rust"):
        shutil.copytree(twin_folder / name, split / "train" / name)
        for part in ("valid", "test"):
            (split / part / name).mkdir(parents=True)
            source = split / "train" / name / ("17.png" if part == "test" else "9.png")
            source.rename(split / part / name / source.name)
    index = data.index(split)
    assert [p.path.name for p in index.splits["test"]] == ["17.png", "17.png"]
    assert "2 pictures of test have a near duplicate in train: it measures memory in part" in index.notes


def test_one_place_only_is_split_by_number_and_told(tmp_path):
    """When a class shows a single place it is split all the same, with a word about it."""
    put(tmp_path / "dent", [f"{k}" for k in range(12)])
    (tmp_path / "rust").mkdir()
    for k in range(12):
        cv2.imwrite(str(tmp_path / "rust" / f"{k}.png"), texture(700, 300)[:200, 8 * k : 8 * k + 200])
    index = data.index(tmp_path)
    assert all(1 in {p.label for p in pictures} for pictures in index.splits.values())
    assert "all pictures of rust show the same place: training and test cannot be kept apart" in index.notes


def test_an_index_can_be_written_and_read_again(twin_folder, tmp_path):
    """With its splits, groups, notes and what is left out; without the place where it lay."""
    (twin_folder / "dent" / "bad.png").write_bytes(b"no picture")
    index = data.index(twin_folder)
    text = json.dumps(index.as_json(twin_folder))
    assert str(tmp_path) not in text
    (tmp_path / "index.json").write_text(text, "utf-8")
    assert data.Index.from_json(tmp_path / "index.json", twin_folder) == index
    (tmp_path / "index.json").write_text("{}", "utf-8")
    with pytest.raises(TrainingError, match="not an index of pictures"):
        data.Index.from_json(tmp_path / "index.json", twin_folder)


def test_fewer_pictures_keep_every_class_in_every_split(twin_folder):
    """For trials: about as many of each class as asked for, and other data than before."""
    index = data.index(twin_folder)
    some = data.fewer(index, 8)
    assert all({p.label for p in pictures} == {0, 1} for pictures in some.splits.values())
    assert 12 <= len(some.pictures) <= 20
    assert some.sha256 != index.sha256
    assert set(some.pictures) < set(index.pictures)


NEU = Path(__file__).parents[4] / "shared" / "data" / "neu-cls"


@pytest.mark.skipif(not NEU.is_dir(), reason="the NEU pictures are not here: they are not part of the repository")
def test_neu_is_the_data_that_the_shipped_model_was_trained_on():
    """Hash and split are those of the record."""
    index = data.index(NEU, look_for_twins=False)
    assert index.sha256 == data.NEU_SHA256
    assert {split: len(pictures) for split, pictures in index.splits.items()} == {
        "train": 1590, "held_out": 66, "valid": 72, "test": 72,
    }  # fmt: skip
