"""From evidence to a training folder: tiles in class folders, as `defectd-train` reads them, for people to correct."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from edge.errors import EvidenceError, ImageError
from edge.evidence import archive
from edge.evidence.archive import Stored
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
    """One row of the manifest.  label: the verdict of the model; only a guess where it is `unsure`."""

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
    if out.exists():
        raise EvidenceError("disk", f"{out} exists already: give a new folder")
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with (unfinished / MANIFEST).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(field.name for field in fields(Tile))
            for stored, facts in found:
                tile = _write(folder, stored, facts, unfinished)
                if tile is not None:
                    rows.writerow(astuple(tile))
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
        place, content, suffix = _tile(stored, facts, data)
    except (EvidenceError, ImageError, ValueError, TypeError, KeyError):
        return None
    label = str(facts.get("label", UNSURE))
    if not _CLASS.fullmatch(label) or label in (ANOMALY, UNKNOWN):
        label = UNSURE
    name = Path(stored.path).with_suffix(suffix).name
    (out / label).mkdir(exist_ok=True)
    (out / label / name).write_bytes(content)
    return Tile(
        file=f"{label}/{name}",
        label=label,
        kind=stored.kind,
        camera=stored.camera,
        time=str(facts.get("time", "")),
        confidence=facts.get("confidence"),
        event_id=str(facts.get("event_id", "")),
        source=str(facts.get("source", "")),
        frame=facts.get("frame"),
        tile_px=" ".join(map(str, place)),
        evidence=stored.path,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _tile(stored: Stored, facts: dict[str, Any], data: bytes) -> tuple[Box, bytes, str]:
    """Its place in the frame, its bytes, and the suffix of the file name."""
    crop = _box(facts["crop_px"])
    if stored.kind != "defect":
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
