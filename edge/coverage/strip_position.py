"""How far the strip has run: the integral of its speed over the time at which frames were grabbed.

Nothing is invented. While no speed is known there is no position, and what was counted before an unknown stretch
cannot be compared with what comes after it: each stretch is a leg of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from edge import config
from edge.host.clock import NS_PER_MS, NS_PER_S

SPACING_NS: Final = 10 * NS_PER_MS
"""Messages closer than this are taken together: a burst does not push out what older frames need."""
MAX_KNOTS: Final = 2048
"""Speeds that are remembered: 20 s of the fastest source, minutes of a usual one."""
MAX_COILS: Final = 16
"""Stretches that are remembered: a camera far down the line still sees the coil before."""
STEADY: Final = 3
"""Speeds in a row, none of them stale, after which a stale source counts as restored."""

State = Literal["off", "waiting", "known", "stale"]


@dataclass(frozen=True, slots=True)
class StripPosition:
    """A place on the strip.  m: along it; only marks of one leg can be compared.

    at_ns: when the strip stood there, monotonic.
    """

    segment: int
    m: float
    at_ns: int = field(default=0, compare=False)

    def plus(self, m: float) -> StripPosition:
        return replace(self, m=self.m + m)

    def since(self, other: StripPosition | None) -> float | None:
        """Metres from the other mark to this one; None when they are not of one leg."""
        return None if other is None or other.segment != self.segment else self.m - other.m


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed was told.  at_ns: monotonic, when it came."""

    at_ns: int
    m_per_s: float


@dataclass(frozen=True, slots=True)
class CoilNamed:
    """The line named its coil; None: there is none.  retained: it may have begun long ago."""

    at_ns: int
    name: str | None
    retained: bool = False


StripUpdate = Speed | CoilNamed


@dataclass(frozen=True, slots=True)
class Coil:
    """A stretch of the strip that ended or began.  length_m: of an ended one, where it is known."""

    name: str | None
    length_m: float | None = None


@dataclass(frozen=True, slots=True)
class RestoredCoil:
    """What was known of the coil before a restart.  name: None: none ran.  since: UTC, when that was told."""

    name: str | None
    since: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How it stands: for state messages and metrics."""

    state: State
    m_per_s: float | None = None
    coil: str | None = None
    position_m: float | None = None
    stale: int = 0
    """How often the speed became stale."""
    kept_since: str | None = None
    """Since when the coil runs, where its name is of before a restart and nobody has said it again."""

    def as_json(self) -> dict[str, Any]:
        return {
            "speed": self.state,
            "speed_m_per_s": None if self.m_per_s is None else round(self.m_per_s, 4),
            "coil": self.coil,
            "position_m": None if self.position_m is None else round(self.position_m, 3),
            "stale": self.stale,
            "kept_since": self.kept_since,
        }


@dataclass(frozen=True, slots=True)
class _Knot:
    at_ns: int
    m: float
    m_per_s: float
    segment: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """start: None where it is not known.  counted: False between two coils."""

    name: str | None
    start: StripPosition | None
    counted: bool = True


class PositionTracker:
    """The strip of one node. Owned by one thread; memory is bounded."""

    def __init__(self, settings: config.Travel, now_ns: int, kept: RestoredCoil | None = None) -> None:
        """Without coils, positions count from the first speed; with a topic of coils, from the first that begins.

        kept: of before a restart, None where no coil was ever named.  Nobody knows how far the strip ran meanwhile:
        the coil has its name and no positions.
        """
        self._fixed = settings.speed_m_per_s
        self._is_on = settings.speed_m_per_s is not None or settings.topic is not None
        self._is_linear = settings.interpolation == "linear"
        self._stale_ns = int(settings.stale_s * NS_PER_S)
        self._begun_ns = now_ns
        self._knots: deque[_Knot] = deque(maxlen=MAX_KNOTS)
        if self._fixed is not None:
            self._knots.append(_Knot(now_ns, 0.0, self._fixed, 0))
        self._leg = 0
        waits = settings.coil_topic is not None or kept is not None
        self._kept = kept
        name = None if kept is None else kept.name
        self._stretches: deque[_Stretch] = deque(maxlen=MAX_COILS)
        self._stretches.append(_Stretch(name, None if waits else StripPosition(0, 0.0), counted=not waits))
        self._names_heard = False
        self._stale = False
        self._good = 0
        self._stale_count = 0

    # ---- speed ---------------------------------------------------------------------------------------

    def sample(self, at_ns: int, m_per_s: float) -> None:
        """Take in a speed.  One that is older than the last is left out."""
        last = self._knots[-1] if self._knots else None
        if self._fixed is not None or (last is not None and at_ns < last.at_ns):
            return
        if last is None:
            self._good = 1
            self._knots.append(_Knot(at_ns, 0.0, m_per_s, self._leg))
            return
        if at_ns - last.at_ns > self._stale_ns:
            self._good = 1
            self._leg += 1
            self._knots.append(_Knot(at_ns, last.m, m_per_s, self._leg))
            return
        self._good += 1
        before = self._knots[-2] if len(self._knots) > 1 else None
        if before is not None and before.segment == last.segment and at_ns - before.at_ns < SPACING_NS:
            self._knots.pop()
            last = before
        mean = (last.m_per_s + m_per_s) / 2 if self._is_linear else last.m_per_s
        m = last.m + mean * (at_ns - last.at_ns) / NS_PER_S
        self._knots.append(_Knot(at_ns, m, m_per_s, self._leg))

    def at(self, at_ns: int) -> StripPosition | None:
        """Where the strip stood at this time; None while its speed is not known, and for times long ago."""
        after: _Knot | None = None
        for knot in reversed(self._knots):
            if knot.at_ns <= at_ns:
                return self._from(knot, after, at_ns)
            after = knot
        return None

    def _from(self, knot: _Knot, after: _Knot | None, at_ns: int) -> StripPosition | None:
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

    def settled(self, span: Span) -> Span:
        """The span by what is known now: the speed at the time of a frame may have been told after it was inspected."""
        near, far = self.at(span.near.mark.at_ns), self.at(span.far.mark.at_ns)
        if near is None or far is None or not near.segment == far.segment == span.near.mark.segment:
            return span  # too long ago: what was known then holds
        return replace(span, near=replace(span.near, mark=near), far=replace(span.far, mark=far))

    def look(self, now_ns: int) -> Literal["stale", "restored"] | None:
        """What has changed since the last look.  A source that comes and goes is not told each time: see STEADY."""
        if not self._is_on or self._fixed is not None:
            return None
        is_silent = self.silent_ns(now_ns) > self._stale_ns
        if not self._stale and is_silent:
            self._stale, self._good = True, 0
            self._stale_count += 1
            return "stale"
        if self._stale and not is_silent and self._good >= STEADY:
            self._stale = False
            return "restored"
        return None

    def silent_ns(self, now_ns: int) -> int:
        """Since the last speed, or since the begin."""
        return now_ns - (self._knots[-1].at_ns if self._knots else self._begun_ns)

    # ---- coils ---------------------------------------------------------------------------------------

    def begin(self, name: str, at_ns: int) -> Coil:
        """A coil begins now, at 0 m.  Returns what ends with it."""
        return self._turn_to(_Stretch(name, self.at(at_ns)), at_ns)

    def end(self, at_ns: int) -> Coil:
        """The coil is over; positions are unknown until the next one.  Returns it."""
        return self._turn_to(_Stretch(None, self.at(at_ns), counted=False), at_ns)

    def hear(self, said: CoilNamed) -> Coil | None:
        """A topic named the coil.  Returns what ended, or None when it is the same one still.

        Only a change that was witnessed is a begin: the first name, and one that a broker kept, may be old, and
        their position stays unknown.
        """
        witnessed = self._names_heard and not said.retained
        self._names_heard = True
        if said.name == self.coil:
            self._kept = None
            return None
        if said.name is None:
            return self.end(said.at_ns)
        if witnessed:
            return self.begin(said.name, said.at_ns)
        return self._turn_to(_Stretch(said.name, None), said.at_ns)

    @property
    def coil(self) -> str | None:
        return self._stretches[-1].name

    def _turn_to(self, stretch: _Stretch, at_ns: int) -> Coil:
        self._kept = None
        over, mark = self._stretches[-1], self.at(at_ns)
        length = None if mark is None or not over.counted else mark.since(over.start)
        self._stretches.append(stretch)
        return Coil(over.name, length)

    def on_coil(self, mark: StripPosition) -> tuple[str | None, float | None]:
        """The coil that a place belongs to, and the metres from its begin; None: not known."""
        for stretch in reversed(self._stretches):
            m = mark.since(stretch.start)
            if m is None:
                return stretch.name, None
            if m >= 0.0:
                return stretch.name, m if stretch.counted else None
        return None, None

    # ---- telling -------------------------------------------------------------------------------------

    def reading(self, now_ns: int) -> Reading:
        kept_since = self._kept.since if self._kept is not None and self._kept.name is not None else None
        if not self._is_on:
            return Reading("off", coil=self.coil, kept_since=kept_since)
        mark = self.at(now_ns)
        state: State = "stale" if self._stale else "known" if mark is not None else "waiting"
        speed = self._knots[-1].m_per_s if mark is not None else None
        position = None if mark is None else self.on_coil(mark)[1]
        return Reading(state, speed, self.coil, position, self._stale_count, kept_since)

    @property
    def is_on(self) -> bool:
        """Whether a speed is to be had at all."""
        return self._is_on


@dataclass(frozen=True, slots=True)
class FramePoint:
    """A place that a frame showed.  mark: where the strip stood then.  ahead_m: from there to the place."""

    mark: StripPosition
    ahead_m: float

    @property
    def place(self) -> StripPosition:
        return self.mark.plus(self.ahead_m)


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of the strip that a flaw takes up, both ends of one leg.  whole: no sighting of it is missing."""

    near: FramePoint
    far: FramePoint
    whole: bool = True

    def joined(self, other: Span | None) -> Span:
        """With another sighting; one whose place is unknown, or of another leg, leaves it incomplete."""
        if other is None or other.near.mark.segment != self.near.mark.segment:
            return replace(self, whole=False)
        near = min(self.near, other.near, key=lambda spot: spot.place.m)
        far = max(self.far, other.far, key=lambda spot: spot.place.m)
        return Span(near, far, self.whole and other.whole)

    @property
    def length_mm(self) -> float | None:
        return round((self.far.place.m - self.near.place.m) * 1000, 1) if self.whole else None
