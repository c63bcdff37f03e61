"""The layout of a data folder: which files belong to which split and class, and how the classes are spelled.

A data folder holds class folders, or `train`, `valid` and `test` folders with the same class folders in each.
The layouts of NEU-CLS are recognised too: folders named `RS` or `rolled-in scale`, and files such as `RS_12.bmp`
without class folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainer.data.pictures import files

SPLIT_NAMES: Final = {
    "train": ("train", "training"), "valid": ("valid", "val", "validation"), "test": ("test", "testing"),
}  # fmt: skip
UNLABELLED: Final = "unsure"
"""A folder that `defectd evidence export` writes: its pictures have no label yet, so it is skipped."""
NEU: Final = {
    "crazing": "cr", "inclusion": "in", "patches": "pa",
    "pitted_surface": "ps", "rolled-in_scale": "rs", "scratches": "sc",
}  # fmt: skip
"""NEU class -> the prefix of its file names."""


def by_split(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Split -> class folder -> files.  A folder without split folders is all `train`."""
    folders = {f.name.lower(): f for f in root.iterdir() if f.is_dir()}
    given = {split: folders[name] for split, names in SPLIT_NAMES.items() for name in names if name in folders}
    if "train" not in given:
        return {"train": _by_class(root)}
    return {split: _by_class(folder) for split, folder in given.items()}


def _by_class(folder: Path) -> dict[str, list[Path]]:
    folders = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != UNLABELLED]
    inside = [f for f in folders if f.name.lower() == "images"]
    if inside and all(f.name.lower() in ("images", "annotations", "labels") for f in folders):
        return _by_class(inside[0])
    if folders:
        return {f.name: files(f) for f in sorted(folders)}
    flat: dict[str, list[Path]] = {}
    for path in files(folder):
        flat.setdefault(re.sub(r"_?\d+$", "", path.stem), []).append(path)
    return flat if flat and all(_neu(name) for name in flat) else {}


def class_names(folders: Sequence[str]) -> dict[str, str]:
    """Folder name -> class name: the NEU spelling if every folder is a NEU class, else the folder's own name."""
    known = {name: _neu(name) for name in folders}
    return {name: full or name for name, full in known.items()} if all(known.values()) else {n: n for n in folders}


def _neu(name: str) -> str | None:
    plain = re.sub(r"[-_ ]", "", name.lower())
    return next((full for full, short in NEU.items() if plain in (short, re.sub(r"[-_]", "", full))), None)
