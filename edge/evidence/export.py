"""From evidence to a training folder: tiles in class folders, as `defectd-train` reads them, for people to correct."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from edge.errors import EvidenceError, ImageError
from edge.evidence import archive, labels
from edge.evidence.archive import Stored
from edge.evidence.labels import Label
from edge.frame import Box, Gray
from edge.host.clock import stamp
from edge.vision.decision import ANOMALY, UNKNOWN
from edge.vision.drawing import decoded

MANIFEST: Final = "manifest.csv"
UNSURE: Final = "unsure"
"""The trainer ignores this folder: a person moves its pictures into the class folders."""
_CLASS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .-]{0,62}")


@dataclass(frozen=True, slots=True)
class Tile:
    """One row of the manifest.

    label: what a person says where `confirmed`; else the verdict of the model, only a guess where it is `unsure`.
    by: who says it.  blind: taken at random, and labelled before anybody saw the verdict of the model.
    """

    file: str
    label: str
    kind: str
    camera: str
    time: str
    confidence: float | None
    event_id: str
    source: str
    frame: int | None
    tile_px: str
    """x y w h in the frame, px."""
    evidence: str
    sha256: str
    by: str = ""
    blind: bool = False
    confirmed: bool = False

    def row(self) -> list[Any]:
        """Its cells: `yes` and `no` for what is true or not."""
        return [("no", "yes")[cell] if isinstance(cell, bool) else cell for cell in astuple(self)]


def chosen(
    folder: Path, *, since_wall_ns: int = 0, camera: str | None = None, kinds: Sequence[str] = ()
) -> Iterator[tuple[Stored, dict[str, Any]]]:
    """Pictures with their facts, oldest first.  Raises EvidenceError."""
    since = stamp(since_wall_ns)
    for stored in archive.pictures(folder):
        if camera in (None, stored.camera) and (not kinds or stored.kind in kinds):
            facts = archive.facts(folder, stored)
            if facts and str(facts.get("time", "")) >= since:
                yield stored, facts


def export(folder: Path, found: Sequence[tuple[Stored, dict[str, Any]]], out: Path) -> Iterator[Tile]:
    """Write `out/LABEL/FILE` and the manifest; yields each tile.  The folder appears complete, at the end.

    A tile is written as the archive has it; of a defect, the tile with the highest confidence is cut out at the size it
    had in the frame. Whole frames and bad pictures are left out.  Raises EvidenceError when `out` exists or cannot be
    written.
    """
    yield from _written(out, lambda unfinished: (_write(folder, stored, facts, unfinished) for stored, facts in found))


def chosen_labels(
    folder: Path, *, since_wall_ns: int = 0, camera: str | None = None, kinds: Sequence[str] = (), min_pictures: int = 0
) -> tuple[list[Label], Counter[str]]:
    """The labels that count and may be exported, oldest first, and how many are left out of each class.

    folder: `state_dir/labels`.  since_wall_ns: by the time of the label.  min_pictures: a class with fewer labels is
    left out.  Raises EvidenceError.
    """
    since = stamp(since_wall_ns)
    found = [
        one
        for one in labels.read(folder)
        if one.time >= since and camera in (None, one.origin.camera) and (not kinds or one.origin.kind in kinds)
    ]
    counts = Counter(one.label for one in found)
    left_out = Counter({name: n for name, n in counts.items() if name == labels.UNCLEAR or n < min_pictures})
    return [one for one in found if one.label not in left_out], left_out


def export_labels(folder: Path, found: Sequence[Label], out: Path) -> Iterator[Tile]:
    """Write the labelled pictures as `export` does: each in the folder of the class that a person gave it.

    folder: `state_dir/labels`.  Raises EvidenceError.
    """
    yield from _written(out, lambda unfinished: (_write_label(folder, label, unfinished) for label in found))


def _written(out: Path, tiles_in: Callable[[Path], Iterable[Tile | None]]) -> Iterator[Tile]:
    """Write tiles and the manifest.  tiles_in: writes the tiles into a folder, one after the other."""
    if out.exists():
        raise EvidenceError("disk", f"{out} exists already: give a new folder")
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with (unfinished / MANIFEST).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(field.name for field in fields(Tile))
            for tile in tiles_in(unfinished):
                if tile is not None:
                    rows.writerow(tile.row())
                    yield tile
        unfinished.rename(out)
    except OSError as error:
        raise EvidenceError("disk", f"{out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, stored: Stored, facts: dict[str, Any], out: Path) -> Tile | None:
    """None when the picture was deleted meanwhile, is damaged, or shows no tile."""
    if stored.kind in ("frame", "image"):
        return None
    try:
        data = archive.read(folder, stored.path)
    except EvidenceError:
        return None
    label = str(facts.get("label", UNSURE))
    if not _CLASS.fullmatch(label) or label in (ANOMALY, UNKNOWN):
        label = UNSURE
    return _put(out, label, stored.path, data, facts)


def _write_label(folder: Path, label: Label, out: Path) -> Tile | None:
    """None when the copy is gone or damaged, or shows no tile."""
    try:
        data = labels.picture(folder, label)
    except EvidenceError:
        return None
    tile = _put(out, label.label, label.origin.evidence, data, archive.facts_of(data))
    return None if tile is None else replace(tile, by=label.by, blind=label.blind, confirmed=True)


def _put(out: Path, label: str, path: str, data: bytes, facts: dict[str, Any]) -> Tile | None:
    """Write one picture into the folder of its label.  path: in the archive.  None when it shows no tile."""
    named = archive.named(path)
    if named is None:
        return None
    try:
        place, content, suffix = _tile(named.kind, facts, data)
    except (ImageError, ValueError, TypeError, KeyError):
        return None
    name = Path(path).with_suffix(suffix).name
    (out / label).mkdir(exist_ok=True)
    (out / label / name).write_bytes(content)
    return Tile(
        file=f"{label}/{name}",
        label=label,
        kind=named.kind,
        camera=named.camera,
        time=str(facts.get("time", "")),
        confidence=facts.get("confidence"),
        event_id=str(facts.get("event_id", "")),
        source=str(facts.get("source", "")),
        frame=facts.get("frame"),
        tile_px=" ".join(map(str, place)),
        evidence=path,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _tile(kind: str, facts: dict[str, Any], data: bytes) -> tuple[Box, bytes, str]:
    """Its place in the frame, its bytes, and the suffix of the file name."""
    crop = _box(facts["crop_px"])
    if kind != "defect":
        return crop, data, ".jpg"
    peak = _box(facts["peak_px"] or facts["box_px"])
    done, png = cv2.imencode(".png", _cut(decoded(data), crop, peak))
    if not done:
        raise ImageError("the tile cannot be encoded")
    return peak, png.tobytes(), ".png"


def _box(value: Any) -> Box:
    x, y, w, h = (int(number) for number in value)
    if min(w, h) < 1:
        raise ValueError("a box without area")
    return x, y, w, h


def _cut(picture: Gray, crop: Box, tile: Box) -> Gray:
    """Cut the tile out of the picture of the crop, at the scale of the frame even if the picture was shrunk."""
    scale = picture.shape[1] / crop[2]
    left, top = max(0, tile[0] - crop[0]), max(0, tile[1] - crop[1])
    right, bottom = min(crop[2], tile[0] - crop[0] + tile[2]), min(crop[3], tile[1] - crop[1] + tile[3])
    if right <= left or bottom <= top:
        raise ValueError("the tile lies outside its picture")
    part = picture[round(top * scale) : round(bottom * scale), round(left * scale) : round(right * scale)]
    if scale != 1.0:
        part = np.asarray(cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR), np.uint8)
    return part
