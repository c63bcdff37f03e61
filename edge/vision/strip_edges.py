"""The edges of the strip in this frame, for a strip that wanders: a fast version of `edge.calibration.roi`.

The search covers only the part of the frame in which calibration saw the edge, plus a margin, in BANDS bands of a few
rows each. An edge is a step up from a dark, uniform background; its place is half way up. The bands vote.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import cv2
import numpy as np

from edge.config.camera_calibration import Side, Track
from edge.frame import Float32s, Gray
from edge.vision.tiles import Rectangle

BANDS: Final = 8
BORDER_PX: Final = 8
"""Minimum width of background before an edge."""
DARK: Final = 0.2
"""Share of the strip's brightness: background is darker."""
FLAT: Final = 6.0
"""Gray levels: the standard deviation of background is smaller."""
STEP: Final = 0.08
"""Share of the strip's brightness: an edge rises by more, within REACH_PX."""
REACH_PX: Final = 16
LOOK_BACK_PX: Final = 30
"""Background is averaged over this length before a step."""
STRAIGHT_PX: Final = 4.0
"""Bands whose place is further from the fitted line are outliers."""
AGREE: Final = 0.6
"""Minimum share of the bands that show the edge on one line."""

ROWS: Final = 4
"""Rows per band that are averaged."""
MAX_COLUMNS: Final = 256
"""A longer search range is shrunk to this."""
SPARE_PX: Final = 64
"""Margin of the search around where calibration saw the edge: this, or as far as the edge wandered there if more."""
SLOW_PX: Final = 24.0
"""An edge further from its last place is accepted only after NEW_FRAMES sightings there in a row."""
NEW_FRAMES: Final = 3
LEVEL_EVERY: Final = 8
"""Frames per measurement of the strip's brightness."""
HOLD_FRAMES: Final = 30
"""Frames without an edge for which its last place holds; then the fixed region holds until it is seen again."""
QUANTUM_PX: Final = 4
"""The region moves in steps of this size, so that the noise of an edge does not lay new tiles."""

EdgeState = Literal["seen", "held", "lost"]


@dataclass(frozen=True, slots=True)
class EdgePlace:
    """One edge in one frame, px from the left or the top: its innermost point, and its place half way along it."""

    innermost_px: float
    middle_px: float


@dataclass(slots=True)
class EdgeTrack:
    """One edge over time.  at_px: its innermost place, from the left or the top; None: not seen yet.

    middle_px: its place half way along it, where the width is measured.  unseen: frames in a row without the edge.
    lost_frames: frames with the fixed region in its place, since the start.
    """

    at_px: float | None = None
    middle_px: float | None = None
    unseen: int = 0
    lost_frames: int = 0
    _candidate_px: float = 0.0
    _candidate_frames: int = 0

    @property
    def state(self) -> EdgeState:
        """seen; held: unseen for a moment, the last place holds; lost: the fixed region holds."""
        if self.at_px is None or self.unseen > HOLD_FRAMES:
            return "lost"
        return "held" if self.unseen else "seen"

    def step(self, found: EdgePlace | None) -> None:
        """Add one frame.  found: the place of the edge in it; None: not found."""
        if found is not None and self._is_accepted(found.innermost_px):
            self.at_px, self.middle_px, self.unseen = found.innermost_px, found.middle_px, 0
            return
        self.unseen += 1
        self.lost_frames += self.state == "lost"

    def _is_accepted(self, found_px: float) -> bool:
        if self.state != "lost" and self.at_px is not None and abs(found_px - self.at_px) <= SLOW_PX:
            self._candidate_frames = 0
            return True
        is_same = self._candidate_frames > 0 and abs(found_px - self._candidate_px) <= SLOW_PX
        self._candidate_frames, self._candidate_px = (self._candidate_frames + 1 if is_same else 1), found_px
        if self._candidate_frames < NEW_FRAMES:
            return False
        self._candidate_frames = 0
        return True


@dataclass(slots=True)
class StripFollower:
    """The region of one camera, frame by frame.  Owned by one thread.

    fixed: x y w h that holds where an edge is lost: inside all places where calibration saw it.
    """

    track: Track
    fixed: Rectangle
    edges: dict[Side, EdgeTrack] = field(default_factory=dict)
    _bounds: dict[Side, int] = field(default_factory=dict)
    _brightness: float = 0.0
    _frames: int = 0

    def __post_init__(self) -> None:
        self.edges = {side: EdgeTrack() for side in self.track.seen_px}

    def step(self, image: Gray) -> Rectangle:
        """The region in the next frame, x y w h, inside the edges by the margin.  image: (H, W) uint8, not kept."""
        height, width = image.shape
        if self._frames % LEVEL_EVERY == 0:
            self._brightness = _brightness_of_strip(image)
        self._frames += 1
        x, y, w, h = self.fixed
        bounds: dict[Side, int] = {"left": x, "top": y, "right": x + w, "bottom": y + h}
        found = locate(image, {side: self._search_range(side, width, height) for side in self.edges}, self._brightness)
        for side, followed in self.edges.items():
            followed.step(found[side])
            bounds[side] = self._bound(side, followed, bounds[side])
        left, top, right, bottom = bounds["left"], bounds["top"], bounds["right"], bounds["bottom"]
        if right - left < 1 or bottom - top < 1:
            return self.fixed
        return left, top, right - left, bottom - top

    def _search_range(self, side: Side, width: int, height: int) -> tuple[int, int]:
        """Where to search, px from the left or the top: around the last place, or everywhere the edge may be."""
        followed, end = self.edges[side], width if side in ("left", "right") else height
        if followed.at_px is not None and followed.unseen == 0:
            return max(0, int(followed.at_px - SLOW_PX)), min(end, int(followed.at_px + SLOW_PX) + 1)
        low, high = self.track.seen_px[side]
        spare = max(SPARE_PX, high - low)
        return max(0, int(low - spare)), min(end, int(high + spare) + 1)

    def _bound(self, side: Side, followed: EdgeTrack, fixed_px: int) -> int:
        """Where the region starts or ends: never outside the edge, and fixed while the edge only trembles."""
        if followed.state == "lost" or followed.at_px is None:
            self._bounds.pop(side, None)
            return fixed_px
        inwards = 1 if side in ("left", "top") else -1
        wanted = inwards * followed.at_px + self.track.margin_px
        now = self._bounds.get(side)
        if now is None or not wanted <= inwards * now <= wanted + 2 * QUANTUM_PX:
            now = inwards * int(np.ceil(wanted / QUANTUM_PX) * QUANTUM_PX)
            self._bounds[side] = now
        return now


def locate(image: Gray, searched: Mapping[Side, tuple[int, int]], level: float) -> dict[Side, EdgePlace | None]:
    """The place of the edge on each side; None where there is none.

    image: (H, W) uint8.  searched: search range, px from the left or the top.  level: brightness of the strip.
    """
    found: dict[Side, EdgePlace | None] = dict.fromkeys(searched)
    for upright, turned in ((True, image), (False, image.T)):
        stretches = {side: at for side, at in searched.items() if (side in ("left", "right")) == upright}
        if stretches:
            found.update(_located(turned, stretches, level))
    return found


def _located(image: Gray, searched: Mapping[Side, tuple[int, int]], level: float) -> Iterator[tuple[Side, EdgePlace]]:
    """The edges of one direction, searched together in ranges of one length."""
    length, depth = image.shape
    size = min(depth, max(end - start for start, end in searched.values()) + LOOK_BACK_PX + REACH_PX)
    shrunk = min(size, MAX_COLUMNS)
    rows = image[:: max(1, length // (BANDS * ROWS))]
    if shrunk <= LOOK_BACK_PX + REACH_PX or len(rows) < BANDS:
        return
    profiles = np.empty((len(searched), BANDS, shrunk), np.uint8)
    borders = []
    for profile, (side, (start, end)) in zip(profiles, searched.items(), strict=True):
        if side in ("left", "top"):
            border = min(max(0, start - LOOK_BACK_PX), depth - size)
            stretch = rows[:, border : border + size]
        else:
            border = max(min(depth, end + LOOK_BACK_PX), size)
            stretch = rows[:, border - size : border][:, ::-1]
        borders.append(border)
        cv2.resize(np.ascontiguousarray(stretch), (shrunk, BANDS), profile, interpolation=cv2.INTER_AREA)
    places = _places(profiles.reshape(-1, shrunk).astype(np.float32), level).reshape(-1, BANDS).tolist()
    for side, border, bands in zip(searched, borders, places, strict=True):
        line = _line({band: at for band, at in enumerate(bands) if not math.isnan(at)})
        if line is not None:
            inwards = 1 if side in ("left", "top") else -1
            innermost, middle = line
            # A place counts from the middle of the outermost pixel: without the half, the strip would be 1 px too wide.
            yield (
                side,
                EdgePlace(
                    border + inwards * innermost * size / shrunk, border + inwards * (middle + 0.5) * size / shrunk
                ),
            )


def _places(profiles: Float32s, level: float) -> Float32s:
    """The place of the step in each profile, half way up; NaN without a step.

    profiles: (N, n) float32, from the border inwards.  Returns (N,) float32, in pixels of the profile.
    """
    count, n = profiles.shape
    sums = np.cumsum(profiles, axis=1)  # of the pixels up to and including this one
    before = np.empty((count, n - REACH_PX - BORDER_PX), np.float32)
    few = LOOK_BACK_PX - BORDER_PX
    before[:, :few] = sums[:, BORDER_PX - 1 : LOOK_BACK_PX - 1] * _SHARES
    np.subtract(
        sums[:, LOOK_BACK_PX - 1 : -REACH_PX - 1],
        np.concatenate((np.zeros((count, 1), np.float32), sums[:, : n - REACH_PX - LOOK_BACK_PX - 1]), axis=1),
        out=before[:, few:],
    )
    before[:, few:] *= np.float32(1 / LOOK_BACK_PX)
    pair = np.minimum(profiles[:, :-1], profiles[:, 1:])
    ahead = np.minimum(pair[:, BORDER_PX : n - REACH_PX], pair[:, BORDER_PX + 2 : n - REACH_PX + 2])
    rises = ahead - before >= max(6.0, STEP * level)
    first = rises.argmax(axis=1)
    row = np.arange(count)
    border, ground = profiles[:, :BORDER_PX], before[row, first]
    darkest, brightest = border.min(axis=1), border.max(axis=1)
    seen = rises[row, first] & (np.maximum(brightest, ground) <= DARK * level) & (brightest - darkest <= 4 * FLAT)
    near = profiles[row[:, None], np.maximum(first[:, None] + _NEAR, 0)]
    plateau = np.partition(near[:, REACH_PX : REACH_PX + REACH_PX // 2], REACH_PX // 4, axis=1)[:, REACH_PX // 4]
    half = (ground + plateau) / 2
    crossing = np.maximum(1, (near >= half[:, None]).argmax(axis=1))
    over, below = near[row, crossing], near[row, crossing - 1]
    part = (half - below) / np.maximum(over - below, np.float32(1e-6))
    return np.where(seen, first + (BORDER_PX - REACH_PX - 1) + crossing + np.minimum(np.maximum(part, 0), 1), np.nan)


_SHARES: Final = (1 / np.arange(BORDER_PX, LOOK_BACK_PX)).astype(np.float32)
_NEAR: Final = np.arange(BORDER_PX - REACH_PX, BORDER_PX + REACH_PX)
"""Offsets around the index of a step, in pixels of the profile."""


def _line(places: Mapping[int, float]) -> tuple[float, float] | None:
    """The innermost point and the middle of a line through the places; None when too few places lie on one line.

    places: by band, in ascending order.  Slope: median over pairs of bands (Theil and Sen).
    """
    if len(places) < AGREE * BANDS:
        return None
    slope = 0.0
    if max(places.values()) - min(places.values()) > STRAIGHT_PX:
        points = list(places.items())
        slope = _median([(q - p) / (j - i) for n, (j, q) in enumerate(points) for i, p in points[:n]])
    levelled = [place - slope * band for band, place in places.items()]
    offset = _median(levelled)
    if sum(abs(place - offset) <= STRAIGHT_PX for place in levelled) < AGREE * len(places):
        return None
    return max(offset - slope / 2, offset + slope * (BANDS - 0.5)), offset + slope * (BANDS - 1) / 2


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _brightness_of_strip(image: Gray) -> float:
    """The 90 % quantile of the gray levels: the brightness of the strip, wherever it lies."""
    sample = image[:: max(1, image.shape[0] // 16), :: max(1, image.shape[1] // 64)].ravel()
    rank = int(0.9 * (len(sample) - 1))
    return float(np.partition(sample, rank)[rank])
