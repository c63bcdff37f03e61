"""Training tiles in memory."""

from __future__ import annotations

import json

import cv2
import numpy as np
import torch

from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from trainer.data import samples
from trainer.data.boxes import read_boxes
from trainer.data.index import index_folder
from trainer.data.pictures import Picture, read


def test_tiles_hold_the_picture_and_its_compressed_variant(class_folder):
    """Variant 0 is the exact 2x2 average of the file; variant 1 is close to it but different."""
    pictures = index_folder(class_folder).splits["train"][:5]
    made = samples.tiles(pictures, 100, seed=0)
    assert made.tiles.shape == (5, 2, 100, 100)
    native = read(pictures[0].path).astype(int)
    mean = native.reshape(100, 2, 100, 2).mean((1, 3))
    plain, packed = made.tiles[0].numpy().astype(float)
    assert np.abs(plain - mean).max() <= 0.5
    assert 0 < np.abs(plain - packed).mean() < 10


def half_white(folder):
    """A picture whose right part is white, a defect, and the box of the defect."""
    image = np.full((200, 200), 90, np.uint8)
    image[:, 110:] = 255
    path = folder / "a_1.png"
    cv2.imwrite(str(path), image)
    boxes_path = folder / "boxes.json"
    boxes_path.write_text(json.dumps({"a_1": [["rust", 110, 0, 200, 200]]}), "utf-8")
    return path, read_boxes(boxes_path)


def test_defect_free_crops_touch_no_box_and_the_others_show_one(tmp_path):
    """Defect-free crops have no white pixel; the others are white to a considerable part."""
    path, boxes = half_white(tmp_path)
    good, defective = samples.box_crops([Picture(path, 1)], boxes, STRIP_CLASSES, 100, seed=3)
    assert len(good) == 3
    assert set(good.labels.tolist()) == {6}
    assert good.tiles[:, 0].max() < 100
    assert len(defective) == 2
    assert set(defective.labels.tolist()) == {1}
    assert (defective.tiles[:, 0] > 200).float().mean((-1, -2)).min() > 0.25


def test_coarse_classes_give_no_defect_free_crops(tmp_path):
    """Crazing extends beyond its boxes."""
    path, boxes = half_white(tmp_path)
    good, defective = samples.box_crops(
        [Picture(path, STRIP_CLASSES.index("crazing"))], boxes, STRIP_CLASSES, 100, seed=3
    )
    assert (len(good), len(defective)) == (0, 2)


def test_crops_need_boxes(class_folder):
    """Without boxes there are no crops of either kind."""
    good, defective = samples.box_crops(index_folder(class_folder).splits["train"], {}, STRIP_CLASSES, 100, seed=0)
    assert (len(good), len(defective)) == (0, 0)


def test_strip_samples_are_labelled_by_their_content():
    """Defect-free tiles are plain, the others are not, and every class occurs."""
    good, defective = samples.strip_samples(STRIP_CLASSES, range(5), 100)
    assert set(good.labels.tolist()) == {6}
    assert set(defective.labels.tolist()) == set(range(6))
    assert good.tiles[:, 0].float().std((-1, -2)).median() < 5
    assert defective.tiles[:, 0].float().std((-1, -2)).median() > 8


def test_strip_samples_leave_out_ambiguous_tiles():
    """A tile that shows a tenth of a defect gets no label."""
    shown = [("patches", (0, 0, 200, 200), (150, 0, 200, 100))]
    assert samples._strip_label((0, 0, 200, 200), shown) is None
    assert samples._strip_label((150, 0, 200, 200), shown) == "patches"
    assert samples._strip_label((0, 150, 200, 200), shown) == ""


def test_epoch_order_has_the_first_source_once_and_the_shares_of_the_others():
    """A small source repeats evenly, and an empty one is left out."""
    order = samples.epoch_order([100, 10, 0, 500], [0.5, 0.2, 0.1, 0.2], torch.Generator().manual_seed(1))
    counts = [sum(source == s for source, _ in order) for s in range(4)]
    assert counts == [100, 40, 0, 40]
    assert len({p for s, p in order if s == 0}) == 100
    assert all(sum(p == i for s, p in order if s == 1) == 4 for i in range(10))


def test_rare_classes_are_repeated_as_a_whole_up_to_a_limit():
    """8, 4, 3 and 1 tiles become 8, 8, 6 and 4; classes of similar size stay unchanged."""
    labels = torch.tensor([0] * 8 + [1] * 4 + [2] * 3 + [3])
    uneven = samples.Samples(torch.arange(16, dtype=torch.uint8)[:, None, None, None], labels)
    made = samples.balanced(uneven)
    assert made.labels.bincount().tolist() == [8, 8, 6, 4]
    assert made.tiles.flatten()[made.labels == 3].tolist() == [15] * 4
    even = samples.Samples(uneven.tiles[:12], torch.tensor([0] * 7 + [1] * 5))
    assert torch.equal(samples.balanced(even).tiles, even.tiles)
