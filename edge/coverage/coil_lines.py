"""The lines of a coil's record: one JSON value each, appended and never changed (`defectd.coil-record/1`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, cast

from edge.coverage.runs import Run, RunCause, RunKind

SCHEMA: Final = "defectd.coil-record/1"
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class CameraView:
    """A camera that saw the coil, as it was configured when the record started."""

    name: str
    surface: str | None = None
    operator_side: str | None = None
    across_at_mm: float | None = None
    offset_m: float = 0.0
    nominal_mm: float | None = None
    tolerance_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """The first line.  coil: None: no coil was started.  first_seq: of the events that the record covers."""

    id: str
    coil: str | None
    node: str
    started: str
    first_seq: int
    model: Mapping[str, str] = field(default_factory=dict)
    config_sha256: str = ""
    cameras: tuple[CameraView, ...] = ()
    lane: str | None = None
    """The lane that the coil runs on; None: it is the whole strip."""
    lane_mm: Interval | None = None
    """From, to: of the lane, from the operator side of the strip."""


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect.  from_m, to_m: on the coil.  across_mm: from its operator side.  None: unknown.

    is_open: it was seen, and its end was not: the final values are missing.
    """

    seq: int
    is_open: bool
    track_id: str
    time: str
    camera: str
    surface: str | None
    coil: str | None
    class_name: str
    severity: str
    confidence: float
    from_m: float | None
    to_m: float | None
    across_mm: Interval | None
    length_mm: float | None
    evidence: str | None
    lane: str | None = None
    """The lane that has most of it, where its camera has lanes."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one camera."""

    camera: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Width:
    """The width at one place, mm.  at_m: None: unknown."""

    camera: str
    at_m: float | None
    median_mm: float
    least_mm: float
    most_mm: float


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed from this place on."""

    at_m: float | None
    m_per_s: float | None


@dataclass(frozen=True, slots=True)
class Setup:
    """The model or the configuration changed during the coil."""

    seq: int
    time: str
    model: Mapping[str, str]
    config_sha256: str


@dataclass(frozen=True, slots=True)
class Note:
    """Another event that concerns the coil."""

    seq: int
    time: str
    type: str
    camera: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """All events up to `seq` are in the record.  seen: how many, from `Header.first_seq` on."""

    seq: int
    seen: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers that the record has not seen."""

    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that the record does not have: events that never had a number, notes, or all after `full`."""

    what: str
    count: int | None
    time: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The writing started again, after a start of the node or a reload.

    After a start the runs since the line before are unknown.  cameras: as they are configured now.
    """

    time: str
    cameras: tuple[CameraView, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The coil ended.  length_m: None: unknown."""

    seq: int
    time: str
    length_m: float | None
    by: str


Item = Header | Defect | Runs | Width | Speed | Setup | Note | Progress | Missing | Loss | Resumed | Ended


def encoded(item: Item) -> bytes:
    """One line, with its end: an object, or a list of the values of a frequent item in the order that the header says.

    A day of strip has a million lines: names in each of them would be half of the record.
    """
    kind = type(item).__name__.lower()
    line: Any
    match item:
        case Runs(camera, runs):
            line = [kind, camera, [[round(run.from_m, 4), round(run.to_m, 4), run.kind, run.cause] for run in runs]]
        case Defect() | Width() | Speed() | Progress():
            line = [kind, *(getattr(item, name) for name in LISTED[kind])]
        case Header():
            line = {"kind": kind, "schema": SCHEMA, **asdict(item), "lists": LISTED}
        case _:
            line = {"kind": kind, **asdict(item)}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def decoded(line: bytes) -> Item | None:
    """The item of a line; None for a kind that this version does not know.  Raises ValueError for a damaged line."""
    try:
        found = json.loads(line)
        if isinstance(found, list):
            kind, *values = found
            return _LISTS[kind](values) if kind in _LISTS else None
        kind = found.pop("kind")
        return _OBJECTS[kind](found) if kind in _OBJECTS else None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"a damaged line: {error}") from None


def _header(found: dict[str, Any]) -> Header:
    if found.pop("schema") != SCHEMA:
        raise ValueError("another schema")
    found.pop("lists")
    cameras = tuple(CameraView(**camera) for camera in found.pop("cameras"))
    lane_mm = found.pop("lane_mm", None)
    return Header(**found, cameras=cameras, lane_mm=None if lane_mm is None else (float(lane_mm[0]), float(lane_mm[1])))


def _resumed(found: dict[str, Any]) -> Resumed:
    return Resumed(found["time"], tuple(CameraView(**camera) for camera in found["cameras"]))


def _defect(values: list[Any]) -> Defect:
    across = values[_ACROSS]
    if across is not None:
        values[_ACROSS] = float(across[0]), float(across[1])
    for place in _REPEATED:  # a day has 400,000 defects: one text for each camera, class and coil halves their size
        if place < len(values) and type(values[place]) is str:
            values[place] = sys.intern(values[place])
    return Defect(*values[: len(LISTED["defect"])])


def _runs(values: list[Any]) -> Runs:
    camera, listed = values[:2]
    runs = tuple(
        Run(float(from_m), float(to_m), cast("RunKind", kind), cast("RunCause | None", cause))
        for from_m, to_m, kind, cause in listed
    )
    return Runs(camera, runs)


def _values(kind: Callable[..., Item], count: int) -> Callable[[list[Any]], Item]:
    """A later version may append values."""
    return lambda values: kind(*values[:count])


def _fields(kind: Callable[..., Item]) -> Callable[[dict[str, Any]], Item]:
    return lambda found: kind(**found)


LISTED: Final = {
    kind.__name__.lower(): [each.name for each in fields(kind)] for kind in (Defect, Runs, Width, Speed, Progress)
}
_ACROSS: Final = LISTED["defect"].index("across_mm")
_REPEATED: Final = [LISTED["defect"].index(n) for n in ("camera", "surface", "coil", "class_name", "severity", "lane")]
_LISTS: Final[dict[str, Callable[[list[Any]], Item]]] = {
    "defect": _defect,
    "runs": _runs,
    **{kind.__name__.lower(): _values(kind, len(fields(kind))) for kind in (Width, Speed, Progress)},
}
_OBJECTS: Final[dict[str, Callable[[dict[str, Any]], Item]]] = {
    "header": _header,
    "resumed": _resumed,
    **{kind.__name__.lower(): _fields(kind) for kind in (Setup, Note, Missing, Loss, Ended)},
}
