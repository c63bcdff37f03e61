"""The defects of one coil in little memory: some 150 bytes each, however many there are."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Final

from edge.coverage.coil_lines import Defect

_UNKNOWN: Final = math.nan


class _Names:
    """Names as small numbers.  None is one of them."""

    def __init__(self) -> None:
        self._numbers: dict[str | None, int] = {}
        self.names: list[str | None] = []

    def number(self, name: str | None) -> int:
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.names)
            self.names.append(name)
        return found


class DefectTable:
    """Columns in place of objects.  A defect that was open and is closed now has one row: the last values count."""

    def __init__(self) -> None:
        self._seq = array("q")
        self._is_open = array("b")
        self._places = array("d")
        """from_m, to_m of each row."""
        self._sizes = array("d")
        """across from and to, length, confidence of each row."""
        self._words = array("L")
        """Numbers of camera, surface, class and severity of each row."""
        self._names = _Names()
        self._evidence: list[str | None] = []
        self._open: dict[str, int] = {}
        """Rows of open defects, by their tracks."""

    def __len__(self) -> int:
        return len(self._seq)

    def add(self, defect: Defect) -> None:
        """Take in a defect, or the final values of one that was open."""
        row = self._open.pop(defect.track_id, None)
        if row is None:
            row = len(self._seq)
            self._seq.append(0)
            self._is_open.append(0)
            self._places.extend((0.0, 0.0))
            self._sizes.extend((0.0, 0.0, 0.0, 0.0))
            self._words.extend((0, 0, 0, 0))
            self._evidence.append(None)
        if defect.is_open:
            self._open[defect.track_id] = row
        across = defect.across_mm or (_UNKNOWN, _UNKNOWN)
        self._seq[row] = defect.seq
        self._is_open[row] = defect.is_open
        self._places[2 * row : 2 * row + 2] = array("d", (_stored(defect.from_m), _stored(defect.to_m)))
        self._sizes[4 * row : 4 * row + 4] = array("d", (*across, _stored(defect.length_mm), defect.confidence))
        words = (defect.camera, defect.surface, defect.class_name, defect.severity)
        self._words[4 * row : 4 * row + 4] = array("L", [self._names.number(word) for word in words])
        self._evidence[row] = defect.evidence

    def in_order(self, length_m: float | None = None) -> Iterator[Defect]:
        """All defects in the order of their places, unplaced ones last.  Their tracks and times are empty.

        length_m: of the coil: places then count from its tail.
        """
        places, seqs = self._places, self._seq
        if length_m is None:
            order = sorted(range(len(self)), key=lambda row: _order(places[2 * row], seqs[row]))
        else:
            order = sorted(range(len(self)), key=lambda row: _order(_turned(places, row, length_m)[0], seqs[row]))
        for row in order:
            yield self._defect(row, length_m)

    def _defect(self, row: int, length_m: float | None) -> Defect:
        from_m, to_m = self._places[2 * row : 2 * row + 2]
        if length_m is not None:
            from_m, to_m = _turned(self._places, row, length_m)
        one, other, length_mm, confidence = self._sizes[4 * row : 4 * row + 4]
        camera, surface, class_name, severity = (self._names.names[k] for k in self._words[4 * row : 4 * row + 4])
        return Defect(
            self._seq[row],
            bool(self._is_open[row]),
            "",
            "",
            camera or "",
            surface,
            None,
            class_name or "",
            severity or "",
            confidence,
            _known(from_m),
            _known(to_m),
            None if math.isnan(one) else (one, other),
            _known(length_mm),
            self._evidence[row],
        )


def _turned(places: array[float], row: int, length_m: float) -> tuple[float, float]:
    """From and to, counted from the tail."""
    from_m, to_m = places[2 * row : 2 * row + 2]
    if math.isnan(to_m):
        return length_m - from_m, to_m
    return length_m - to_m, length_m - from_m


def _stored(value: float | None) -> float:
    return _UNKNOWN if value is None else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _order(from_m: float, seq: int) -> tuple[float, int]:
    return (math.inf if math.isnan(from_m) else from_m), seq
