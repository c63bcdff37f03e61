"""Folders of pictures: what they hold, and how it is read.

A data folder holds either class folders, or `train`, `valid` and `test` with the same class folders in each.
A class folder named `good` or `normal` shows sound surface.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.frame import Gray
from edge.vision.tiles import lay
from trainer.recipe import TrainingError

SPLITS = ("train", "valid", "test")
GOOD_NAMES = ("good", "normal")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
HELD_OUT = 0.08
"""Share of the training pictures of each class that is kept from training, for the temperature."""
FEWEST = 2
"""Pictures of a class that must be left for training once the other parts are taken."""

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
