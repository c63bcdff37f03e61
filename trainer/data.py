"""From folders of pictures to tensors in memory, and what is done to them while training.

A data folder holds either class folders, or `train`, `valid` and `test` with the same class folders in each.
A class folder named `good` or `normal` shows sound surface.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from edge.camera.strip import CLASSES as STRIP_CLASSES
from edge.camera.strip import LONGEST_PX, Strip
from edge.frame import Gray
from edge.vision.tiles import lay
from trainer.recipe import Recipe, TrainingError

SPLITS = ("train", "valid", "test")
GOOD_NAMES = ("good", "normal")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
HELD_OUT = 0.08
"""Share of the training pictures of each class that is kept from training, for the temperature."""
FEWEST = 2
"""Pictures of a class that must be left for training once the other parts are taken."""
STRIP_SEED = 1000
"""Strips from this seed on are for training; seed 1 is the demonstration."""
COARSE = ("crazing", "pitted_surface")
"""Classes that cover more of a picture than their boxes say: what lies outside is not sound."""

Boxes = dict[str, list[tuple[int, int, int, int]]]
"""Stem of a picture to the boxes of its defects: xmin, ymin, xmax, ymax in px."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One file.  label: position in `Index.classes`, or their number for sound surface."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class Index:
    """What a data folder holds."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]
    """train, held_out, valid, test."""
    sha256: str
    """Over the names and bytes of all pictures, in order."""

    @property
    def good(self) -> int:
        """The label of sound surface."""
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class Samples:
    """Tiles of one source.

    tiles: (N, V, S, S) uint8, V variants of the same tile: as it is, and after JPEG at native scale.
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


# The folder -------------------------------------------------------------------------------------------------------


def index(root: Path) -> Index:
    """Find and name all pictures below `root`.  Raises TrainingError with the folder and what is missing."""
    if not root.is_dir():
        raise TrainingError(f"{root}: no such folder. Give a folder with one folder of pictures for each class")
    split_here = (root / "train").is_dir()
    classes = _class_names(root / "train" if split_here else root)
    if split_here:
        found = {split: _pictures(root / split, classes) for split in SPLITS}
        found["train"], found["held_out"] = _slice(found["train"], 0.5, HELD_OUT)
    else:
        rest, test = _slice(_pictures(root, classes), 1.0, 0.1)
        rest, valid = _slice(rest, 0.0, 0.1)
        train, held_out = _slice(rest, 0.5, HELD_OUT)
        found = {"train": train, "held_out": held_out, "valid": valid, "test": test}
    for label, name in enumerate(classes):
        if sum(p.label == label for p in found["train"]) < FEWEST:
            raise TrainingError(
                f"{root}: too few pictures of {name}: at least {FEWEST + 3} are needed, better hundreds"
            )
    return Index(classes, found, _sha256(root, [p.path for split in sorted(found) for p in found[split]]))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    classes = tuple(name for name in names if name.lower() not in GOOD_NAMES)
    if len(classes) < 2:
        raise TrainingError(
            f"{folder}: {len(classes)} class folders, at least 2 are needed. "
            "Put the pictures of each kind of defect into a folder named after it"
        )
    return classes


def _pictures(folder: Path, classes: Sequence[str]) -> tuple[Picture, ...]:
    pictures = []
    for label, name in enumerate(classes):
        own = files(folder / name)
        if not own:
            raise TrainingError(f"{folder / name}: no pictures. Every class needs some: {', '.join(SUFFIXES)}")
        pictures += [Picture(path, label) for path in own]
    for name in GOOD_NAMES:
        pictures += [Picture(path, len(classes)) for path in files(folder / name)]
    return tuple(pictures)


def files(folder: Path) -> list[Path]:
    """Pictures of one folder, by number; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted((f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts a_9 before a_10: neighbours in number are often neighbours on the coil."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


def _slice(
    pictures: tuple[Picture, ...], where: float, share: float
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Take a run of neighbouring files out of each class: (rest, taken).  where: 0 the first, 1 the last ones."""
    rest: list[Picture] = []
    taken: list[Picture] = []
    for label in sorted({p.label for p in pictures}):
        own = [p for p in pictures if p.label == label]
        count = max(1, round(len(own) * share)) if len(own) > 1 else 0
        start = round((len(own) - count) * where)
        taken += own[start : start + count]
        rest += own[:start] + own[start + count :]
    return tuple(rest), tuple(taken)


def _sha256(root: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read(path: Path) -> Gray:
    """Decode one picture.  Returns (H, W) uint8.  Raises TrainingError."""
    image = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise TrainingError(f"{path}: not a picture that can be read. Remove or replace it")
    return np.asarray(image, np.uint8)


def read_boxes(path: Path) -> Boxes:
    """Boxes of defects: {"stem": [["class", xmin, ymin, xmax, ymax], ...]}.  Raises TrainingError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return {stem: [(int(a), int(b), int(c), int(d)) for _, a, b, c, d in boxes] for stem, boxes in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"{path}: not a file of boxes: {error}") from error


def tile_px(pictures: Sequence[Picture]) -> int:
    """The scale of the training pictures: the median of their shorter sides, in px."""
    return int(np.median([min(read(p.path).shape) for p in pictures]))


def cut(image: Gray, input_px: int) -> Gray:
    """One picture as the tiles that the edge would make of it.  Returns (N, input_px, input_px) uint8."""
    height, width = image.shape
    return lay((height, width), tile_px=min(height, width), input_px=input_px).cut(image)


# Samples ----------------------------------------------------------------------------------------------------------


def tiles(pictures: Sequence[Picture], input_px: int, seed: int) -> Samples:
    """All pictures, each with a JPEG-compressed variant."""
    rng = np.random.default_rng([seed, 1])
    return _samples(((read(p.path), p.label) for p in pictures), input_px, rng)


def free_crops(pictures: Sequence[Picture], boxes: Boxes, classes: Sequence[str], input_px: int, seed: int) -> Samples:
    """Squares of 64 to 200 px away from every box: the sound steel around the defects.

    Pictures of COARSE classes give none. Half are enlarged and half mirrored out to the size of the picture, so that
    neither sharpness nor repetition tells sound from defective.
    """
    rng = np.random.default_rng([seed, 2])
    dense = [p for p in pictures if p.label < len(classes) and classes[p.label] not in COARSE]
    return _samples(_crops(dense, boxes, len(classes), rng), input_px, rng)


def _crops(
    pictures: Sequence[Picture], boxes: Boxes, good: int, rng: np.random.Generator
) -> Iterator[tuple[Gray, int]]:
    for picture in pictures:
        if picture.path.stem not in boxes:
            continue
        image = read(picture.path)
        height, width = image.shape
        found: list[tuple[int, int, int]] = []
        for _ in range(80):
            side = int(rng.integers(64, min(200, height, width) + 1))
            x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
            if not any(_meet((x, y, x + side, y + side), box) for box in boxes[picture.path.stem]):
                found.append((side, x, y))
        for side, x, y in sorted(found, reverse=True)[:2]:
            crop = image[y : y + side, x : x + side]
            if rng.random() < 0.5:
                crop = np.pad(crop, (0, min(height, width) - side), mode="symmetric")
            yield crop, good


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int], gap: int = 4) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def strip_samples(
    classes: Sequence[str], seeds: Sequence[int], input_px: int, *, side: int = 200
) -> tuple[Samples, Samples]:
    """Tiles of generated strips: (sound, defective).  side: of a tile in px of the frame.

    A tile is defective when it shows at least 0.3 of a defect's box or is covered by it to 0.3, sound when it
    touches no box; what lies between is left out.
    """
    sound: list[tuple[Gray, int]] = []
    defective: list[tuple[Gray, int]] = []
    known = tuple(name for name in STRIP_CLASSES if name in classes)
    rng = np.random.default_rng([STRIP_SEED, *seeds])
    for seed in seeds:
        strip = Strip(
            width=800, height=420, seed=seed, speed_px=1, spacing_px=520,
            noise=float(rng.uniform(0.5, 5)), classes=known or STRIP_CLASSES,
        )  # fmt: skip
        for track in range(1, len(STRIP_CLASSES) + 1):
            # Every stretch of spacing_px holds one defect: look at it from a few places along it.
            for place in rng.integers(-200, LONGEST_PX - 60, 3):
                n = track * strip.spacing_px + int(place)
                frame, shown = strip.frame(n), strip.truth(n)
                for around in (True, True, False, False):
                    x, y = int(rng.integers(0, strip.width - side + 1)), int(rng.integers(0, strip.height - side + 1))
                    if shown and around:
                        bx, by, bw, bh = shown[0][1]
                        x = int(np.clip(bx + bw // 2 - side // 2 + rng.integers(-90, 91), 0, strip.width - side))
                        y = int(np.clip(by + bh // 2 - side // 2 + rng.integers(-90, 91), 0, strip.height - side))
                    label = _strip_label((x, y, side, side), [(d.class_name, d.box, b) for d, b in shown])
                    tile = frame[y : y + side, x : x + side]
                    if label == "":
                        sound.append((tile, len(classes)))
                    elif label is not None:
                        defective.append((tile, list(classes).index(label)))
    return _samples(iter(sound), input_px, rng), _samples(iter(defective), input_px, rng)


def _strip_label(
    tile: tuple[int, int, int, int], shown: list[tuple[str, tuple[int, int, int, int], tuple[int, int, int, int]]]
) -> str | None:
    """Class of a tile, "" for sound, None when it cannot be said."""
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
    """What compression leaves of a picture: cameras and recordings are often JPEG or H.264."""
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


# One epoch --------------------------------------------------------------------------------------------------------


def epoch_order(sizes: Sequence[int], shares: Sequence[float], generator: torch.Generator) -> list[tuple[int, int]]:
    """Which samples make up an epoch, shuffled: (source, position).

    The first source is gone through once; the others join in proportion to their shares, each as evenly
    as its size allows.
    """
    picked: list[tuple[int, int]] = []
    for source, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        count = round(sizes[0] * share / shares[0])
        for start in range(0, count if size else 0, max(size, 1)):
            some = torch.randperm(size, generator=generator)[: count - start].tolist()
            picked += [(source, position) for position in some]
    return [picked[i] for i in torch.randperm(len(picked), generator=generator).tolist()]


def shares(recipe: Recipe) -> tuple[float, float, float, float]:
    """In the order of the sources: defects, good, strip good, strip defects."""
    return recipe.share_defects, recipe.share_good, recipe.share_strip_good, recipe.share_strip_defects


# Augmentation -----------------------------------------------------------------------------------------------------


def augment(tiles: Tensor, strength: float, warped_share: float, generator: torch.Generator) -> Tensor:
    """Change tiles at random, each on its own.

    tiles: (B, S, S) uint8.  strength: 1 strong, 0 only turns and mirrors.
    Returns (B, 1, S, S) float32, 0 to 255.
    """
    count = len(tiles)

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=generator)

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) < share

    x = tiles[:, None].float()  # (B, 1, S, S)
    x = torch.where(some(0.5), x.flip(-1), x)
    x = torch.where(some(0.5), x.flip(-2), x)
    x = torch.where(some(0.5), x.transpose(-1, -2), x)
    warped = max(1, int(count * warped_share))
    x = torch.cat([_warp(x[:warped], strength, generator), x[warped:]])
    x = torch.where(some(0.3 * strength), _blur(x, generator), x)

    # Brightness alone tells most NEU classes apart: it must not be enough.
    x = 255 * (x / 255).clamp_min(1e-4) ** torch.exp(draw(-0.35, 0.35) * strength)
    mean = x.mean((-1, -2), keepdim=True)
    x = (x - mean) * torch.exp(draw(-0.5, 0.45) * strength) + mean * torch.exp(draw(-0.6, 0.45) * strength)
    line = torch.linspace(-1, 1, x.shape[-1])
    tilt_x, tilt_y = draw(-0.4, 0.4) * strength, draw(-0.4, 0.4) * strength
    x = x * (1 + tilt_x * line[None, None, None, :] + tilt_y * line[None, None, :, None])
    # Half the pixels of the native tile each way: averaging has halved its noise.
    noise = torch.empty_like(x).normal_(generator=generator)
    x = x + noise * (14 * draw(0, 1) ** 2) * strength  # mostly little: faint defects must not drown
    return x.clamp(0, 255)


def _warp(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Turn, stretch, shear and shift; what comes in at the edges is mirrored.  (B, 1, S, S) float32."""
    count = len(x)

    def draw(size: float) -> Tensor:
        return torch.empty(count).uniform_(-size, size, generator=generator) * strength

    angle, zoom, aspect, shear = draw(math.pi / 9), torch.exp(draw(0.28)), torch.exp(draw(0.16)), draw(0.12)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * aspect, -sin + shear, draw(0.2)], 1),
        torch.stack([sin, cos / aspect, draw(0.2)], 1),
    ]
    grid = affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    """Out of focus or moving: a kernel of its own for each tile.  (B, 1, S, S) float32."""
    count = len(x)
    place = torch.arange(-2, 3, dtype=torch.float32)
    across = torch.empty(count, 1, 1).uniform_(0.05, 1.3, generator=generator)
    along = torch.empty(count, 1, 1).uniform_(0.05, 1.3, generator=generator)
    kernel_x = torch.exp(-(place**2)[None, None, :] / (2 * across**2))  # (B, 1, 5)
    kernel_y = torch.exp(-(place**2)[None, :, None] / (2 * along**2))  # (B, 5, 1)
    kernel = kernel_x * kernel_y
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    padded = pad(x.transpose(0, 1), (2, 2, 2, 2), mode="reflect")  # (1, B, S + 4, S + 4)
    return conv2d(padded, kernel[:, None], groups=count).transpose(0, 1)
