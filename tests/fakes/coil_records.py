"""Records of coils with known truth, line by line: defects, a roll mark, holes, width, two cameras."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge.coverage import coil_lines, coil_record
from edge.coverage.coil_lines import CameraView, Defect, Ended, Header, Item, Note, Progress, Runs, Speed, Width
from edge.coverage.runs import Run

MODEL = {"name": "student", "version": "0.3", "sha256": "9f2c41" + "0" * 58}
CONFIG = "77ab0c" + "0" * 58
CLASSES = ("pitted_surface", "scratches", "inclusion", "patches", "rolled-in_scale", "crazing")
CAMERAS = (
    CameraView("top", "top", "left", 0.0, 0.0, 1200.0, 3.0),
    CameraView("bottom", "bottom", "left", 0.0, 0.0, 1200.0, 3.0),
)


@dataclass(frozen=True)
class Truth:
    """What is on the coil, as it was made."""

    coil: str | None = "A4711"
    length_m: float = 1043.2
    defects: tuple[Defect, ...] = ()
    holes: tuple[tuple[str, float, float, str, str], ...] = ()
    """camera, from_m, to_m, kind, cause."""
    cameras: tuple[CameraView, ...] = CAMERAS
    has_ended: bool = True
    missing_seq: bool = False
    number: int = 0
    """Of coils that follow each other."""

    @property
    def id(self) -> str:
        return f"20261122T143721{self.number:03d}Z-A{4711 + self.number}"


def one_defect(seq: int, m: float, across_mm: float, class_name: str = "scratches", **rest: object) -> Defect:
    """A closed defect on the top side, 40 mm long and 20 mm wide."""
    length_m = 0.04
    made = Defect(
        seq,
        False,
        f"t{seq}",
        "2026-11-22T14:40:00.000Z",
        "top",
        "top",
        "A4711",
        class_name,
        "minor",
        0.9,
        m,
        m + length_m,
        (across_mm - 10, across_mm + 10),
        1000 * length_m,
        None,
    )
    return replace(made, **rest)  # type: ignore[arg-type]


def usual(coil: str = "A4711", count: int = 60, seed: int = 1, evidence: Sequence[str] = ()) -> Truth:
    """A coil as lines have them: some defects, a roll mark at the bottom every 2.041 m, holes."""
    dice = random.Random(seed)
    found = []
    for k in range(count):
        side = dice.choice(("top", "bottom"))
        m, across = dice.uniform(5, 1030), dice.uniform(20, 1180)
        made = one_defect(k + 2, m, across, dice.choice(CLASSES), camera=side, surface=side)
        length = dice.uniform(10, 90)
        made = replace(made, length_mm=length, to_m=m + length / 1000, coil=coil, confidence=dice.uniform(0.6, 1))
        found.append(replace(made, severity="major" if length > 80 else "minor"))
    for turn in range(25):
        if turn not in (4, 13, 14, 20):
            m = 791.8 + 2.041 * turn
            made = one_defect(count + 2 + turn, m, 412, "pitted_surface", camera="bottom", surface="bottom")
            severity = "critical" if turn == 10 else "minor"
            found.append(replace(made, coil=coil, severity=severity, length_mm=53.0))
    pictures = list(evidence)
    found = [replace(one, evidence=pictures[k % len(pictures)] if pictures else None) for k, one in enumerate(found)]
    holes = (
        ("bottom", 402.0, 402.3, "missed", "no_signal"),
        ("bottom", 777.3, 778.3, "missed", "bad_image"),
        ("bottom", 781.2, 786.6, "partial", "overload"),
        ("top", 784.2, 785.1, "partial", "overload"),
    )
    return Truth(coil, 1043.2, tuple(found), holes)


def many(count: int, length_m: float = 1043.2, seed: int = 3) -> Truth:
    """So many defects, evenly spread."""
    dice = random.Random(seed)
    sides = ("top", "bottom")

    def made(k: int) -> Defect:
        side, m = sides[k % 2], length_m * k / count
        severity = "critical" if k % 5000 == 7 else "major" if k % 97 == 0 else "minor"
        one = one_defect(k + 2, m, dice.uniform(10, 1190), CLASSES[k % 6], camera=side, surface=side)
        return replace(one, severity=severity, evidence=f"defect/{k:010d}-{side}-{k:016x}.jpg")

    return Truth("A4711", length_m, tuple(made(k) for k in range(count)))


def lines(truth: Truth) -> Iterator[Item]:
    """The record of a coil."""
    started, ended = "2026-11-22T14:37:21.000Z", "2026-11-22T14:52:08.000Z"
    yield Header(truth.id, truth.coil, "line3", started, 1, MODEL, CONFIG, truth.cameras)
    yield Speed(0.0, 1.2)
    yield from truth.defects
    for camera in truth.cameras:
        runs, at_m = [], 0.0
        for name, from_m, to_m, kind, cause in truth.holes:
            if name == camera.name:
                runs += [Run(at_m, from_m, "whole"), Run(from_m, to_m, kind, cause)]  # type: ignore[arg-type]
                at_m = to_m
        runs.append(Run(at_m, truth.length_m, "whole"))
        yield Runs(camera.name, tuple(runs))
    if truth.cameras[0].nominal_mm is not None:
        for m in range(int(truth.length_m)):
            width = 1200.4 + (4.2 if 500 <= m < 520 else 0.8 * ((m % 40) / 40))
            yield Width(truth.cameras[0].name, float(m), width, width - 0.3, width + 0.3)
    yield Note(2, "2026-11-22T14:44:00.000Z", "image.bad", "bottom", "torn")
    last = len(truth.defects) + 2
    yield Progress(last, last - 1 if truth.missing_seq else last)
    if truth.has_ended:
        yield Ended(last, ended, truth.length_m, "command")


def write(folder: Path, truth: Truth) -> Path:
    """Put the record where the node keeps it.  Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{truth.id}.jsonl{'.gz' if truth.has_ended else ''}"
    packed = gzip.GzipFile(path, "wb", mtime=0) if truth.has_ended else path.open("wb")
    with packed as file:
        for item in lines(truth):
            file.write(coil_lines.encoded(item))
    return path


def index(folder: Path) -> None:
    """List the ended coils, as the node does."""
    paths = [path for path in coil_record.record_paths(folder) if path.name.endswith(coil_record.PACKED)]
    coils = [coil_record.summary_of(coil_record.items(path)).as_json() for path in paths]
    content = {"schema": coil_record.INDEX_SCHEMA, "coils": coils}
    (folder / coil_record.INDEX_NAME).write_text(json.dumps(content), "utf-8")
