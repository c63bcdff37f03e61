"""How far the strip has run: the integral of its speed, at the times at which frames were grabbed.

Nothing is guessed. While the speed is unknown there is no position. Positions from before and after such a time cannot
be compared: each period with a known speed is a segment of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal

from edge import config
from edge.coverage.runs import Run
from edge.host.clock import NS_PER_MS, NS_PER_S

SPACING_NS: Final = 10 * NS_PER_MS
"""Speeds closer than this are merged: a burst must not push out the speeds that older frames need."""
MAX_KNOTS: Final = 2048
"""Speeds that are kept: 20 s of the fastest source, minutes of a usual one."""
MAX_LANES: Final = 64
"""Lanes whose coils are followed; a lane more displaces the one that was named first."""
MAX_COILS: Final = 16
"""Coils that are kept: a camera far down the line still sees the previous one."""
STEADY: Final = 3
"""Speeds in a row without a stale gap, after which a stale source counts as restored."""

State = Literal["off", "waiting", "known", "stale"]


@dataclass(frozen=True, slots=True)
class StripPosition:
    """A position on the strip.  m: along the strip, in meters; only positions of one segment can be compared.

    at_ns: when the strip was there, monotonic.
    """

    segment: int
    m: float
    at_ns: int = field(default=0, compare=False)

    def plus(self, m: float) -> StripPosition:
        return replace(self, m=self.m + m)

    def since(self, other: StripPosition | None) -> float | None:
        """Meters from the other position to this one; None when their segments differ."""
        return None if other is None or other.segment != self.segment else self.m - other.m


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed of the strip.  at_ns: monotonic, when it was received."""

    at_ns: int
    m_per_s: float


@dataclass(frozen=True, slots=True)
class CoilNamed:
    """The plant named the coil; None: no coil runs.  retained: the coil may have started long ago.

    lane: None: of the whole strip.
    """

    at_ns: int
    name: str | None
    retained: bool = False
    lane: str | None = None


StripUpdate = Speed | CoilNamed


@dataclass(frozen=True, slots=True)
class Coil:
    """A coil that ended.  length_m: None where it is unknown."""

    name: str | None
    length_m: float | None = None


@dataclass(frozen=True, slots=True)
class RestoredCoil:
    """The coil before a restart.  name: None: no coil ran.  since: UTC, when it started or the last one ended."""

    name: str | None
    since: str
    was_named: bool = True
    """False: only lanes had coils, never the whole strip."""
    lanes: Mapping[str, str] = field(default_factory=dict)
    """The coil of each lane that had one."""


@dataclass(frozen=True, slots=True)
class StripReading:
    """Speed, coil and position now, for state messages and metrics."""

    state: State
    m_per_s: float | None = None
    coil: str | None = None
    position_m: float | None = None
    stale: int = 0
    """How often the speed became stale."""
    kept_since: str | None = None
    """When the coil started, if its name is from before a restart and the plant has not named a coil since."""
    lanes: Mapping[str, str | None] = field(default_factory=dict)
    """The coil of each lane for which one was named."""

    def as_json(self) -> dict[str, Any]:
        return {
            "speed": self.state,
            "speed_m_per_s": None if self.m_per_s is None else round(self.m_per_s, 4),
            "coil": self.coil,
            "position_m": None if self.position_m is None else round(self.position_m, 3),
            "stale": self.stale,
            "kept_since": self.kept_since,
            **({"lanes": dict(self.lanes)} if self.lanes else {}),
        }


@dataclass(frozen=True, slots=True)
class _Knot:
    """A speed sample, and the integral up to it."""

    at_ns: int
    m: float
    m_per_s: float
    segment: int


@dataclass(frozen=True, slots=True)
class _CoilStart:
    """Where a coil starts.  name: None without a coil.  start: None: unknown.  counted: False between two coils."""

    name: str | None
    start: StripPosition | None
    counted: bool = True


class PositionTracker:
    """Integrates the speed of the strip, and maps positions to coils.  Owned by one thread; memory is bounded."""

    def __init__(self, settings: config.Travel, now_ns: int, kept: RestoredCoil | None = None) -> None:
        """Without coils, positions count from the first speed; with a coil topic, from the start of the first coil.

        kept: the coil before a restart; None where no coil was ever named.  It has its name but no positions, because
        the strip may have moved while the node was off.
        """
        self._fixed = settings.speed_m_per_s
        self._is_on = settings.speed_m_per_s is not None or settings.topic is not None
        self._is_linear = settings.interpolation == "linear"
        self._stale_ns = int(settings.stale_s * NS_PER_S)
        self._started_ns = now_ns
        self._knots: deque[_Knot] = deque(maxlen=MAX_KNOTS)
        if self._fixed is not None:
            self._knots.append(_Knot(now_ns, 0.0, self._fixed, 0))
        self._segment = 0
        awaits_coil = settings.coil_topic is not None or (kept is not None and kept.was_named)
        self._kept = kept
        name = None if kept is None else kept.name
        self._coils: deque[_CoilStart] = deque(maxlen=MAX_COILS)
        self._coils.append(_CoilStart(name, None if awaits_coil else StripPosition(0, 0.0), counted=not awaits_coil))
        self._lanes: dict[str, deque[_CoilStart]] = {}
        """Coils of single lanes."""
        for lane, lane_coil in ({} if kept is None else kept.lanes).items():
            self._lanes[lane] = deque([_CoilStart(lane_coil, None, counted=False)], maxlen=MAX_COILS)
        self._named: set[str | None] = set()
        """Lanes for which the plant has named a coil since the start; None: for the strip."""
        self._stale = False
        self._fresh_speeds = 0
        self._stale_count = 0

    # ---- speed ---------------------------------------------------------------------------------------

    def sample(self, at_ns: int, m_per_s: float) -> None:
        """Add a speed.  One that is older than the last is ignored."""
        last = self._knots[-1] if self._knots else None
        if self._fixed is not None or (last is not None and at_ns < last.at_ns):
            return
        if last is None:
            self._fresh_speeds = 1
            self._knots.append(_Knot(at_ns, 0.0, m_per_s, self._segment))
            return
        if at_ns - last.at_ns > self._stale_ns:
            self._fresh_speeds = 1
            self._segment += 1
            self._knots.append(_Knot(at_ns, last.m, m_per_s, self._segment))
            return
        self._fresh_speeds += 1
        earlier = self._knots[-2] if len(self._knots) > 1 else None
        if earlier is not None and earlier.segment == last.segment and at_ns - earlier.at_ns < SPACING_NS:
            self._knots.pop()
            last = earlier
        mean_m_per_s = (last.m_per_s + m_per_s) / 2 if self._is_linear else last.m_per_s
        m = last.m + mean_m_per_s * (at_ns - last.at_ns) / NS_PER_S
        self._knots.append(_Knot(at_ns, m, m_per_s, self._segment))

    def at(self, at_ns: int) -> StripPosition | None:
        """Position of the strip at this time; None while its speed is unknown, and for times long ago."""
        after: _Knot | None = None
        for knot in reversed(self._knots):
            if knot.at_ns <= at_ns:
                return self._extrapolated(knot, after, at_ns)
            after = knot
        return None

    def _extrapolated(self, knot: _Knot, after: _Knot | None, at_ns: int) -> StripPosition | None:
        s = (at_ns - knot.at_ns) / NS_PER_S
        if after is not None and after.segment == knot.segment:
            if not self._is_linear:
                return StripPosition(knot.segment, knot.m + knot.m_per_s * s, at_ns)
            whole_s = (after.at_ns - knot.at_ns) / NS_PER_S
            ramp_m = (after.m_per_s - knot.m_per_s) * s * s / (2 * whole_s)
            return StripPosition(knot.segment, knot.m + knot.m_per_s * s + ramp_m, at_ns)
        if self._fixed is None and at_ns - knot.at_ns > self._stale_ns:
            return None
        return StripPosition(knot.segment, knot.m + knot.m_per_s * s, at_ns)

    def recomputed(self, span: Span) -> Span:
        """Recompute a span with speeds that were received after the inspection of its frames."""
        near, far = self.at(span.near.frame_at.at_ns), self.at(span.far.frame_at.at_ns)
        if near is None or far is None or not near.segment == far.segment == span.near.frame_at.segment:
            return span  # too long ago: keep the earlier result
        return replace(span, near=replace(span.near, frame_at=near), far=replace(span.far, frame_at=far))

    def check_stale(self, now_ns: int) -> Literal["stale", "restored"] | None:
        """Whether the speed became stale or was restored since the last call.  STEADY damps an unsteady source."""
        if not self._is_on or self._fixed is not None:
            return None
        is_silent = self.silent_ns(now_ns) > self._stale_ns
        if not self._stale and is_silent:
            self._stale, self._fresh_speeds = True, 0
            self._stale_count += 1
            return "stale"
        if self._stale and not is_silent and self._fresh_speeds >= STEADY:
            self._stale = False
            return "restored"
        return None

    def silent_ns(self, now_ns: int) -> int:
        """Time since the last speed, or since the start."""
        return now_ns - (self._knots[-1].at_ns if self._knots else self._started_ns)

    # ---- coils ---------------------------------------------------------------------------------------

    def start_coil(self, name: str, at_ns: int, lane: str | None = None) -> Coil:
        """A coil starts now, at 0 m, on the strip or on one lane of it.  Returns the one that ends."""
        return self._change_coil(_CoilStart(name, self.at(at_ns)), at_ns, lane)

    def end_coil(self, at_ns: int, lane: str | None = None) -> Coil:
        """The coil ends; positions are unknown until the next one starts.  Returns the one that ends."""
        return self._change_coil(_CoilStart(None, self.at(at_ns), counted=False), at_ns, lane)

    def name_coil(self, named: CoilNamed) -> Coil | None:
        """The plant named the coil.  Returns the one that ended; None if the name is the same.

        Only a change of the name while this node runs is the start of a coil. The first name, and a retained one, may
        be old: the positions of such a coil stay unknown.
        """
        is_start = named.lane in self._named and not named.retained
        if len(self._named) <= MAX_LANES:
            self._named.add(named.lane)
        if named.name == self.coil_of(named.lane):
            self._kept = self._kept if named.lane is not None else None
            return None
        if named.name is None:
            return self.end_coil(named.at_ns, named.lane)
        if is_start:
            return self.start_coil(named.name, named.at_ns, named.lane)
        return self._change_coil(_CoilStart(named.name, None), named.at_ns, named.lane)

    @property
    def coil(self) -> str | None:
        return self._coils[-1].name

    def coil_of(self, lane: str | None) -> str | None:
        """The coil of a lane; lane: None: of the strip."""
        coils = self._coils if lane is None else self._lanes.get(lane)
        return coils[-1].name if coils else None

    @property
    def lanes(self) -> dict[str, str | None]:
        """The coil of each lane for which one was named."""
        return {lane: coils[-1].name for lane, coils in self._lanes.items()}

    def _change_coil(self, coil: _CoilStart, at_ns: int, lane: str | None) -> Coil:
        if lane is None:
            self._kept = None
            coils = self._coils
        else:
            if lane not in self._lanes and len(self._lanes) >= MAX_LANES:
                self._lanes.pop(next(iter(self._lanes)))
            coils = self._lanes.setdefault(lane, deque([_CoilStart(None, None, counted=False)], maxlen=MAX_COILS))
        ended, position = coils[-1], self.at(at_ns)
        length = None if position is None or not ended.counted else position.since(ended.start)
        coils.append(coil)
        return Coil(ended.name, length)

    def on_coil(self, position: StripPosition, lane: str | None = None) -> tuple[str | None, float | None]:
        """The coil at a position, and the meters from its start; None: unknown.  lane: None: the coil of the strip."""
        for coil in reversed(self._coils if lane is None else self._lanes.get(lane, ())):
            m = position.since(coil.start)
            if m is None:
                return coil.name, None
            if m >= 0.0:
                return coil.name, m if coil.counted else None
        return None, None

    def pieces(self, run: Run, lane: str | None = None) -> list[tuple[str | None, Run | None]]:
        """A run of the strip as runs of the coils on it, in meters of each; None where its place is unknown."""
        cuts = sorted(
            coil.start.m
            for coil in (self._coils if lane is None else self._lanes.get(lane, ()))
            if coil.start is not None and coil.start.segment == run.segment and run.from_m < coil.start.m < run.to_m
        )
        found: list[tuple[str | None, Run | None]] = []
        for from_m, to_m in pairwise([run.from_m, *cuts, run.to_m]):
            coil, at_m = self.on_coil(StripPosition(run.segment, from_m), lane)
            found.append((coil, None if at_m is None else replace(run, from_m=at_m, to_m=at_m + to_m - from_m)))
        return found

    # ---- state ---------------------------------------------------------------------------------------

    def reading(self, now_ns: int) -> StripReading:
        kept_since = self._kept.since if self._kept is not None and self._kept.name is not None else None
        if not self._is_on:
            return StripReading("off", coil=self.coil, kept_since=kept_since, lanes=self.lanes)
        position = self.at(now_ns)
        state: State = "stale" if self._stale else "known" if position is not None else "waiting"
        speed = self._knots[-1].m_per_s if position is not None else None
        position_m = None if position is None else self.on_coil(position)[1]
        return StripReading(state, speed, self.coil, position_m, self._stale_count, kept_since, self.lanes)

    @property
    def is_on(self) -> bool:
        """Whether a source of the speed is configured."""
        return self._is_on


@dataclass(frozen=True, slots=True)
class FramePoint:
    """A point in a frame.  frame_at: position of the strip at the time of the frame.  ahead_m: from there."""

    frame_at: StripPosition
    ahead_m: float

    @property
    def position(self) -> StripPosition:
        return self.frame_at.plus(self.ahead_m)


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the strip that a defect covers, within one segment.  whole: no sighting is missing from it."""

    near: FramePoint
    far: FramePoint
    whole: bool = True

    def joined(self, other: Span | None) -> Span:
        """Extend the span by a sighting.  One at an unknown position, or in another segment, makes it incomplete."""
        if other is None or other.near.frame_at.segment != self.near.frame_at.segment:
            return replace(self, whole=False)
        near = min(self.near, other.near, key=lambda point: point.position.m)
        far = max(self.far, other.far, key=lambda point: point.position.m)
        return Span(near, far, self.whole and other.whole)

    @property
    def length_mm(self) -> float | None:
        return round((self.far.position.m - self.near.position.m) * 1000, 1) if self.whole else None
