"""Which of the lanes that run side by side a defect lies in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Lane(Protocol):
    """A part of the strip's width: `edge.config.strip_sections.Lane`.  mm from the operator side of the strip."""

    @property
    def name(self) -> str: ...
    @property
    def from_mm(self) -> float: ...
    @property
    def to_mm(self) -> float: ...


def lanes_of(lanes: Sequence[Lane], across_mm: tuple[float, float] | None) -> tuple[str | None, tuple[str, ...]]:
    """The lane that has most of a defect, and all lanes that the defect touches.

    The first is None beside the lanes.  A defect whose place across is not known may lie in each of them.
    """
    if across_mm is None:
        return None, tuple(lane.name for lane in lanes)
    from_mm, to_mm = across_mm
    shares = [
        (min(to_mm, lane.to_mm) - max(from_mm, lane.from_mm), lane.name)
        for lane in lanes
        if from_mm <= lane.to_mm and to_mm >= lane.from_mm
    ]
    if not shares:
        return None, ()
    most = max(share for share, _ in shares)
    return next(name for share, name in shares if share == most), tuple(name for _, name in shares)
