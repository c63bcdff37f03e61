"""Defects over frames: a defect on a moving strip gives one opening and one closing event, not an event per frame.

Regions of successive frames that show the same defect form a track. k sightings in n frames confirm a track: it opens.
It stays open through unsure tiles and short gaps, and closes after `close_frames` frames without a sighting. Tiles are
coarse, so a box jumps by a tile now and then: the tracker matches by class, distance and direction of travel, not by
exact motion. The direction is only a hint: a strip that reverses must not hide its defects.

Where the speed of the strip is known, the tracker expects a defect where the strip has carried it, however far that is,
and keeps the track open while this place is in view. The speed or the scale may be wrong: until the speed has explained
matches that the picture alone does not, the tracker also accepts a match by the picture alone (see `_trust`).
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
from edge.vision.decision import ANOMALY, MAX_CANDIDATES, UNKNOWN, Detections, Region

SAME_DEFECT_SHARE: Final = 0.3
"""Two sightings of different classes are one defect if they share at least this part of the smaller box."""
MAX_TRACKS: Final = 256
"""Per camera. Beyond it the oldest are closed: with more defects in view, separate tracks are of no use."""
MAX_HELD: Final = 5
"""Unsure tiles alone keep a track open for this many times `close_frames`: they may be dirt that stays in view.  The
same holds for a defect that should still be in view."""
SLACK: Final = 0.25
"""Tolerance of the expected place: this share of a tile plus this share of the distance moved."""
PROVEN: Final = 3
"""Net number of matches that only the speed explains, from which the tracker trusts the speed."""
MAX_TRUST: Final = 10

Place = Callable[[Box], Span | None]
"""From a box in this frame to its span on the strip; None where that is unknown."""


@dataclass(frozen=True, slots=True)
class Change:
    """A defect was confirmed, or has ended."""

    type: Literal["defect.opened", "defect.closed"]
    defect: Defect
    span: Span | None = None
    """The part of the strip that the defect covers, as far as it was seen."""


@dataclass(frozen=True, slots=True)
class Motion:
    """How far the strip has moved since the previous frame, by its speed.

    drift_px: to the right and down.  frame_px: width and height of the frame.
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
    """Sum of the confidences, by class."""
    best: dict[str, float] = field(default_factory=dict)
    """The highest confidence, by class."""
    frames: int = 0
    tiles: int = 0
    unseen: int = 0
    """Frames since the last sighting, including frames that were not inspected."""
    misses: int = 0
    """The same, without the frames in which unsure tiles held the track."""
    held: int = 0
    """Frames since the last sighting in which unsure tiles held the track."""
    frames_spanned: int = 0
    """Frames from the first sighting to the last."""
    is_open: bool = False
    drift: tuple[float, float] | None = None
    """How far the strip has carried the defect since the last sighting, px, by its speed; None: unknown."""
    strip_span: Span | None = None
    """The part of the strip that the defect covers."""
    extent: Box | None = None
    """The box around the defect itself, within `box`."""
    largest_extent: Box | None = None
    """The same, within `largest`."""
    anomaly: float | None = None
    """The largest anomaly score so far, in units of the threshold."""
    regions: Sequence[Region] = ()
    """Of its last sighting."""
    likely: dict[str, float] = field(default_factory=dict)
    """The highest probability of each candidate of an unknown defect."""

    def add_sighting(self, regions: Sequence[Region], now_ns: int, place: Place) -> None:
        """Add the regions of one frame that show parts of this defect."""
        self.regions = regions
        box, extent = regions[0].box_px, _common_extent(regions)
        for region in regions:
            weight = region.confidence if region.weight is None else region.weight
            self.votes[region.class_name] = self.votes.get(region.class_name, 0.0) + weight
            self.best[region.class_name] = max(self.best.get(region.class_name, 0.0), region.confidence)
            if region.anomaly is not None:
                self.anomaly = max(self.anomaly or 0.0, region.anomaly)
            for name, probability in region.candidates:
                self.likely[name] = max(self.likely.get(name, 0.0), probability)
            box = union(box, region.box_px)
        self.box, self.extent = box, extent
        self.drift = (0.0, 0.0)
        span = place(extent or box)
        if self.strip_span is not None:
            self.strip_span = self.strip_span.joined(span)
        elif span is not None:
            self.strip_span = replace(span, whole=self.frames == 0)
        if self.frames == 0 or box[2] * box[3] > self.largest[2] * self.largest[3]:
            self.largest, self.largest_extent = box, extent
        self.frames += 1
        self.tiles = max(self.tiles, sum(region.tiles for region in regions))
        self.last_ns = now_ns
        self.frames_spanned += self.unseen
        self.unseen = self.misses = self.held = 0
        self.recent.append(True)

    @property
    def class_name(self) -> str:
        return max(self.votes, key=lambda name: (self.votes[name], name))

    @property
    def candidates(self) -> tuple[tuple[str, float], ...]:
        """What an unknown defect looks like; empty where it has a name."""
        if self.class_name != UNKNOWN:
            return ()
        return tuple(sorted(self.likely.items(), key=lambda item: (-item[1], item[0]))[:MAX_CANDIDATES])

    @property
    def travelled(self) -> tuple[int, int]:
        """How far both ends of the box have moved, px: a box that only grew or shrank has not travelled."""
        (x0, y0, w0, h0), (x1, y1, w1, h1) = self.first_box, self.box
        return _common_move(x1 - x0, x1 + w1 - x0 - w0), _common_move(y1 - y0, y1 + h1 - y0 - h0)

    @property
    def can_be_confirmed(self) -> bool:
        return self.is_open or any(self.recent)

    def as_defect(self, box: Box, extent: Box | None) -> Defect:
        return Defect(
            track_id=self.track_id,
            class_name=self.class_name,
            confidence=self.best[self.class_name],
            box_px=box,
            extent_px=extent,
            frames=self.frames,
            tiles=self.tiles,
            duration_s=(self.last_ns - self.first_ns) / NS_PER_S,
            anomaly=self.anomaly,
            candidates=self.candidates,
        )


class Tracker:
    """The defects in view of one camera, at most MAX_TRACKS.  Owned by one thread."""

    def __init__(self, decision: config.Decision, tile_px: int, new_id: Callable[[], str]) -> None:
        self._decision = decision
        self._tile_px = tile_px
        self._shift_px = tile_px if decision.max_shift_px is None else decision.max_shift_px
        self._patience = max(decision.close_frames, decision.confirm_window)
        self._new_id = new_id
        self._tracks: list[_Track] = []
        self._flow: tuple[float, float] = (0.0, 0.0)
        """How the last defect moved across the frame, px per frame: the direction of the strip. Zero: unknown."""
        self._motion: Motion | None = None
        self._place: Place = lambda _box: None
        self._trust = 0
        """Number of matches that only the speed explained, minus the number that only the picture explained."""

    def __len__(self) -> int:
        return sum(track.is_open for track in self._tracks)

    def in_view(self) -> list[Defect]:
        """The open defects that the last frame shows, with their boxes in it."""
        return [t.as_defect(t.box, t.extent) for t in self._tracks if t.is_open and not t.unseen]

    def track_ids(self) -> dict[int, str]:
        """The open tracks that the last frame shows, by id() of its regions."""
        shown = [track for track in self._tracks if track.is_open and not track.unseen]
        return {id(region): track.track_id for track in reversed(shown) for region in track.regions}

    def step(
        self,
        detections: Detections,
        now_ns: int,
        elapsed_frames: int = 1,
        motion: Motion | None = None,
        place: Place = lambda _box: None,
    ) -> list[Change]:
        """Add one inspected frame, also one without defects.  Returns the tracks that opened or closed.

        elapsed_frames: frames since the last call: 1, or more after frames that were not inspected.
        motion: since the last call, where the speed of the strip is known.  place: for this frame.
        """
        elapsed = max(1, elapsed_frames)
        self._place = place
        self._motion = motion
        for track in self._tracks:
            track.unseen += elapsed
            drift = track.drift
            track.drift = None if motion is None or drift is None else _sum(drift, motion.drift_px)
        seen = self._assign(detections.regions, elapsed)
        for track in self._tracks:
            regions = seen.pop(id(track), None)
            if regions:
                track.add_sighting(regions, now_ns, self._place)
            else:
                track.recent.append(False)
                if self._is_held(track, detections.unsure_boxes):
                    track.held += elapsed
                    track.last_ns = now_ns
                else:
                    track.misses += elapsed
        self._tracks += [self._started(region, now_ns) for region in seen.pop(0, [])]
        changes = [*self._open_confirmed(), *self._close(self._is_over)]
        excess = {id(track) for track in self._tracks[:-MAX_TRACKS]}
        return [*changes, *self._close(lambda track: id(track) in excess)]

    def _is_over(self, track: _Track) -> bool:
        if track.is_open:
            patience = MAX_HELD if self._should_be_in_view(track) else 1
            return track.misses >= patience * self._decision.close_frames
        return not track.can_be_confirmed

    def _should_be_in_view(self, track: _Track) -> bool:
        """Whether the defect has moved and, by the speed of the strip, is still in view: it may then be seen again."""
        if self._motion is None or track.drift is None or math.hypot(*track.drift) < self._tile_px / 2:
            return False
        return _is_part(_drifted(track), (0, 0, *self._motion.frame_px))

    def close_all(self) -> list[Change]:
        """Close all open tracks and drop the others: the camera ended, or the daemon stops."""
        return list(self._close(lambda _track: True))

    def _started(self, region: Region, now_ns: int) -> _Track:
        box = region.box_px
        recent: deque[bool] = deque(maxlen=self._decision.confirm_window)
        track = _Track(self._new_id(), now_ns, now_ns, box, box, box, recent)
        track.add_sighting([region], now_ns, self._place)
        return track

    def _open_confirmed(self) -> Iterable[Change]:
        for track in self._tracks:
            if not track.is_open and sum(track.recent) >= self._decision.confirm_frames:
                track.is_open = True
                yield Change("defect.opened", track.as_defect(track.box, track.extent), track.strip_span)

    def _close(self, is_over: Callable[[_Track], bool]) -> Iterable[Change]:
        kept = []
        for track in self._tracks:
            if not is_over(track):
                kept.append(track)
                continue
            self._flow = self._own_flow(track) or self._flow
            if track.frames == 1:  # it was never seen at its expected place: the speed may be wrong
                self._trust = max(self._trust - 1, 0)
            if track.is_open:
                yield Change("defect.closed", track.as_defect(track.largest, track.largest_extent), track.strip_span)
        self._tracks = kept

    def _assign(self, regions: Sequence[Region], elapsed: int) -> dict[int, list[Region]]:
        """Regions by id() of their track; regions without a track under 0."""
        pairs = [
            (not _are_alike(region.class_name, track.class_name), distance, r, t)
            for r, region in enumerate(regions)
            for t, track in enumerate(self._tracks)
            if (distance := self._distance(track, region)) is not None
        ]
        owner: dict[int, int] = {}
        places: dict[int, Box] = {}
        """The place at which each matched track was expected."""
        taken: set[int] = set()
        for _, _, r, t in sorted(pairs):
            if r not in owner and t not in taken:
                owner[r] = t
                taken.add(t)
                places[t] = self._update_trust(self._tracks[t], regions[r])
        # A defect may split into several regions, and several may merge: a part gets no track of its own.
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
            if id(track) not in assigned and track.unseen == elapsed:  # seen in the previous frame
                box = _drifted(track) if self._trust >= PROVEN else track.box
                alike = [r for r in regions if _are_alike(r.class_name, track.class_name)]
                hiding = [r for r in alike if _is_part(box, r.box_px)]
                if hiding:
                    assigned[id(track)] = hiding[:1]
        self._reset_flow_after_reversal(assigned)
        return assigned

    def _reset_flow_after_reversal(self, assigned: dict[int, list[Region]]) -> None:
        """Forget the direction of the strip when only the direction prevents a match: the strip may have reversed."""
        lost = [track for track in self._tracks if id(track) not in assigned]
        if any(self._is_in_reach(track, region) for region in assigned.get(0, []) for track in lost):
            self._flow = (0.0, 0.0)

    def _distance(self, track: _Track, region: Region) -> float | None:
        """Distance between the region and the expected place of the track, px; None if it cannot be the same defect.

        Without a known speed the expected place is that of the last sighting.
        """
        if self._is_at_expected_place(track, region):
            smaller = min(track.box[2] * track.box[3], region.box_px[2] * region.box_px[3])
            expected = _drifted(track)
            is_same = _are_alike(region.class_name, track.class_name)
            if is_same or overlap_px(expected, region.box_px) >= SAME_DEFECT_SHARE * smaller:
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
            if (
                max(overlap_px(track.box, region.box_px), overlap_px(expected, region.box_px))
                < SAME_DEFECT_SHARE * smaller
            ):
                return None
        elif speed > 0 and not _is_part(region.box_px, track.box):
            along = (moved[0] * flow[0] + moved[1] * flow[1]) / speed
            abreast = _moved(track.box, (flow[0] / speed, flow[1] / speed), round(along))
            is_beside = not overlap_px(_grown(abreast, self._tile_px // 2), region.box_px)
            if is_beside or along < -self._tile_px / 2:
                return None  # not sideways; and against the direction, the next defect comes into view
        return math.hypot(*moved)

    def _is_at_expected_place(self, track: _Track, region: Region) -> bool:
        """Whether the region is where the speed of the strip puts the defect."""
        if track.drift is None:
            return False
        slack = round(SLACK * (self._tile_px + math.hypot(*track.drift)))
        return overlap_px(_grown(_drifted(track), slack), region.box_px) > 0

    def _update_trust(self, track: _Track, region: Region) -> Box:
        """Trust the speed of the strip more, or less, where speed and picture disagree about this match.

        Returns the expected place that the match confirmed.
        """
        if track.drift is None:
            return track.box
        if not self._is_at_expected_place(track, region):
            self._trust = max(self._trust - 1, 0)
            return track.box
        if not overlap_px(_grown(track.box, 1), region.box_px):
            self._trust = min(self._trust + 1, MAX_TRUST)
        return _drifted(track)

    def _is_in_reach(self, track: _Track, region: Region) -> bool:
        """Whether the region is near the last sighting: within max_shift_px per frame since then."""
        reach = self._shift_px * min(track.unseen, self._patience)
        return overlap_px(_grown(track.box, reach), _grown(region.box_px, 1)) > 0

    def _own_flow(self, track: _Track) -> tuple[float, float] | None:
        """How this defect moved, px per frame; None if it moved less than half a tile."""
        if math.hypot(*track.travelled) < self._tile_px / 2:
            return None
        return track.travelled[0] / track.frames_spanned, track.travelled[1] / track.frames_spanned

    def _is_held(self, track: _Track, suspects: Sequence[Box]) -> bool:
        """Whether unsure tiles, at the last or at the expected place, keep an open track alive."""
        if not track.is_open or track.held >= MAX_HELD * self._decision.close_frames:
            return False
        expected = (
            _moved(track.box, self._own_flow(track) or self._flow, track.unseen)
            if track.drift is None
            else _drifted(track)
        )
        return any(_is_part(box, track.box) or _is_part(box, expected) for box in suspects)


def open_and_close(detections: Detections, new_id: Callable[[], str], place: Place = lambda _box: None) -> list[Change]:
    """For frames that each show a separate part: every region opens and closes in its frame."""
    changes = []
    for region in detections.regions:
        defect = Defect(
            new_id(),
            region.class_name,
            region.confidence,
            region.box_px,
            frames=1,
            tiles=region.tiles,
            anomaly=region.anomaly,
            extent_px=region.extent_px,
            candidates=region.candidates,
        )
        span = place(region.extent_px or region.box_px)
        changes += [Change("defect.opened", defect, span), Change("defect.closed", defect, span)]
    return changes


def _common_extent(regions: Sequence[Region]) -> Box | None:
    """The box around all parts of a defect; None where the extent of a part is unknown."""
    extents = [region.extent_px for region in regions]
    if not all(extents):
        return None
    return reduce(union, (one for one in extents if one is not None))


def _are_alike(one: str, other: str) -> bool:
    """Whether two class names may be one defect: `anomaly` and `unknown` go with any class."""
    return one == other or not {ANOMALY, UNKNOWN}.isdisjoint((one, other))


def _common_move(a: int, b: int) -> int:
    """The smaller of two movements in the same direction; 0 if they differ in direction."""
    return 0 if a * b <= 0 else min(a, b, key=abs)


def _centre(box: Box) -> tuple[int, int]:
    return box[0] + box[2] // 2, box[1] + box[3] // 2


def _grown(box: Box, margin: int) -> Box:
    return box[0] - margin, box[1] - margin, box[2] + 2 * margin, box[3] + 2 * margin


def _moved(box: Box, flow: tuple[float, float], frames: int) -> Box:
    return box[0] + round(flow[0] * frames), box[1] + round(flow[1] * frames), box[2], box[3]


def _drifted(track: _Track) -> Box:
    """The box of the track, moved by its drift; unmoved where the drift is unknown."""
    return _moved(track.box, track.drift or (0.0, 0.0), 1)


def _sum(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


def _is_part(part: Box, whole: Box) -> bool:
    return overlap_px(part, whole) >= SAME_DEFECT_SHARE * part[2] * part[3]
