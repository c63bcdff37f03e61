"""The lines of a coil's record: one JSON object each, appended and never changed (`defectd.coil-record/1`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
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
    """One line, with its end."""
    fields: dict[str, Any]
    if isinstance(item, Runs):
        runs = [[round(run.from_m, 4), round(run.to_m, 4), run.kind, run.cause] for run in item.runs]
        fields = {"camera": item.camera, "runs": runs}
    else:
        fields = asdict(item)
    kind = type(item).__name__.lower()
    head = {"kind": kind, **({"schema": SCHEMA} if isinstance(item, Header) else {})}
    return json.dumps({**head, **fields}, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def decoded(line: bytes) -> Item | None:
    """The item of a line; None for a kind that this version does not know.  Raises ValueError for a damaged line."""
    try:
        fields = json.loads(line)
        kind = fields.pop("kind")
        if kind not in _READERS:
            return None
        return _READERS[kind](fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a damaged line: {error}") from None


def _header(fields: dict[str, Any]) -> Header:
    if fields.pop("schema") != SCHEMA:
        raise ValueError("another schema")
    cameras = tuple(CameraView(**camera) for camera in fields.pop("cameras"))
    return Header(**fields, cameras=cameras)


def _resumed(fields: dict[str, Any]) -> Resumed:
    return Resumed(fields["time"], tuple(CameraView(**camera) for camera in fields["cameras"]))


def _defect(fields: dict[str, Any]) -> Defect:
    across = fields.pop("across_mm")
    return Defect(**fields, across_mm=None if across is None else (float(across[0]), float(across[1])))


def _runs(fields: dict[str, Any]) -> Runs:
    runs = tuple(
        Run(float(from_m), float(to_m), cast("RunKind", kind), cast("RunCause | None", cause))
        for from_m, to_m, kind, cause in fields["runs"]
    )
    return Runs(fields["camera"], runs)


def _plain(kind: Callable[..., Item]) -> Callable[[dict[str, Any]], Item]:
    return lambda fields: kind(**fields)


_PLAIN: Final = (Width, Speed, Setup, Note, Progress, Missing, Loss, Ended)
_READERS: Final[dict[str, Callable[[dict[str, Any]], Item]]] = {
    "header": _header,
    "defect": _defect,
    "runs": _runs,
    "resumed": _resumed,
    **{kind.__name__.lower(): _plain(kind) for kind in _PLAIN},
}
