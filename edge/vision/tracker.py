"""Defects over frames: one flaw on a moving strip gives one opening and one closing, not an event per frame.

A region confirms a track when it was seen in k of n frames. A track stays open through weaker sightings (unsure
tiles) and short gaps, and closes when nothing was seen for `close_frames` frames. Tiles are coarse, so positions
jump by a tile now and then: matching is by class, distance and the direction of travel, not by exact motion.
The direction is only a hint: a strip that turns round must not hide its flaws.

Where the speed of the strip is known, a flaw is looked for where it must have moved to, however far that is, and stays
open while it is still in view. A speed or a scale may be wrong: until it has explained what the picture alone does
not, the picture alone is good for a match, too (see `_trust`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final, Literal

from edge import config
from edge.coverage.strip_position import Span
from edge.event import Defect
from edge.frame import Box
from edge.host.clock import NS_PER_S
from edge.vision.boxes import overlap_px, union
from edge.vision.decision import ANOMALY, Findings, Region

SAME_FLAW = 0.3
"""Share of the smaller box that two sightings of different class must have in common to be one flaw."""
MAX_TRACKS: Final = 256
"""Per camera. Beyond it the oldest are closed: no strip has so many flaws in view that are worth telling apart."""
MAX_HELD: Final = 5
"""Unsure tiles alone keep a track open for this many times `close_frames`: they may be dirt that stays in view.  The
same for a flaw that should still be in view."""
SLACK: Final = 0.25
"""Share of a tile, and of the way, by which a flaw may stand beside where the speed puts it."""
PROVEN: Final = 3
"""Matches that only the speed explains, until it is trusted."""
MAX_TRUST: Final = 10

Place = Callable[[Box], Span | None]
"""From a box in this frame to the strip; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Change:
    """A defect was confirmed, or is over."""

    type: Literal["defect.opened", "defect.closed"]
    defect: Defect
    span: Span | None = None
    """What the flaw takes up of the strip, as far as it was seen."""


@dataclass(frozen=True, slots=True)
class Motion:
    """What is known of the strip's run since the frame before.

    drift_px: right and down.  frame_px: width and height.
    """

    drift_px: tuple[float, float]
    frame_px: tuple[int, int]


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
    unseen: int = 0
    """Frames since the last sighting, with those that were not inspected."""
    misses: int = 0
    """The same, but for the frames in which unsure tiles held it."""
    held: int = 0
    span: int = 0
    """Frames from the first sighting to the last."""
    is_open: bool = False
    drift: tuple[float, float] | None = None
    """How far it has moved since the last sighting, px, by the speed of the strip; None: unknown."""
    extent: Span | None = None
    """What it takes up of the strip."""
    shown: Box | None = None
    """Where in the box the flaw itself shows."""
    largest_shown: Box | None = None
    anomaly: float | None = None
    """The largest so far."""

    def see(self, regions: Sequence[Region], now_ns: int, place: Place) -> None:
        """Take in what this frame shows of the flaw; several regions are parts of one."""
        box, shown = regions[0].box_px, _shown(regions)
        for region in regions:
            self.votes[region.class_name] = self.votes.get(region.class_name, 0.0) + region.confidence
            self.best[region.class_name] = max(self.best.get(region.class_name, 0.0), region.confidence)
            if region.anomaly is not None:
                self.anomaly = max(self.anomaly or 0.0, region.anomaly)
            box = union(box, region.box_px)
        self.box, self.shown = box, shown
        self.drift = (0.0, 0.0)
        seen_at = place(shown or box)
        if self.extent is not None:
            self.extent = self.extent.joined(seen_at)
        elif seen_at is not None:
            self.extent = replace(seen_at, whole=self.frames == 0)
        if self.frames == 0 or box[2] * box[3] > self.largest[2] * self.largest[3]:
            self.largest, self.largest_shown = box, shown
        self.frames += 1
        self.tiles = max(self.tiles, sum(region.tiles for region in regions))
        self.last_ns = now_ns
        self.span += self.unseen
        self.unseen = self.misses = self.held = 0
        self.recent.append(True)

    @property
    def class_name(self) -> str:
        return max(self.votes, key=lambda name: (self.votes[name], name))

    @property
    def travelled(self) -> tuple[int, int]:
        """What both ends of the box have moved, px: a box that only grew or shrank has not travelled."""
        (x0, y0, w0, h0), (x1, y1, w1, h1) = self.first_box, self.box
        return _common(x1 - x0, x1 + w1 - x0 - w0), _common(y1 - y0, y1 + h1 - y0 - h0)

    @property
    def can_be_confirmed(self) -> bool:
        return self.is_open or any(self.recent)

    def as_defect(self, box: Box, shown: Box | None) -> Defect:
        return Defect(
            track_id=self.track_id,
            class_name=self.class_name,
            confidence=self.best[self.class_name],
            box_px=box,
            extent_px=shown,
            frames=self.frames,
            tiles=self.tiles,
            duration_s=(self.last_ns - self.first_ns) / NS_PER_S,
            anomaly=self.anomaly,
        )


class Tracker:
    """The flaws in view of one camera, at most MAX_TRACKS."""

    def __init__(self, decision: config.Decision, tile_px: int, new_id: Callable[[], str]) -> None:
        self._decision = decision
        self._tile_px = tile_px
        self._shift_px = tile_px if decision.max_shift_px is None else decision.max_shift_px
        self._patience = max(decision.close_frames, decision.confirm_window)
        self._new_id = new_id
        self._tracks: list[_Track] = []
        self._flow: tuple[float, float] = (0.0, 0.0)
        """How the last flaw moved across the frame, px per frame: where the strip runs to. Zero: unknown."""
        self._motion: Motion | None = None
        self._place: Place = lambda _box: None
        self._trust = 0
        """How often the speed explained what the picture alone did not, less how often it was the other way."""

    def __len__(self) -> int:
        return sum(track.is_open for track in self._tracks)

    def step(
        self,
        findings: Findings,
        now_ns: int,
        elapsed_frames: int = 1,
        motion: Motion | None = None,
        place: Place = lambda _box: None,
    ) -> list[Change]:
        """Take in one inspected frame, also when it shows nothing.

        elapsed_frames: 1, or more after frames that were not inspected: the strip has moved on that far.
        motion: since the last call, where the speed of the strip is known.  place: for this frame.
        """
        elapsed = max(1, elapsed_frames)
        self._place = place
        self._motion = motion
        for track in self._tracks:
            track.unseen += elapsed
            drift = track.drift
            track.drift = None if motion is None or drift is None else _sum(drift, motion.drift_px)
        seen = self._assign(findings.regions, elapsed)
        for track in self._tracks:
            regions = seen.pop(id(track), None)
            if regions:
                track.see(regions, now_ns, self._place)
            else:
                track.recent.append(False)
                if self._is_held(track, findings.suspects):
                    track.held += elapsed
                    track.last_ns = now_ns
                else:
                    track.misses += elapsed
        self._tracks += [self._begin(region, now_ns) for region in seen.pop(0, [])]
        changes = [*self._confirm(), *self._finish(self._is_over)]
        excess = {id(track) for track in self._tracks[:-MAX_TRACKS]}
        return [*changes, *self._finish(lambda track: id(track) in excess)]

    def _is_over(self, track: _Track) -> bool:
        if track.is_open:
            patience = MAX_HELD if self._must_show(track) else 1
            return track.misses >= patience * self._decision.close_frames
        return not track.can_be_confirmed

    def _must_show(self, track: _Track) -> bool:
        """Whether the flaw has moved, and is still in view by the speed of the strip: then it may be seen again."""
        if self._motion is None or track.drift is None or math.hypot(*track.drift) < self._tile_px / 2:
            return False
        return _is_part(_drifted(track), (0, 0, *self._motion.frame_px))

    def close_all(self) -> list[Change]:
        """Close what is open: the camera ended, or the daemon stops."""
        return list(self._finish(lambda _track: True))

    def _begin(self, region: Region, now_ns: int) -> _Track:
        box = region.box_px
        recent: deque[bool] = deque(maxlen=self._decision.confirm_window)
        track = _Track(self._new_id(), now_ns, now_ns, box, box, box, recent)
        track.see([region], now_ns, self._place)
        return track

    def _confirm(self) -> Iterable[Change]:
        for track in self._tracks:
            if not track.is_open and sum(track.recent) >= self._decision.confirm_frames:
                track.is_open = True
                yield Change("defect.opened", track.as_defect(track.box, track.shown), track.extent)

    def _finish(self, is_over: Callable[[_Track], bool]) -> Iterable[Change]:
        kept = []
        for track in self._tracks:
            if not is_over(track):
                kept.append(track)
                continue
            self._flow = self._own_flow(track) or self._flow
            if track.frames == 1:  # it was not where it had to be: the speed may be wrong
                self._trust = max(self._trust - 1, 0)
            if track.is_open:
                yield Change("defect.closed", track.as_defect(track.largest, track.largest_shown), track.extent)
        self._tracks = kept

    def _assign(self, regions: Sequence[Region], elapsed: int) -> dict[int, list[Region]]:
        """Regions by id() of their track; those of no track under 0."""
        pairs = [
            (not _are_alike(region.class_name, track.class_name), distance, r, t)
            for r, region in enumerate(regions)
            for t, track in enumerate(self._tracks)
            if (distance := self._distance(track, region)) is not None
        ]
        owner: dict[int, int] = {}
        places: dict[int, Box] = {}
        """Where the tracks were looked for and found."""
        taken: set[int] = set()
        for _, _, r, t in sorted(pairs):
            if r not in owner and t not in taken:
                owner[r] = t
                taken.add(t)
                places[t] = self._learn(self._tracks[t], regions[r])
        # A flaw may fall apart into several regions, or several run together: no new track for a part.
        for r, region in enumerate(regions):
            if r not in owner:
                whole = next((t for t in sorted(taken) if _is_part(region.box_px, places[t])), None)
                if whole is not None:
                    owner[r] = whole
        assigned: dict[int, list[Region]] = {}
        for r, region in enumerate(regions):
            key = id(self._tracks[owner[r]]) if r in owner else 0
            assigned.setdefault(key, []).append(region)
        for track in self._tracks:
            if id(track) not in assigned and track.unseen == elapsed:  # seen until now
                box = _drifted(track) if self._trust >= PROVEN else track.box
                alike = [r for r in regions if _are_alike(r.class_name, track.class_name)]
                hiding = [r for r in alike if _is_part(box, r.box_px)]
                if hiding:
                    assigned[id(track)] = hiding[:1]
        self._doubt_the_flow(assigned)
        return assigned

    def _doubt_the_flow(self, assigned: dict[int, list[Region]]) -> None:
        """Forget where the strip runs to when a flaw would be followed but for that: it may have turned round."""
        lost = [track for track in self._tracks if id(track) not in assigned]
        if any(self._is_in_reach(track, region) for region in assigned.get(0, []) for track in lost):
            self._flow = (0.0, 0.0)

    def _distance(self, track: _Track, region: Region) -> float | None:
        """How far the flaw would have moved, px, beyond what it must have; None when this cannot be the same one."""
        if self._is_where_it_must_be(track, region):
            smaller = min(track.box[2] * track.box[3], region.box_px[2] * region.box_px[3])
            expected = _drifted(track)
            is_same = _are_alike(region.class_name, track.class_name)
            if is_same or overlap_px(expected, region.box_px) >= SAME_FLAW * smaller:
                (x0, y0), (x1, y1) = _centre(expected), _centre(region.box_px)
                return math.hypot(x1 - x0, y1 - y0)
        if track.drift is not None and self._trust >= PROVEN:
            return None
        if not self._is_in_reach(track, region):
            return None
        flow = self._own_flow(track) or self._flow
        (x0, y0), (x1, y1) = _centre(track.box), _centre(region.box_px)
        moved = (x1 - x0, y1 - y0)
        speed = math.hypot(*flow)
        if not _are_alike(region.class_name, track.class_name):
            smaller = min(track.box[2] * track.box[3], region.box_px[2] * region.box_px[3])
            expected = _moved(track.box, flow, track.unseen)
            if max(overlap_px(track.box, region.box_px), overlap_px(expected, region.box_px)) < SAME_FLAW * smaller:
                return None
        elif speed > 0 and not _is_part(region.box_px, track.box):
            along = (moved[0] * flow[0] + moved[1] * flow[1]) / speed
            abreast = _moved(track.box, (flow[0] / speed, flow[1] / speed), round(along))
            is_beside = not overlap_px(_grown(abreast, self._tile_px // 2), region.box_px)
            if is_beside or along < -self._tile_px / 2:
                return None  # a strip does not run sideways; against its direction, the next flaw is coming in
        return math.hypot(*moved)

    def _is_where_it_must_be(self, track: _Track, region: Region) -> bool:
        """By the speed of the strip, whatever the picture says."""
        if track.drift is None:
            return False
        slack = round(SLACK * (self._tile_px + math.hypot(*track.drift)))
        return overlap_px(_grown(_drifted(track), slack), region.box_px) > 0

    def _learn(self, track: _Track, region: Region) -> Box:
        """Whether to trust the speed of the strip, where it and the picture alone say different things.

        Returns where the track was looked for with success.
        """
        if track.drift is None:
            return track.box
        if not self._is_where_it_must_be(track, region):
            self._trust = max(self._trust - 1, 0)
            return track.box
        if not overlap_px(_grown(track.box, 1), region.box_px):
            self._trust = min(self._trust + 1, MAX_TRUST)
        return _drifted(track)

    def _is_in_reach(self, track: _Track, region: Region) -> bool:
        reach = self._shift_px * min(track.unseen, self._patience)
        return overlap_px(_grown(track.box, reach), _grown(region.box_px, 1)) > 0

    def _own_flow(self, track: _Track) -> tuple[float, float] | None:
        """How this flaw moved, px per frame; None while it moved too little to say."""
        if math.hypot(*track.travelled) < self._tile_px / 2:
            return None
        return track.travelled[0] / track.span, track.travelled[1] / track.span

    def _is_held(self, track: _Track, suspects: Sequence[Box]) -> bool:
        """An open track outlives frames that are merely unsure where it stands, or where it has moved on to."""
        if not track.is_open or track.held >= MAX_HELD * self._decision.close_frames:
            return False
        expected = (
            _moved(track.box, self._own_flow(track) or self._flow, track.unseen)
            if track.drift is None
            else _drifted(track)
        )
        return any(_is_part(box, track.box) or _is_part(box, expected) for box in suspects)


def at_once(findings: Findings, new_id: Callable[[], str], place: Place = lambda _box: None) -> list[Change]:
    """For frames that are pieces of their own: every region is opened and closed by its frame."""
    changes = []
    for region in findings.regions:
        defect = Defect(
            new_id(),
            region.class_name,
            region.confidence,
            region.box_px,
            frames=1,
            tiles=region.tiles,
            anomaly=region.anomaly,
            extent_px=region.extent_px,
        )
        span = place(region.extent_px or region.box_px)
        changes += [Change("defect.opened", defect, span), Change("defect.closed", defect, span)]
    return changes


def _shown(regions: Sequence[Region]) -> Box | None:
    """Around all parts of a flaw; None where a part says nothing of its extent."""
    extents = [region.extent_px for region in regions]
    if not all(extents):
        return None
    return reduce(union, (one for one in extents if one is not None))


def _are_alike(one: str, other: str) -> bool:
    """What no class is sure of may be a weaker sight of any class."""
    return one == other or ANOMALY in (one, other)


def _common(a: int, b: int) -> int:
    """The smaller of two movements in one direction, else none."""
    return 0 if a * b <= 0 else min(a, b, key=abs)


def _centre(box: Box) -> tuple[int, int]:
    return box[0] + box[2] // 2, box[1] + box[3] // 2


def _grown(box: Box, margin: int) -> Box:
    return box[0] - margin, box[1] - margin, box[2] + 2 * margin, box[3] + 2 * margin


def _moved(box: Box, flow: tuple[float, float], frames: int) -> Box:
    return box[0] + round(flow[0] * frames), box[1] + round(flow[1] * frames), box[2], box[3]


def _drifted(track: _Track) -> Box:
    """Where its box must stand by now; as it was where that is not known."""
    return _moved(track.box, track.drift or (0.0, 0.0), 1)


def _sum(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


def _is_part(part: Box, whole: Box) -> bool:
    return overlap_px(part, whole) >= SAME_FLAW * part[2] * part[3]
