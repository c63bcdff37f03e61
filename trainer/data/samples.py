"""Training tiles in memory, by source: pictures of defects, defect-free surface, and generated strips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from edge.camera.sources.simulator import LONGEST_PX, Strip
from edge.frame import Gray
from trainer.data.boxes import Boxes
from trainer.data.pictures import Picture, cut, read
from trainer.recipe import Fit

SOURCES = ("defects", "good", "strip_good", "strip_defects", "crops")
"""Sources of tiles: pictures of defects, defect-free surface, generated strips without and with defects, and crops of
the pictures of defects. The names are keys of recipes (`share_...`) and of the model card."""
STRIP_SEED = 1000
"""First seed of the strips for training; seed 1 is the demonstration."""
MAX_REPEATS = 4
"""A rare class is repeated at most this often in an epoch: the network would memorise it otherwise."""
COARSE = ("crazing", "pitted_surface")
"""Classes whose defects extend beyond their boxes: the surface outside the boxes is not defect-free."""
MIN_CROP_PX, MAX_CROP_PX = 64, 200
"""Sides of the square crops."""
BOX_MARGIN_PX = 4
"""Minimum distance between a defect-free crop and every box."""
TRIES = 120
"""Random crop positions tried in each picture."""
DEFECT_CROPS = 2
"""Crops with a defect from each picture."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Tiles of one source.

    tiles: (N, V, S, S) uint8, V variants of the same tile: unchanged, and after JPEG at native scale.
    labels: (N,) int64.
    """

    tiles: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, label: int) -> Samples:
        return Samples(self.tiles[self.labels == label], self.labels[self.labels == label])

    def without(self, label: int) -> Samples:
        return Samples(self.tiles[self.labels != label], self.labels[self.labels != label])

    def joined(self, other: Samples) -> Samples:
        return Samples(torch.cat([self.tiles, other.tiles]), torch.cat([self.labels, other.labels]))


def tiles(pictures: Sequence[Picture], input_px: int, seed: int) -> Samples:
    """The tiles of all pictures, each with a JPEG-compressed variant."""
    rng = np.random.default_rng([seed, 1])
    return _samples(((read(p.path), p.label) for p in pictures), input_px, rng)


def box_crops(
    pictures: Sequence[Picture], boxes: Boxes, classes: Sequence[str], input_px: int, seed: int
) -> tuple[Samples, Samples]:
    """Square crops of pictures with boxes: (defect-free crops, crops with a defect).

    Defect-free crops keep away from every box; pictures of COARSE classes give none. The others show enough of a box.
    Half of either kind are enlarged, the other half mirror-padded to the size of the picture, so that the network
    cannot tell the two kinds apart by sharpness or repetition.
    """
    rng = np.random.default_rng([seed, 2])
    good: list[tuple[Gray, int]] = []
    defective: list[tuple[Gray, int]] = []
    for picture in pictures:
        found = boxes.get(picture.path.stem)
        if not found or picture.label >= len(classes):
            continue
        image = read(picture.path)
        height, width = image.shape
        if min(height, width) < MIN_CROP_PX:
            continue
        side = rng.integers(MIN_CROP_PX, min(MAX_CROP_PX, height, width) + 1, TRIES)
        x, y = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
        near, visible = squares_near_boxes(x, y, side, np.array(found))
        coarse = classes[picture.label] in COARSE
        free = [] if coarse else np.flatnonzero(~near).tolist()
        # The two largest and one of any size: large crops show most, and small ones are frequent anyway.
        free = [*sorted(free, key=lambda i: -side[i])[:2], *free[:1]]
        for made, label, places in (
            (good, len(classes), free), (defective, picture.label, np.flatnonzero(visible)[:DEFECT_CROPS].tolist())
        ):  # fmt: skip
            for i in places:
                crop = image[y[i] : y[i] + side[i], x[i] : x[i] + side[i]]
                if rng.random() < 0.5:
                    crop = np.pad(crop, (0, min(height, width) - side[i]), mode="symmetric")
                made.append((crop, label))
    return _samples(iter(good), input_px, rng), _samples(iter(defective), input_px, rng)


def squares_near_boxes(
    x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], side: npt.NDArray[np.int64] | int, boxes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For squares at x, y, (N,), px: which come close to a box, and which show enough of a defect.

    Enough: a box overlaps the square by at least 0.3 of the box's area or 0.3 of the square's area.
    """
    left, top, right, bottom = boxes.T[:, None, :]  # (1, boxes) each, px
    side = np.broadcast_to(side, x.shape)[:, None]
    across = np.minimum(x[:, None] + side, right) - np.maximum(x[:, None], left)
    along = np.minimum(y[:, None] + side, bottom) - np.maximum(y[:, None], top)
    near = ((across > -BOX_MARGIN_PX) & (along > -BOX_MARGIN_PX)).any(1)
    area = across.clip(0) * along.clip(0)
    visible = ((area >= 0.3 * (right - left) * (bottom - top)) | (area >= 0.3 * side * side)) & (area > 0)
    return near, visible.any(1)


def strip_samples(
    classes: Sequence[str], seeds: Sequence[int], input_px: int, *, side: int = 200
) -> tuple[Samples, Samples]:
    """Tiles of generated strips: (defect-free tiles, tiles with a defect).  side: of a tile, px of the frame.

    A tile has a defect if it shows at least 0.3 of the defect's box, or if the box covers at least 0.3 of the tile.
    A tile that touches no box is defect-free. Tiles in between are left out.
    """
    good: list[tuple[Gray, int]] = []
    defective: list[tuple[Gray, int]] = []
    known = tuple(name for name in STRIP_CLASSES if name in classes)
    rng = np.random.default_rng([STRIP_SEED, *seeds])
    for seed in seeds:
        strip = Strip(
            width=800, height=420, seed=seed, speed_px=1, spacing_px=520,
            noise=float(rng.uniform(0.5, 5)), classes=known or STRIP_CLASSES,
        )  # fmt: skip
        for track in range(1, len(STRIP_CLASSES) + 1):
            # Every stretch of spacing_px holds one defect: take frames at a few positions along the stretch.
            for place in rng.integers(-200, LONGEST_PX - 60, 3):
                n = track * strip.spacing_px + int(place)
                frame, shown = strip.frame(n), strip.truth(n)
                for at_defect in (True, True, False, False):
                    x, y = int(rng.integers(0, strip.width - side + 1)), int(rng.integers(0, strip.height - side + 1))
                    if shown and at_defect:
                        bx, by, bw, bh = shown[0][1]
                        x = int(np.clip(bx + bw // 2 - side // 2 + rng.integers(-90, 91), 0, strip.width - side))
                        y = int(np.clip(by + bh // 2 - side // 2 + rng.integers(-90, 91), 0, strip.height - side))
                    label = _strip_label((x, y, side, side), [(d.class_name, d.box, b) for d, b in shown])
                    tile = frame[y : y + side, x : x + side]
                    if label == "":
                        good.append((tile, len(classes)))
                    elif label is not None:
                        defective.append((tile, list(classes).index(label)))
    return _samples(iter(good), input_px, rng), _samples(iter(defective), input_px, rng)


def _strip_label(
    tile: tuple[int, int, int, int], shown: list[tuple[str, tuple[int, int, int, int], tuple[int, int, int, int]]]
) -> str | None:
    """Class of a tile, "" if it is defect-free, None if it shows too little of a defect to label it."""
    x, y, w, h = tile
    label: str | None = ""
    for name, whole, (bx, by, bw, bh) in shown:
        across, along = min(x + w, bx + bw) - max(x, bx), min(y + h, by + bh) - max(y, by)
        if across <= 0 or along <= 0:
            continue
        area = across * along
        label = name if area >= 0.3 * whole[2] * whole[3] or area >= 0.3 * w * h else None
    return label


def _samples(images: Iterator[tuple[Gray, int]], input_px: int, rng: np.random.Generator) -> Samples:
    tiles: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for image, label in images:
        plain = cut(image, input_px)
        packed = cut(_through_jpeg(image, int(rng.integers(15, 71))), input_px)
        for pair in zip(plain, packed, strict=True):
            tiles.append(np.stack(pair))
            labels.append(label)
    if not tiles:
        return Samples(torch.empty((0, 2, input_px, input_px), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return Samples(torch.from_numpy(np.stack(tiles)), torch.tensor(labels))


def _through_jpeg(image: Gray, quality: int) -> Gray:
    """Compress and decompress: cameras and recordings often use JPEG or H.264."""
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


def balanced(samples: Samples, max_repeats: int = MAX_REPEATS) -> Samples:
    """Repeat rare classes as a whole, as often as they fit into the largest class, at most `max_repeats` times."""
    if not len(samples):
        return samples
    counts = samples.labels.bincount()  # (C,)
    times = (counts.max() // counts.clamp_min(1)).clamp(1, max_repeats)
    picked = torch.arange(len(samples)).repeat_interleave(times[samples.labels])
    return Samples(samples.tiles[picked], samples.labels[picked])


def epoch_order(sizes: Sequence[int], shares: Sequence[float], generator: torch.Generator) -> list[tuple[int, int]]:
    """The samples of one epoch, shuffled: (source, position).

    Every sample of the first source occurs once. The other sources join in proportion to their shares; each repeats
    its samples as evenly as its size allows.
    """
    picked: list[tuple[int, int]] = []
    for source, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        count = round(sizes[0] * share / shares[0])
        for start in range(0, count if size else 0, max(size, 1)):
            some = torch.randperm(size, generator=generator)[: count - start].tolist()
            picked += [(source, position) for position in some]
    return [picked[i] for i in torch.randperm(len(picked), generator=generator).tolist()]


def shares(recipe: Fit) -> tuple[float, ...]:
    """Share of an epoch by source, in the order of SOURCES."""
    return tuple(getattr(recipe, f"share_{name}") for name in SOURCES)
