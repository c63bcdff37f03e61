"""Tiles to teach classes from: class folders of any names, or pictures with boxes in a `boxes.json`.

boxes.json    {"picture.jpg": [["class", left, top, right, bottom], ...]}, px; the pictures are beside it
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.calibration import labelled_tiles
from edge.calibration.labelled_tiles import GOOD_FOLDERS, LeftOut
from edge.camera.recordings import iter_recording
from edge.camera.sources.contract import Unreadable
from edge.errors import CalibrationError
from edge.evidence.export import MANIFEST, UNSURE
from edge.evidence.labels import MAX_CLASSES, UNCLEAR, is_new_class
from edge.frame import Gray
from edge.host import regular_file
from edge.host.clock import NS_PER_S, wall_ns_of
from edge.vision.decision import ANOMALY, UNKNOWN
from edge.vision.taught_classes import GOOD
from edge.vision.tiles import shrink

BOXES: Final = "boxes.json"
MAX_BOXES_BYTES: Final = 32 << 20
MAX_TILES: Final = 5000
NOT_TAUGHT: Final = (UNSURE, UNCLEAR, ANOMALY, UNKNOWN)
"""Folders of an export that say that nobody has given a name."""
SAME_DEFECT_NS: Final = 3 * NS_PER_S
"""Pictures of one class at one camera within this time show one defect."""
Marked = tuple[str, int, int, int, int]
"""A box: class, left, top, right, bottom, px."""


@dataclass(frozen=True, slots=True)
class LessonTile:
    """One labelled tile.  picture: equal for tiles that show one picture or one defect.  pixels: (side, side) uint8."""

    label: str
    picture: str
    pixels: Gray


def read(folders: Sequence[Path], tile_px: int, other_px: int, side: int, left_out: LeftOut) -> Iterator[LessonTile]:
    """Yield the tiles of all folders.

    tile_px: of the camera: the side of tiles around boxes.  other_px: single tiles may have that side, too.
    side: of the network's input.  Raises CalibrationError.
    """
    plain = [folder for folder in folders if not (folder / BOXES).is_file()]
    for folder in folders:
        if folder not in plain:
            yield from _boxed(folder, tile_px, side, left_out)
    if plain:
        names = _names_in(plain)
        defects = [name for name in names if name != GOOD]
        found = labelled_tiles.find(plain, defects, skipped=NOT_TAUGHT)
        if len(found) > MAX_TILES:
            raise CalibrationError(f"{len(found)} pictures are too many, at most {MAX_TILES}: give a sample")
        same = _same_defects(plain)
        for one, pixels in labelled_tiles.read(found, side, (tile_px, other_px), left_out):
            label = GOOD if one.label == len(defects) else defects[one.label]
            yield LessonTile(label, same.get(one.path.resolve(), str(one.path)), pixels)


def _names_in(folders: Sequence[Path]) -> list[str]:
    """Classes that the folders name.  Raises CalibrationError."""
    found: set[str] = set()
    for folder in folders:
        try:
            inner = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        except OSError as error:
            raise CalibrationError(
                f"{folder} cannot be read: {error.strerror}. Give a folder of class folders"
            ) from None
        found |= {
            _class(name, str(folder / name)) for name in inner if labelled_tiles.normalised(name) not in NOT_TAUGHT
        }
    return _checked(found)


def _class(name: str, where: str) -> str:
    """The name of a class, as events carry it.  Raises CalibrationError."""
    plain = labelled_tiles.normalised(name)
    if plain in GOOD_FOLDERS:
        return GOOD
    if plain in NOT_TAUGHT or not is_new_class(plain):
        raise CalibrationError(
            f"{where}: {name[:80]!r} cannot be the name of a class: up to 63 letters, digits, dots, dashes and "
            f"underscores, and not {', '.join(NOT_TAUGHT)}"
        )
    return plain


def _checked(names: Iterable[str]) -> list[str]:
    found = sorted(set(names))
    if len(found) > MAX_CLASSES:
        raise CalibrationError(f"{len(found)} classes are too many, at most {MAX_CLASSES}")
    return found


def _boxed(folder: Path, tile_px: int, side: int, left_out: LeftOut) -> Iterator[LessonTile]:
    count = 0
    for name, boxes in _boxes_of(folder).items():
        path = folder / name
        pixels = _picture(path, left_out)
        if pixels is None:
            continue
        height, width = pixels.shape
        if min(height, width) < tile_px:
            left_out.reasons.append((path, f"is {width}x{height} px, smaller than a tile of {tile_px} px"))
            continue
        for label, left, top, right, bottom in boxes:
            x = int(np.clip((left + right - tile_px) // 2, 0, width - tile_px))
            y = int(np.clip((top + bottom - tile_px) // 2, 0, height - tile_px))
            count += 1
            if count > MAX_TILES:
                raise CalibrationError(f"{folder / BOXES}: too many boxes, at most {MAX_TILES}: give a sample")
            yield LessonTile(label, str(path), shrink(pixels[y : y + tile_px, x : x + tile_px], side, side))


def _box(value: Any) -> Marked:
    """Raises ValueError, TypeError."""
    label, left, top, right, bottom = value
    marked = (str(label), int(left), int(top), int(right), int(bottom))
    if marked[3] <= marked[1] or marked[4] <= marked[2]:
        raise ValueError(f"a box without area: {str(value)[:80]}")
    return marked


def _boxes_of(folder: Path) -> dict[str, list[Marked]]:
    where = folder / BOXES
    try:
        content: Any = json.loads(regular_file.read(where, MAX_BOXES_BYTES))
        raw = {str(name): [_box(box) for box in boxes] for name, boxes in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CalibrationError(
            f'{where} cannot be used: {error}. It holds {{"picture.jpg": [["class", left, top, right, bottom], ...]}}'
        ) from None
    found: dict[str, list[Marked]] = {}
    for name, boxes in raw.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CalibrationError(f"{where}: {name[:80]!r} is not a picture beside it")
        for box in boxes:
            found.setdefault(name, []).append((_class(box[0], str(where)), *box[1:]))
    _checked({box[0] for boxes in found.values() for box in boxes})
    return found


def _picture(path: Path, left_out: LeftOut) -> Gray | None:
    for picture in iter_recording(path):
        if isinstance(picture, Unreadable):
            left_out.reasons.append((path, str(picture.error)))
            return None
        return picture.pixels
    return None


def _same_defects(folders: Sequence[Path]) -> dict[Path, str]:
    """What pictures of evidence exports have in common, by file: one defect gives several pictures."""
    found: dict[Path, str] = {}
    for folder in folders:
        rows: list[tuple[str, str, int, str]] = []
        try:
            with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
                rows += [
                    (row["camera"], row["label"], wall_ns_of(row["time"]), row["file"]) for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            continue  # not an export, or not a readable one: each picture stands alone
        before: tuple[str, str, int] | None = None
        defect = 0
        for camera, label, at_ns, name in sorted(rows):
            if before is None or before[:2] != (camera, label) or at_ns - before[2] > SAME_DEFECT_NS:
                defect += 1
            before = camera, label, at_ns
            found |= dict.fromkeys(_places(folder, name), f"{folder}: {defect}")
    return found


def _places(folder: Path, name: str) -> list[Path]:
    """Where a picture of an export is: a person may have moved it into another class folder."""
    here = folder / name
    return [path.resolve() for path in (here, *folder.glob(f"*/{here.name}")) if path.is_file()]
