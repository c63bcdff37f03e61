"""Picture files: which files are pictures, in which order they come, and how they are read and cut into tiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge.camera.image_files import read_image
from edge.errors import ImageError
from edge.frame import Gray
from edge.vision.tiles import lay
from trainer.recipe import TrainingError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
REMEDY: Final = "Remove or replace it"


@dataclass(frozen=True, slots=True)
class Picture:
    """One file.  label: index into `Index.classes`; for defect-free surface, the number of classes."""

    path: Path
    label: int
    sha256: str = ""
    """Of the file's bytes."""
    group: int = -1
    """Near duplicates share this number; -1: near duplicates were not searched."""


def files(folder: Path) -> list[Path]:
    """The picture files of one folder, in numeric order; an empty list if the folder does not exist."""
    if not folder.is_dir():
        return []
    found = (f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    return sorted(found, key=_natural)


def order(picture: Picture) -> tuple[int, list[tuple[int, str]], str]:
    """Sort key: by label, then by file number."""
    return picture.label, _natural(picture.path), str(picture.path)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts a_9 before a_10: files with neighbouring numbers often show neighbouring places of a coil."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


def read(path: Path) -> Gray:
    """Decode one picture as the daemon does.  Returns (H, W) uint8, the high byte of 16 bit.  Raises TrainingError."""
    try:
        return read_image(path)
    except ImageError as error:
        reason = str(error).removeprefix(str(path)).lstrip(": ")
        raise TrainingError(f"{path}: {reason}. {REMEDY}") from error


def cut(image: Gray, input_px: int) -> Gray:
    """Cut one picture into the tiles that the daemon would make of it.  Returns (N, input_px, input_px) uint8."""
    height, width = image.shape
    return lay((height, width), tile_px=min(height, width), input_px=input_px).cut(image)


def tile_px(pictures: Sequence[Picture]) -> int:
    """The native tile size of the training pictures: the median of their shorter sides, px."""
    return int(np.median([min(read(p.path).shape) for p in pictures]))
