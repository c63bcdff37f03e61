"""Which tiles of a frame come first when there is no time for all: suspicious ones, then each in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.frame import Box, Indices


class TileOrder:
    """The order of the tiles of one camera and frame size.  Owned by one thread."""

    def __init__(self, boxes: npt.NDArray[np.int32]) -> None:
        """boxes: (N, 4) x y w h of the tiles, px."""
        self._boxes = boxes
        self._seen = np.zeros(len(boxes), np.int64)
        """The round in which each tile was last inspected; 0: never."""
        self._round = 0
        self._suspicious: Sequence[Box] = ()

    def move_to(self, boxes: npt.NDArray[np.int32]) -> None:
        """Move the tiles: each new one takes over the turn of the nearest old one.  boxes: (M, 4) int32, px."""
        if boxes is self._boxes:
            return
        before, after = (box[:, :2] + box[:, 2:] / 2 for box in (self._boxes, boxes))
        distances = np.abs(after[:, None, :] - before[None, :, :]).sum(axis=2)
        self._seen, self._boxes = self._seen[distances.argmin(axis=1)], boxes

    def order(self, count: int) -> Indices:
        """The `count` tiles to inspect, the most important first.  Returns (count,) indices.

        Tiles that touch a suspicious box of the last frame come first, but take at most half of the places. The others
        are those not inspected for longest: every tile is inspected within `N / ceil(count / 2)` frames, rounded up.
        """
        turns = np.argsort(self._seen, kind="stable")
        suspects = self._suspects()[: count // 2]
        if len(suspects) == 0:
            return turns[:count]
        others = turns[~np.isin(turns, suspects)]
        return np.concatenate([suspects, others[: count - len(suspects)]])

    def mark_inspected(self, tiles: Indices | None, suspicious: Sequence[Box]) -> None:
        """Record that these tiles (None: all) were inspected.  suspicious: boxes of defects and unsure tiles."""
        self._round += 1
        if tiles is None:
            self._seen.fill(self._round)
        else:
            self._seen[tiles] = self._round
        self._suspicious = suspicious

    def _suspects(self) -> Indices:
        """Tiles that overlap a suspicious box, those not inspected for longest first."""
        if not self._suspicious:
            return np.empty(0, np.intp)
        x, y, w, h = (self._boxes[:, i, None] for i in range(4))
        left, top, width, height = np.array(self._suspicious, np.int32).T
        touch = (x < left + width) & (left < x + w) & (y < top + height) & (top < y + h)
        found = np.flatnonzero(touch.any(axis=1))
        return found[np.argsort(self._seen[found], kind="stable")]
