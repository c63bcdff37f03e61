"""Tiles in memory."""

from __future__ import annotations

import json

import cv2
import numpy as np
import torch

from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from trainer.data import index, samples


def test_tiles_hold_the_picture_and_its_compressed_variant(class_folder):
    """Variant 0 is the exact 2x2 average of the file, variant 1 is close to it but not the same."""
    pictures = index.index(class_folder).splits["train"][:5]
    made = samples.tiles(pictures, 100, seed=0)
    assert made.tiles.shape == (5, 2, 100, 100)
    native = index.read(pictures[0].path).astype(int)
    mean = native.reshape(100, 2, 100, 2).mean((1, 3))
    plain, packed = made.tiles[0].numpy().astype(float)
    assert np.abs(plain - mean).max() <= 0.5
    assert 0 < np.abs(plain - packed).mean() < 10


def half_white(folder):
    """A picture that is defective, white, in its right part, and its box."""
    image = np.full((200, 200), 90, np.uint8)
    image[:, 110:] = 255
    path = folder / "a_1.png"
    cv2.imwrite(str(path), image)
    boxes_path = folder / "boxes.json"
    boxes_path.write_text(json.dumps({"a_1": [["rust", 110, 0, 200, 200]]}), "utf-8")
    return path, index.read_boxes(boxes_path)


def test_sound_crops_touch_no_box_and_defective_ones_show_one(tmp_path):
    """Sound squares come from outside the boxes, where nothing is white; the others have a good part of it."""
    path, boxes = half_white(tmp_path)
    sound, defective = samples.box_crops([index.Picture(path, 1)], boxes, STRIP_CLASSES, 100, seed=3)
    assert len(sound) == 3
    assert set(sound.labels.tolist()) == {6}
    assert sound.tiles[:, 0].max() < 100
    assert len(defective) == 2
    assert set(defective.labels.tolist()) == {1}
    assert (defective.tiles[:, 0] > 200).float().mean((-1, -2)).min() > 0.25


def test_classes_without_firm_outlines_give_no_sound_crops(tmp_path):
    """Crazing covers more than its boxes say."""
    path, boxes = half_white(tmp_path)
    sound, defective = samples.box_crops(
        [index.Picture(path, STRIP_CLASSES.index("crazing"))], boxes, STRIP_CLASSES, 100, seed=3
    )
    assert (len(sound), len(defective)) == (0, 2)


def test_crops_need_boxes(class_folder):
    """Without boxes nothing is taken for sound, or for a part of a defect."""
    sound, defective = samples.box_crops(index.index(class_folder).splits["train"], {}, STRIP_CLASSES, 100, seed=0)
    assert (len(sound), len(defective)) == (0, 0)


def test_strip_samples_are_labelled_by_what_they_show():
    """Sound tiles are plain, defective ones are not, and every class is among them."""
    sound, defective = samples.strip_samples(STRIP_CLASSES, range(5), 100)
    assert set(sound.labels.tolist()) == {6}
    assert set(defective.labels.tolist()) == set(range(6))
    assert sound.tiles[:, 0].float().std((-1, -2)).median() < 5
    assert defective.tiles[:, 0].float().std((-1, -2)).median() > 8


def test_strip_samples_leave_out_what_cannot_be_said():
    """A tile that shows a tenth of a defect is neither sound nor defective."""
    shown = [("patches", (0, 0, 200, 200), (150, 0, 200, 100))]
    assert samples._strip_label((0, 0, 200, 200), shown) is None
    assert samples._strip_label((150, 0, 200, 200), shown) == "patches"
    assert samples._strip_label((0, 150, 200, 200), shown) == ""


def test_epoch_order_goes_through_the_first_source_once_and_mixes_the_others_in():
    """Shares are kept, a small source repeats evenly, an empty one is left out."""
    order = samples.epoch_order([100, 10, 0, 500], [0.5, 0.2, 0.1, 0.2], torch.Generator().manual_seed(1))
    counts = [sum(source == s for source, _ in order) for s in range(4)]
    assert counts == [100, 40, 0, 40]
    assert len({p for s, p in order if s == 0}) == 100
    assert all(sum(p == i for s, p in order if s == 1) == 4 for i in range(10))


def test_rare_classes_are_repeated_in_whole_and_not_without_end():
    """8, 4, 3 and 1 tiles become 8, 8, 6 and 4; even classes stay as they are."""
    labels = torch.tensor([0] * 8 + [1] * 4 + [2] * 3 + [3])
    uneven = samples.Samples(torch.arange(16, dtype=torch.uint8)[:, None, None, None], labels)
    made = samples.balanced(uneven)
    assert made.labels.bincount().tolist() == [8, 8, 6, 4]
    assert made.tiles.flatten()[made.labels == 3].tolist() == [15] * 4
    even = samples.Samples(uneven.tiles[:12], torch.tensor([0] * 7 + [1] * 5))
    assert torch.equal(samples.balanced(even).tiles, even.tiles)
