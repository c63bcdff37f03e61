"""Does a camera show the kind of steel that the model was trained on?  Judged by the tiles that may show a defect.

Good surface says little: smooth steel of any mill is alike. A part is at least SUSPECTS tiles over at least ten
seconds. Each column of tiles has one vote in it, because the same mark of a roll repeats in one column and would
outvote all other defects. The median of the parts of some minutes of defects is compared with two limits, so that the
answer does not flicker.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from edge.host.clock import NS_PER_S
from edge.model.surface import TrainingSurface

SAMPLE_NS: Final = NS_PER_S // 5
"""At most five frames per second are measured."""
PART_NS: Final = 10 * NS_PER_S
SUSPECTS: Final = 8
MAX_PARTS: Final = 12
MIN_PARTS: Final = 3
"""For the first answer."""
CONFIRM: Final = 3
"""Medians in a row, one per part, that change an answer."""
OUTSIDE: Final = 1.1
"""The medians of the training's own classes and of the generated strip are at most 1.0, those of other mills' defects
at least 1.36 (docs/models.md)."""
INSIDE: Final = 1.0
MAX_KEPT: Final = 64
"""Distances of a part that are kept, in each column."""

Answer = Literal["inside", "outside"]


class Suspect(NamedTuple):
    """A tile that may show a defect.

    column: its place across the frame, counted in tiles.  distance: from the training's surface; 1 and less is usual.
    """

    column: int
    distance: float


@dataclass(slots=True)
class _Part:
    started_ns: int
    columns: dict[int, list[float]]
    """Distances, by column."""

    @property
    def tiles(self) -> int:
        return sum(map(len, self.columns.values()))

    @property
    def median(self) -> float:
        return float(np.median([np.median(distances) for distances in self.columns.values()]))


class DomainWatch:
    """Compares one camera with the training's surface. Pure: the time is an argument. Keeps a few numbers per part."""

    def __init__(self, surface: TrainingSurface) -> None:
        self.surface = surface
        self.answer: Answer | None = None
        """None: not enough tiles yet."""
        self.median: float | None = None
        """Of the parts; None before the first answer."""
        self.tiles = 0
        """Tiles in the parts so far."""
        self._part: _Part | None = None
        self._parts: deque[float] = deque(maxlen=MAX_PARTS)
        self._streak = 0
        self._sampled_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether to measure this frame."""
        return self._sampled_ns is None or now_ns - self._sampled_ns >= SAMPLE_NS

    def step(self, suspects: Sequence[Suspect], now_ns: int) -> Answer | None:
        """Add the suspect tiles of a frame.  Returns the answer where it has changed."""
        self._sampled_ns = now_ns
        known = [one for one in suspects if math.isfinite(one.distance)]
        if not known:
            return None
        if self._part is None:
            self._part = _Part(now_ns, {})
        part = self._part
        self.tiles += len(known)
        for one in known:
            kept = part.columns.setdefault(one.column, [])
            if len(kept) < MAX_KEPT:
                kept.append(one.distance)
        if now_ns - part.started_ns < PART_NS or part.tiles < SUSPECTS:
            return None
        self._parts.append(part.median)
        self._part = None
        return self._judged()

    def _judged(self) -> Answer | None:
        if len(self._parts) < MIN_PARTS:
            return None
        self.median = round(float(np.median(self._parts)), 3)
        limit = INSIDE if self.answer == "outside" else OUTSIDE
        found: Answer = "outside" if self.median > limit else "inside"
        if self.answer is None:
            self.answer = found
            return found
        self._streak = self._streak + 1 if found != self.answer else 0
        if self._streak < CONFIRM:
            return None
        self.answer, self._streak = found, 0
        return found
