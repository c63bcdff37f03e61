"""From folders to tensors."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from edge.camera.strip import CLASSES as STRIP_CLASSES
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


def test_tiles_hold_the_picture_and_its_compressed_variant(class_folder):
    """Variant 0 is the exact 2x2 average of the file, variant 1 is close to it but not the same."""
    pictures = data.index(class_folder).splits["train"][:5]
    samples = data.tiles(pictures, 100, seed=0)
    assert samples.tiles.shape == (5, 2, 100, 100)
    native = data.read(pictures[0].path).astype(int)
    mean = native.reshape(100, 2, 100, 2).mean((1, 3))
    plain, packed = samples.tiles[0].numpy().astype(float)
    assert np.abs(plain - mean).max() <= 0.5
    assert 0 < np.abs(plain - packed).mean() < 10


def test_free_crops_touch_no_box(tmp_path):
    """Sound squares come from outside the boxes: the marked area is white and never shows."""
    image = np.full((200, 200), 90, np.uint8)
    image[:, 110:] = 255
    path = tmp_path / "a_1.png"
    cv2.imwrite(str(path), image)
    boxes_path = tmp_path / "boxes.json"
    boxes_path.write_text(json.dumps({"a_1": [["rust", 110, 0, 200, 200]]}), "utf-8")
    boxes = data.read_boxes(boxes_path)
    crops = data.free_crops([data.Picture(path, 1)], boxes, STRIP_CLASSES, 100, seed=3)
    assert len(crops) == 2
    assert set(crops.labels.tolist()) == {6}
    assert crops.tiles[:, 0].max() < 100


def test_free_crops_need_boxes(class_folder):
    """Without boxes nothing is taken for sound."""
    assert len(data.free_crops(data.index(class_folder).splits["train"], {}, STRIP_CLASSES, 100, seed=0)) == 0


def test_boxes_file_errors_name_the_file(tmp_path):
    """A file of boxes that is none is refused."""
    path = tmp_path / "boxes.json"
    path.write_text("[1, 2]", "utf-8")
    with pytest.raises(TrainingError, match=r"boxes\.json: not a file of boxes"):
        data.read_boxes(path)


def test_strip_samples_are_labelled_by_what_they_show():
    """Sound tiles are plain, defective ones are not, and every class is among them."""
    sound, defective = data.strip_samples(STRIP_CLASSES, range(5), 100)
    assert set(sound.labels.tolist()) == {6}
    assert set(defective.labels.tolist()) == set(range(6))
    assert sound.tiles[:, 0].float().std((-1, -2)).median() < 5
    assert defective.tiles[:, 0].float().std((-1, -2)).median() > 8


def test_strip_samples_leave_out_what_cannot_be_said():
    """A tile that shows a tenth of a defect is neither sound nor defective."""
    shown = [("patches", (0, 0, 200, 200), (150, 0, 200, 100))]
    assert data._strip_label((0, 0, 200, 200), shown) is None
    assert data._strip_label((150, 0, 200, 200), shown) == "patches"
    assert data._strip_label((0, 150, 200, 200), shown) == ""


def test_epoch_order_goes_through_the_first_source_once_and_mixes_the_others_in():
    """Shares are kept, a small source repeats evenly, an empty one is left out."""
    order = data.epoch_order([100, 10, 0, 500], [0.5, 0.2, 0.1, 0.2], torch.Generator().manual_seed(1))
    counts = [sum(source == s for source, _ in order) for s in range(4)]
    assert counts == [100, 40, 0, 40]
    assert len({p for s, p in order if s == 0}) == 100
    assert all(sum(p == i for s, p in order if s == 1) == 4 for i in range(10))


@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_augment_keeps_shape_and_range(strength):
    """Any strength gives finite float32 tiles of the same size within 0 to 255."""
    tiles = torch.randint(0, 256, (32, 100, 100), dtype=torch.uint8)
    out = data.augment(tiles, strength, 0.5, torch.Generator().manual_seed(0))
    assert out.shape == (32, 1, 100, 100)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255


def test_augment_without_strength_only_turns_and_mirrors():
    """At strength 0 every tile keeps its gray values, only their places change."""
    tiles = torch.randint(0, 256, (16, 50, 50), dtype=torch.uint8)
    out = data.augment(tiles, 0.0, 0.5, torch.Generator().manual_seed(0))
    before = tiles.flatten(1).float().sort(1).values
    assert torch.allclose(out.flatten(1).sort(1).values, before, atol=0.05)


def test_augment_leaves_part_of_a_batch_unwarped():
    """Only the first half is resampled: the other half keeps a one-pixel pattern sharp at strength without blur."""
    checks = (torch.arange(64)[:, None] + torch.arange(64)[None, :]) % 2 * 100 + 60
    tiles = checks.to(torch.uint8).expand(40, 64, 64)
    out = data.augment(tiles, 0.2, 0.5, torch.Generator().manual_seed(0))
    contrast = (out[..., 1:] - out[..., :-1]).abs().mean((1, 2, 3))
    assert contrast[20:].median() > 2 * contrast[:20].median()


def test_augment_is_reproducible():
    """The same generator gives the same tiles."""
    tiles = torch.randint(0, 256, (8, 100, 100), dtype=torch.uint8)
    a, b = (data.augment(tiles, 1.0, 0.5, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
