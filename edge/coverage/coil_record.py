"""The record of one coil, as its readers see it.  The page process is one of them: nothing heavy is imported here.

    STATE_DIR/coils/ID.jsonl       a coil that runs, or that has just ended: one line for each item (`coil_lines`)
    STATE_DIR/coils/ID.jsonl.gz    an ended coil
    STATE_DIR/coils/index.json     a summary of each ended coil

`delivery.coils` writes them. A last line without its end is being written, or was torn by a power cut: readers leave it
out.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge.coverage.coil_lines import (
    Defect,
    Ended,
    Header,
    Item,
    Loss,
    Missing,
    Note,
    Progress,
    Resumed,
    Runs,
    Setup,
    Speed,
    Width,
    decoded,
)
from edge.coverage.runs import Run, complement
from edge.host import regular_file

INDEX_SCHEMA: Final = "defectd.coil-index/1"
INDEX_NAME: Final = "index.json"
PLAIN: Final = ".jsonl"
PACKED: Final = ".jsonl.gz"
MAX_LINE_BYTES: Final = 1 << 20
MAX_INDEX_BYTES: Final = 1 << 28
MAX_MISSING: Final = 100
"""Ranges of missing numbers that are listed; all are counted."""
MAX_OPEN: Final = 10_000
"""Open defects that totals remember: further ones count twice rather than not at all."""


# ---- files ---------------------------------------------------------------------------------------------


def items(path: Path) -> Iterator[Item]:
    """The items of a record, plain or compressed, in the order of writing; damaged lines are left out.

    Raises OSError.
    """
    with regular_file.opened(path) as file:
        stream = gzip.GzipFile(fileobj=file) if path.name.endswith(PACKED) else file
        try:
            while line := stream.readline(MAX_LINE_BYTES):
                item = _item(line)
                if item is not None:
                    yield item
        except (EOFError, zlib.error):
            return  # a compressed file that is cut off or damaged: what it held is unknown


def _item(line: bytes) -> Item | None:
    try:
        return decoded(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


class Tail:
    """Reads what was appended to the record of a running coil.  Owned by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0

    def read(self, max_bytes: int = 1 << 22) -> list[Item]:
        """The items since the last call, from at most `max_bytes`.  Raises OSError, also when the record is packed."""
        with regular_file.opened(self.path) as file:
            file.seek(self._at)
            block = file.read(max_bytes)
        whole = block[: block.rfind(b"\n") + 1]
        self._at += len(whole)
        return [item for line in whole.splitlines(keepends=True) if (item := _item(line)) is not None]


# ---- summaries -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeqProof:
    """Which events the record covers, and whether one is missing."""

    first: int
    last: int
    seen: int
    missing: tuple[tuple[int, int], ...] = ()
    """Ranges, bounds included; at most MAX_MISSING."""
    lost: int = 0
    """Events that were lost before they had a number."""

    @property
    def is_complete(self) -> bool:
        """Whether each number of the range was seen, and nothing was lost without a number."""
        return self.seen == self.last - self.first + 1 and not self.lost


@dataclass(frozen=True, slots=True)
class CameraMeters:
    """Meters of the coil that passed a camera."""

    whole: float = 0.0
    partial: float = 0.0
    missed: float = 0.0
    unknown: float = 0.0


@dataclass(frozen=True, slots=True)
class CoilSummary:
    """One coil in a list.  ended: None: it runs.  length_m: None: unknown.

    Defects are counted as each camera saw them; `coil_map.merged` makes one of those in an overlap.
    """

    id: str
    coil: str | None
    node: str
    started: str
    ended: str | None
    length_m: float | None
    defects: int
    severities: Mapping[str, int]
    classes: Mapping[str, int]
    meters: Mapping[str, CameraMeters]
    seq: SeqProof
    losses: tuple[str, ...] = ()
    """What else the record does not have, in words."""
    lane: str | None = None
    """The lane that the coil ran on; None: it was the whole strip."""

    @property
    def is_complete(self) -> bool:
        return self.seq.is_complete and not self.losses

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_complete": self.is_complete}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> CoilSummary:
        """Raises ValueError, KeyError or TypeError for other content."""
        fields = dict(fields)
        fields.pop("is_complete")
        seq = fields.pop("seq")
        missing = tuple((first, last) for first, last in seq.pop("missing"))
        meters = {name: CameraMeters(**each) for name, each in fields.pop("meters").items()}
        losses = tuple(fields.pop("losses"))
        return cls(**fields, seq=SeqProof(**seq, missing=missing), meters=meters, losses=losses)


class Totals:
    """The sums over the items of a record; its memory does not grow with the coil."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self.ended: Ended | None = None
        self.last_seq = 0
        self.seen = 0
        self._missing: list[tuple[int, int]] = []
        self._lost = 0
        self._losses: list[str] = []
        self._open: dict[str, Defect] = {}
        self._severities: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()
        self._meters: dict[str, dict[str, float]] = {}
        self._ends: dict[str, float] = {}
        """How far the runs of each camera reach."""

    def add(self, item: Item) -> None:  # noqa: C901 (a table)
        match item:
            case Header():
                self.header = item
                self.last_seq = item.first_seq - 1
            case Defect():
                self._add_defect(item)
            case Runs(camera, runs):
                for run in runs:
                    self._add_run(camera, run)
            case Progress(seq, seen):
                self.last_seq, self.seen = seq, seen
            case Missing(first, last):
                if len(self._missing) < MAX_MISSING:
                    self._missing.append((first, last))
            case Loss(what, count, _):
                if what == "events":
                    self._lost += count or 1
                elif len(self._losses) < MAX_MISSING:
                    self._losses.append(what)
            case Ended():
                self.ended = item
            case _:
                pass

    def _add_defect(self, defect: Defect) -> None:
        assert self.header is not None
        if defect.coil != self.header.coil:
            return
        known = self._open.pop(defect.track_id, None)
        if known is not None:
            self._severities[known.severity] -= 1
            self._classes[known.class_name] -= 1
        self._severities[defect.severity] += 1
        self._classes[defect.class_name] += 1
        if defect.is_open:
            if len(self._open) >= MAX_OPEN:
                self._open.pop(next(iter(self._open)))
            self._open[defect.track_id] = defect

    def _add_run(self, camera: str, run: Run) -> None:
        meters = self._meters.setdefault(camera, dict.fromkeys(("whole", "partial", "missed", "unknown"), 0.0))
        assert self.header is not None
        start = 0.0 if self.header.coil is not None else run.from_m  # without a coil, a record starts anywhere
        end = self._ends.get(camera, start)
        if run.to_m <= end:
            return
        meters["unknown"] += max(0.0, run.from_m - end)
        meters[run.kind] += run.to_m - max(run.from_m, end)
        self._ends[camera] = run.to_m

    def summary(self) -> CoilSummary:
        """Raises ValueError for a record without a header."""
        head, ended = self.header, self.ended
        if head is None:
            raise ValueError("the record has no header")
        length = None if ended is None else ended.length_m
        meters = {}
        for camera, sums in self._meters.items():
            rest = 0.0 if length is None else max(0.0, length - self._ends[camera])
            rounded = {kind: round(value, 3) for kind, value in sums.items()}
            meters[camera] = CameraMeters(**{**rounded, "unknown": round(sums["unknown"] + rest, 3)})
        proof = SeqProof(head.first_seq, self.last_seq, self.seen, tuple(self._missing), self._lost)
        return CoilSummary(
            head.id,
            head.coil,
            head.node,
            head.started,
            None if ended is None else ended.time,
            length if length is not None or ended is not None else max(self._ends.values(), default=None),
            sum(self._severities.values()),
            {name: n for name, n in sorted(self._severities.items()) if n},
            {name: n for name, n in sorted(self._classes.items()) if n},
            meters,
            proof,
            tuple(self._losses),
            head.lane,
        )


def summary_of(found: Iterable[Item]) -> CoilSummary:
    """The sums of a record.  Raises ValueError for one without a header."""
    totals = Totals()
    for item in found:
        if isinstance(item, Header) or totals.header is not None:
            totals.add(item)
    return totals.summary()


def summaries(folder: Path) -> list[CoilSummary]:
    """All coils, the newest first.  Reads running coils as a whole.

    Left out: a record that cannot be read, and strip without a coil, unless it is what runs now.
    """
    found = {summary.id: summary for summary in indexed(folder)}
    for path in record_paths(folder):
        if record_id(path) not in found:
            try:
                found[record_id(path)] = summary_of(items(path))
            except (OSError, ValueError):
                continue
    listed = (summary for summary in found.values() if summary.coil is not None or summary.ended is None)
    return sorted(listed, key=lambda summary: summary.id, reverse=True)


def indexed(folder: Path) -> list[CoilSummary]:
    """The summaries of ended coils; none where the index cannot be read: each record can make its own again."""
    try:
        content = json.loads(regular_file.read(folder / INDEX_NAME, MAX_INDEX_BYTES))
        if content["schema"] != INDEX_SCHEMA:
            return []
        return [CoilSummary.from_json(each) for each in content["coils"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def record_paths(folder: Path) -> list[Path]:
    """The files of records, oldest first."""
    try:
        found = [path for path in folder.iterdir() if path.name.endswith((PLAIN, PACKED))]
    except OSError:
        return []
    return sorted(found, key=lambda path: path.name)


def record_id(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(PLAIN)


def find(folder: Path, wanted: str) -> Path | None:
    """The record with this id, or else the newest of this coil; None: there is none."""
    paths = record_paths(folder)
    for path in paths:
        if record_id(path) == wanted:
            return path
    names = {summary.id: summary.coil for summary in indexed(folder)}
    for path in reversed(paths):
        name = names[record_id(path)] if record_id(path) in names else _name_of(path)
        if name == wanted:
            return path
    return None


def _name_of(path: Path) -> str | None:
    first = header_of(path)
    return None if first is None else first.coil


def header_of(path: Path) -> Header | None:
    """The first line; None where it cannot be read, or is not written yet."""
    try:
        first = next(items(path), None)
    except OSError:
        return None
    return first if isinstance(first, Header) else None


def current(folder: Path, lane: str | None = None) -> Path | None:
    """The record that is being written: the newest plain one, of the strip or of one lane."""
    plain = [path for path in record_paths(folder) if path.name.endswith(PLAIN)]
    if lane is None and len(plain) == 1:
        return plain[0]
    for path in reversed(plain):
        header = header_of(path)
        if (None if header is None else header.lane) == lane:
            return path
    return None


# ---- a whole record ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoilRecord:
    """Everything about one coil, for its report.

    defects: as each camera saw them, in the order of their places, unplaced ones last.  runs: by camera, from 0 m on
    without a hole: what no run covers is unknown.  A camera without any run is not in it.
    """

    header: Header
    summary: CoilSummary
    defects: tuple[Defect, ...]
    runs: Mapping[str, tuple[Run, ...]]
    width: Mapping[str, tuple[Width, ...]]
    speed: tuple[Speed, ...]
    setups: tuple[Setup, ...]
    notes: tuple[Note, ...]
    resumed: tuple[Resumed, ...]
    ended: Ended | None


def read(path: Path) -> CoilRecord:
    """A record as a whole, about 1.5 kB of memory for each defect.  Raises OSError, ValueError."""
    totals = Totals()
    defects: dict[str, Defect] = {}
    runs: dict[str, list[Run]] = {}
    width: dict[str, list[Width]] = {}
    rest: dict[type[Item], list[Any]] = {Speed: [], Setup: [], Note: [], Resumed: []}
    for item in items(path):
        if totals.header is None and not isinstance(item, Header):
            continue
        totals.add(item)
        assert totals.header is not None
        match item:
            case Defect():
                if item.coil == totals.header.coil:
                    defects[item.track_id] = item
            case Runs(camera, found):
                runs.setdefault(camera, []).extend(found)
            case Width():
                width.setdefault(item.camera, []).append(item)
            case Speed() | Setup() | Note() | Resumed():
                rest[type(item)].append(item)
            case _:
                pass
    summary = totals.summary()
    header = totals.header
    assert header is not None
    if not header.config_sha256 and rest[Setup]:  # the first record of a node starts before its first event
        first = rest[Setup].pop(0)
        header = replace(header, model=first.model, config_sha256=first.config_sha256)
    return CoilRecord(
        header,
        summary,
        tuple(sorted(defects.values(), key=_place)),
        {camera: _whole(found, summary) for camera, found in runs.items()},
        {camera: tuple(found) for camera, found in width.items()},
        tuple(rest[Speed]),
        tuple(rest[Setup]),
        tuple(rest[Note]),
        tuple(rest[Resumed]),
        totals.ended,
    )


def _place(defect: Defect) -> tuple[bool, float, int]:
    return defect.from_m is None, defect.from_m or 0.0, defect.seq


def _whole(runs: list[Run], summary: CoilSummary) -> tuple[Run, ...]:
    """The runs of a camera from the start of the coil to its end, or as far as it is known."""
    reach = max(run.to_m for run in runs)
    start = 0.0 if summary.coil is not None else min(run.from_m for run in runs)
    length = summary.length_m if summary.ended is not None else None
    return tuple(complement(runs, start, max(reach, length or 0.0) if length is None else length))
