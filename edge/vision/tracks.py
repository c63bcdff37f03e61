"""Defects over frames: one flaw on a moving strip gives one opening and one closing, not an event per frame.

A region confirms a track when it was seen in k of n frames. A track stays open through weaker sightings (unsure
tiles) and short gaps, and closes when nothing was seen for `close_frames` frames. Tiles are coarse, so positions
jump by a tile now and then: matching is by class, distance and the direction of travel, not by exact motion.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edge import config
from edge.clock import NS_PER_S
from edge.event import Defect
from edge.vision.decision import Box, Findings, Region, overlap_px, union

SAME_FLAW = 0.3
"""Share of the smaller box that two sightings of different class must have in common to be one flaw."""


@dataclass(frozen=True, slots=True)
class Change:
    """A defect was confirmed, or is over."""

    type: Literal["defect.opened", "defect.closed"]
    defect: Defect


@dataclass(slots=True)
class _Track:
    track_id: str
    first_ns: int
    last_ns: int
    first_box: Box
    box: Box
    largest: Box
    recent: deque[bool]
    votes: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    tiles: int = 0
    misses: int = 0
    is_open: bool = False

    def see(self, regions: Sequence[Region], now_ns: int) -> None:
        """Take in what this frame shows of the flaw; several regions are parts of one."""
        box = regions[0].box_px
        for region in regions:
            self.votes[region.class_name] = self.votes.get(region.class_name, 0.0) + region.confidence
            self.best[region.class_name] = max(self.best.get(region.class_name, 0.0), region.confidence)
            box = union(box, region.box_px)
        self.box = box
        if box[2] * box[3] > self.largest[2] * self.largest[3]:
            self.largest = box
        self.frames += 1
        self.tiles = max(self.tiles, sum(region.tiles for region in regions))
        self.last_ns = now_ns
        self.misses = 0
        self.recent.append(True)

    @property
    def class_name(self) -> str:
        return max(self.votes, key=lambda name: (self.votes[name], name))

    @property
    def travelled(self) -> tuple[int, int]:
        (x0, y0), (x1, y1) = _centre(self.first_box), _centre(self.box)
        return x1 - x0, y1 - y0

    def as_defect(self, box: Box) -> Defect:
        return Defect(
            track_id=self.track_id,
            class_name=self.class_name,
            confidence=self.best[self.class_name],
            box_px=box,
            frames=self.frames,
            tiles=self.tiles,
            duration_s=(self.last_ns - self.first_ns) / NS_PER_S,
        )


class Tracks:
    """The flaws in view of one camera. Bounded by the number of tiles times `close_frames`."""

    def __init__(self, decision: config.Decision, tile_px: int, new_id: Callable[[], str]) -> None:
        self._decision = decision
        self._tile_px = tile_px
        self._shift_px = tile_px if decision.max_shift_px is None else decision.max_shift_px
        self._new_id = new_id
        self._tracks: list[_Track] = []
        self._travel: tuple[int, int] = (0, 0)
        """How the last flaw moved across the frame: where the strip runs to."""

    def __len__(self) -> int:
        return sum(track.is_open for track in self._tracks)

    def step(self, findings: Findings, now_ns: int, elapsed_frames: int = 1) -> list[Change]:
        """Take in one inspected frame, also when it shows nothing.

        elapsed_frames: 1, or more after frames that were not inspected: the strip has moved on that far.
        """
        seen = self._assign(findings.regions, max(1, elapsed_frames))
        for track in self._tracks:
            regions = seen.pop(id(track), None)
            if regions:
                track.see(regions, now_ns)
            elif self._is_held(track, findings.suspects):
                track.recent.append(False)
                track.last_ns = now_ns
            else:
                track.recent.append(False)
                track.misses += 1
        self._tracks += [self._begin(region, now_ns) for region in seen.pop(0, [])]
        return [*self._confirm(), *self._finish(lambda track: track.misses >= self._decision.close_frames)]

    def close_all(self) -> list[Change]:
        """Close what is open: the camera ended, or the daemon stops."""
        return list(self._finish(lambda _track: True))

    def _begin(self, region: Region, now_ns: int) -> _Track:
        box = region.box_px
        recent: deque[bool] = deque(maxlen=self._decision.confirm_window)
        track = _Track(self._new_id(), now_ns, now_ns, box, box, box, recent)
        track.see([region], now_ns)
        return track

    def _confirm(self) -> Iterable[Change]:
        for track in self._tracks:
            if not track.is_open and sum(track.recent) >= self._decision.confirm_frames:
                track.is_open = True
                yield Change("defect.opened", track.as_defect(track.box))

    def _finish(self, is_over: Callable[[_Track], bool]) -> Iterable[Change]:
        kept = []
        for track in self._tracks:
            if not is_over(track):
                kept.append(track)
                continue
            if math.hypot(*track.travelled) >= self._tile_px / 2:
                self._travel = track.travelled
            if track.is_open:
                yield Change("defect.closed", track.as_defect(track.largest))
        self._tracks = kept

    def _assign(self, regions: Sequence[Region], elapsed: int) -> dict[int, list[Region]]:
        """Regions by id() of their track; those of no track under 0."""
        pairs = [
            (region.class_name != track.class_name, distance, r, t)
            for r, region in enumerate(regions)
            for t, track in enumerate(self._tracks)
            if (distance := self._distance(track, region, elapsed)) is not None
        ]
        owner: dict[int, int] = {}
        taken: set[int] = set()
        for _, _, r, t in sorted(pairs):
            if r not in owner and t not in taken:
                owner[r] = t
                taken.add(t)
        # A flaw may fall apart into several regions, or several run together: no new track for a part.
        for r, region in enumerate(regions):
            if r not in owner:
                whole = next((t for t in taken if _is_part(region.box_px, self._tracks[t].box)), None)
                if whole is not None:
                    owner[r] = whole
        assigned: dict[int, list[Region]] = {}
        for r, region in enumerate(regions):
            key = id(self._tracks[owner[r]]) if r in owner else 0
            assigned.setdefault(key, []).append(region)
        for track in self._tracks:
            if id(track) not in assigned:
                hiding = [r for r in regions if r.class_name == track.class_name and _is_part(track.box, r.box_px)]
                if hiding:
                    assigned[id(track)] = hiding[:1]
        return assigned

    def _distance(self, track: _Track, region: Region, elapsed: int) -> float | None:
        """How far the flaw would have moved, px; None when this cannot be the same one."""
        if region.class_name != track.class_name:
            smaller = min(track.box[2] * track.box[3], region.box_px[2] * region.box_px[3])
            if overlap_px(track.box, region.box_px) < SAME_FLAW * smaller:
                return None
        reach = self._shift_px * elapsed
        if overlap_px(_grown(track.box, reach), _grown(region.box_px, 1)) == 0:
            return None
        (x0, y0), (x1, y1) = _centre(track.box), _centre(region.box_px)
        moved = (x1 - x0, y1 - y0)
        own = track.travelled
        travel = own if math.hypot(*own) >= self._tile_px / 2 else self._travel
        length = math.hypot(*travel)
        if length > 0:
            along = (moved[0] * travel[0] + moved[1] * travel[1]) / length
            if along < -self._tile_px / 2:
                return None  # against the strip's direction: the next flaw coming in
        return math.hypot(*moved)

    def _is_held(self, track: _Track, suspects: Sequence[Box]) -> bool:
        """An open track outlives frames that are merely unsure where it stands."""
        return track.is_open and any(_is_part(box, track.box) for box in suspects)


def at_once(findings: Findings, new_id: Callable[[], str]) -> list[Change]:
    """For frames that are pieces of their own: every region is opened and closed by its frame."""
    changes = []
    for region in findings.regions:
        defect = Defect(new_id(), region.class_name, region.confidence, region.box_px, frames=1, tiles=region.tiles)
        changes += [Change("defect.opened", defect), Change("defect.closed", defect)]
    return changes


def _centre(box: Box) -> tuple[int, int]:
    return box[0] + box[2] // 2, box[1] + box[3] // 2


def _grown(box: Box, margin: int) -> Box:
    return box[0] - margin, box[1] - margin, box[2] + 2 * margin, box[3] + 2 * margin


def _is_part(part: Box, whole: Box) -> bool:
    return overlap_px(part, whole) >= SAME_FLAW * part[2] * part[3]
