"""Roll marks: defects at one place across the strip, one circumference of a roll apart.

Each pair of defects at one place across is a hypothesis "one revolution apart", or two. It is followed along the
strip: is there a defect at the next place where the roll must have left one? A place that was not inspected counts
neither way. How surprising so many hits are is a binomial tail, with the mean of what the neighbourhood has of defects
at such a place (the tail of unequal chances is below it: Hoeffding 1956). It is multiplied by the number of hypotheses,
of lengths and of tolerances that were tried (Bonferroni), so that `log10_chance` is that of a whole surface without a
roll mark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from edge.coverage.defect_bands import Breathe, DefectBands, PlacedDefect, Streak, Unseen, without_doubles

MIN_MEMBERS: Final = 5
MAX_GAP: Final = 40
"""Revolutions between two marks, at most: uninspected places do not count as missed."""
LEVELS: Final = (1.0, 0.5, 0.25)
"""Shares of the tolerance at which hits are counted: marks lie closer to their places than chance defects do."""
SEED_TURNS: Final = (1, 2)
MULTIPLES: Final = (1.0, 2.0, 3.0, 1 / 2, 1 / 3)
"""A fixed fault repeats after its period, may be seen every second or third time, or pass for a smaller roll."""
EXCLUDED_SHARE: Final = 0.005
DIVIDED_LOG10: Final = -1.0
"""Chance of marks between those of a chain, below which it has half or a third of the period."""


@dataclass(frozen=True, slots=True)
class Search:
    """How roll marks are searched for.  The defaults are those of `docs/roll-marks.md`, where they were measured."""

    shortest_m: float = 0.15
    longest_m: float = 7.0
    along_mm: float = 12.0
    """Three sigma of where along the strip a defect is reported."""
    along_share: float = 0.002
    """Of the period: what the scale of positions may change from one revolution to the next."""
    across_mm: float = 12.0
    """Three sigma across, from one revolution to the next."""
    double_mm: float = 60.0
    """Defects nearer than this at one place across are one."""
    max_missed: int = 6
    """Inspected places in a row without a defect."""
    near_m: float = 0.5
    far_m: float = 40.0
    """How far the neighbourhood reaches, whose defects decide what is surprising."""
    alarm_log10: float = -2.0
    """One false mark in 100 coils, at most."""
    max_pairs: int = 20_000
    streak_per_m: float = 2.0
    streak_window_m: float = 10.0


@dataclass(frozen=True, slots=True)
class RollMark:
    """One place of one roll that marks the strip.  members: seq of their events, along the strip."""

    period_m: float
    period_error_m: float
    """One sigma of the fit."""
    across_mm: float
    from_m: float
    to_m: float
    members: tuple[int, ...]
    seen: int
    places: int
    """Inspected places from the first mark to the last."""
    uninspected: int
    """Further places between them, of which nothing is known."""
    log10_chance: float
    class_name: str
    """The class of most members."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on one surface.  The most surprising mark comes first."""

    marks: tuple[RollMark, ...] = ()
    streaks: tuple[Streak, ...] = ()
    pairs: int = 0
    """Hypotheses that were tried."""
    pairs_left_out: int = 0
    """Hypotheses beyond `max_pairs`, which were not tried."""


@dataclass(frozen=True, slots=True)
class Background:
    """What is known beyond the defects that are searched: of a whole coil, while only a part of it is searched."""

    pairs: int = 0
    """Hypotheses expected of the whole coil."""
    per_m: float | None = None
    """Defects usual in a band, a meter; None: by the defects that are searched."""


def find_marks(
    defects: Iterable[PlacedDefect],
    unseen: Iterable[tuple[float, float]] = (),
    excluded_m: Sequence[float] = (),
    background: Background | None = None,
    search: Search | None = None,
    breathe: Breathe = lambda: None,
    *,
    first_only: bool = False,
) -> Found:
    """Search the defects of one surface for roll marks.

    unseen: parts of the strip that were not inspected, m.  excluded_m: periods of the inspection itself (the advance
    between two frames, the pitch of the tiles), at which fixed faults repeat.  first_only: only marks whose first place
    is the first defect.
    """
    search = search or Search()
    placed = without_doubles(defects, search.double_mm / 1000, search.across_mm, breathe)
    if len(placed) < MIN_MEMBERS:
        return Found()
    bands = DefectBands([d.m for d in placed], [d.across_mm for d in placed], search.across_mm)
    streaks, in_streaks = bands.streaks(search.streak_per_m, search.streak_window_m, breathe)
    if in_streaks:
        placed = [d for k, d in enumerate(placed) if k not in in_streaks]
        bands = DefectBands([d.m for d in placed], [d.across_mm for d in placed], search.across_mm)
    if len(placed) < MIN_MEMBERS:
        return Found(streaks=tuple(streaks))
    run = _Run(bands, Unseen(unseen), search, background or Background())
    seeds, left_out = _seeds(bands, search, breathe, 1 if first_only else len(bands))
    run.tried = max(1, len(seeds), run.tried)
    chains = []
    used: set[tuple[int, int]] = set()
    for i, j, turns in seeds:
        breathe()
        if (i, j) in used:
            continue
        chain = run.follow(i, j, turns)
        if chain is None:
            continue
        chain = run.divided(run.completed(chain))
        used.update((a, b) for (_, a), (_, b) in zip(chain.links, chain.links[1:], strict=False))
        chains.append(chain)
    # Only now: the chain of a fixed fault takes its defects from chains at other periods.
    marks = (
        _as_mark(chain, placed, run) for chain in _distinct(chains) if not _is_excluded(chain.period_m, excluded_m)
    )
    return Found(tuple(marks), tuple(streaks), len(seeds), left_out)


@dataclass(frozen=True, slots=True)
class _Chain:
    """links: (revolution, defect), in order."""

    links: tuple[tuple[int, int], ...]
    period_m: float
    sigma_m: float
    log10_chance: float


class _Run:
    """One search over the bands of a surface."""

    def __init__(self, bands: DefectBands, unseen: Unseen, search: Search, background: Background) -> None:
        self._bands = bands
        self._unseen = unseen
        self._search = search
        self.tried = background.pairs
        width_mm = max(bands.ys) - min(bands.ys) + 2 * search.across_mm
        length_m = max(bands.xs[-1] - bands.xs[0], 1.0)
        usual = len(bands) * 2 * search.across_mm / width_mm / length_m
        self._usual = usual if background.per_m is None else max(background.per_m, 1e-6)
        self._far: dict[tuple[int, int, int, int], float] = {}

    def follow(self, i: int, j: int, turns: int) -> _Chain | None:
        """Follow the hypothesis that this pair is so many revolutions apart.  None: it may well be chance."""
        search, xs, ys = self._search, self._bands.xs, self._bands.ys
        links = [(0, i), (turns, j)]
        period_m = (xs[j] - xs[i]) / turns
        hits, places, missed, turn = [0] * len(LEVELS), 0, 0, turns
        chances = 0.0
        best, best_links = math.inf, 0
        while missed <= search.max_missed:
            turn += 1
            last_turn, last = links[-1]
            gap = turn - last_turn
            at = xs[last] + gap * period_m
            if at > xs[-1] + 0.05 or gap > MAX_GAP:
                break
            if self._unseen.has(at):
                continue
            within = self._tolerance(links, period_m, gap)
            places += 1
            chances += 1 - math.exp(-self._rate(at, ys[last], i, j, period_m) * 2 * within)
            near = self._bands.near(at - within, at + within, ys[last])
            if not near:
                missed += 1
                continue
            hit = min(near, key=lambda k: abs(xs[k] - at))
            off = abs(xs[hit] - at) / within
            for level, share in enumerate(LEVELS):
                hits[level] += off <= share
            missed = 0
            links.append((turn, hit))
            period_m, _ = self._fit(links[-12:])
            if len(links) >= MIN_MEMBERS:
                chance = self._chance(hits, places, chances / places)
                if chance < best:
                    best, best_links = chance, len(links)
        if not best_links or best > search.alarm_log10:
            return None
        return self._chain(links[:best_links], best)

    def _chance(self, hits: Sequence[int], places: int, mean: float) -> float:
        """log10 of how probable a chain like this is in one coil without a roll mark."""
        tails = (log10_tail(n, places, mean * share) for n, share in zip(hits, LEVELS, strict=True))
        return min(tails) + math.log10(self.tried) + math.log10(places) + math.log10(len(LEVELS))

    def _tolerance(self, links: Sequence[tuple[int, int]], period_m: float, gap: int) -> float:
        """How far from its place the next mark may lie, m: more while few marks say where that is."""
        if len(links) == 2:  # noqa: SIM108 (a table)
            sure = 2.45 if links[1][0] == 1 else 1.9
        else:
            sure = 1.8 if len(links) == 3 else 1.5
        search = self._search
        return min(search.along_mm / 1000 * sure + search.along_share * period_m * gap, period_m / 4)

    def _rate(self, at: float, across_mm: float, i: int, j: int, period_m: float) -> float:
        """Defects a meter at this place, without the pair itself: of near by, of farther, or one in each revolution.

        Whichever is most.  One in each revolution, at any place of it: a broken scratch is no roll mark.
        """
        key = int(at / 2), int(2 * across_mm / self._search.across_mm), i, j
        if key not in self._far:
            if len(self._far) > 50_000:
                self._far.clear()
            self._far[key] = self._density(at, across_mm, self._search.far_m, i, j)
        near_m = max(1.5 * period_m, self._search.near_m)
        return max(1 / period_m, self._far[key], self._density(at, across_mm, near_m, i, j))

    def _density(self, at: float, across_mm: float, half_m: float, i: int, j: int) -> float:
        """Defects a meter within so many meters, drawn towards what is usual on the surface."""
        xs = self._bands.xs
        from_m, to_m = at - half_m, at + half_m
        count = len(self._bands.near(from_m, to_m, across_mm))
        count -= sum(
            from_m <= xs[k] <= to_m and abs(self._bands.ys[k] - across_mm) <= self._search.across_mm for k in (i, j)
        )
        seen_m = min(xs[-1], to_m) - max(xs[0], from_m) - self._unseen.within(from_m, to_m)
        return (count + 0.5) / (max(seen_m, half_m / 4) + 0.5 / self._usual)

    def _fit(self, links: Sequence[tuple[int, int]]) -> tuple[float, float]:
        """Period by least squares, and one sigma of it, m."""
        xs, n = self._bands.xs, len(links)
        mean_turn = sum(turn for turn, _ in links) / n
        mean_m = sum(xs[k] for _, k in links) / n
        spread = sum((turn - mean_turn) ** 2 for turn, _ in links)
        period_m = sum((turn - mean_turn) * (xs[k] - mean_m) for turn, k in links) / spread
        rest = sum((xs[k] - mean_m - period_m * (turn - mean_turn)) ** 2 for turn, k in links)
        return period_m, math.sqrt(rest / max(1, n - 2) / spread)

    def _chain(self, links: Sequence[tuple[int, int]], log10_chance: float) -> _Chain:
        first = links[0][0]
        links = tuple((turn - first, k) for turn, k in links)
        return _Chain(links, *self._fit(links), log10_chance)

    def completed(self, chain: _Chain) -> _Chain:
        """The chain with the marks before its first one, where the pair that it started from was not the first."""
        search, xs, ys = self._search, self._bands.xs, self._bands.ys
        links, missed, turn = list(chain.links), 0, 0
        period_m, _ = self._fit(links[:12])
        while missed < 2:
            turn -= 1
            first_turn, first = links[0]
            gap = first_turn - turn
            at = xs[first] - gap * period_m
            if at < xs[0] - 0.05 or gap > MAX_GAP:
                break
            if self._unseen.has(at):
                continue
            within = min(search.along_mm / 1000 * 1.5 + search.along_share * period_m * gap, period_m / 4)
            near = self._bands.near(at - within, at + within, ys[first])
            if not near:
                missed += 1
                continue
            missed = 0
            links.insert(0, (turn, min(near, key=lambda k: abs(xs[k] - at))))
            period_m, _ = self._fit(links[:12])
        return self._chain(links, chain.log10_chance)

    def divided(self, chain: _Chain) -> _Chain:
        """The chain at half or a third of its period, where more marks lie in between.

        A mark that is often missed may have been followed at every second or third revolution.
        """
        search, xs, ys = self._search, self._bands.xs, self._bands.ys
        _, i = chain.links[0]
        _, j = chain.links[1]
        for parts in (2, 3):
            period_m = chain.period_m / parts
            if period_m < search.shortest_m:
                break
            within = min(search.along_mm / 1000 * 1.5 + search.along_share * period_m, period_m / 4)
            more: list[tuple[int, int]] = []
            places, chances = 0, 0.0
            for (turn, k), (next_turn, next_k) in zip(chain.links, chain.links[1:], strict=False):
                steps = (next_turn - turn) * parts
                for step in range(1, steps):
                    at = xs[k] + (xs[next_k] - xs[k]) * step / steps
                    if step % parts == 0 or self._unseen.has(at):
                        continue
                    places += 1
                    chances += 1 - math.exp(-self._rate(at, ys[k], i, j, period_m) * 2 * within)
                    near = self._bands.near(at - within, at + within, ys[k])
                    if near:
                        more.append((turn * parts + step, min(near, key=lambda n: abs(xs[n] - at))))
            if len(more) >= 2 and len(more) >= 0.2 * places:
                log10 = log10_tail(len(more), places, chances / places)
                if log10 < DIVIDED_LOG10:
                    links = sorted([(turn * parts, k) for turn, k in chain.links] + more)
                    return self._chain(links, chain.log10_chance + log10)
        return chain

    def places(self, chain: _Chain) -> tuple[int, int]:
        """Places from the first mark to the last: inspected, and not inspected."""
        xs = self._bands.xs
        seen = unseen = 0
        for (turn, k), (next_turn, next_k) in zip(chain.links, chain.links[1:], strict=False):
            seen += 1
            for step in range(1, next_turn - turn):
                is_unseen = self._unseen.has(xs[k] + (xs[next_k] - xs[k]) * step / (next_turn - turn))
                unseen += is_unseen
                seen += not is_unseen
        return seen + 1, unseen


def log10_tail(k: int, n: int, p: float) -> float:
    """log10 of the chance that a binomial variable of n trials with chance p is k or more."""
    p = min(max(p, 1e-12), 0.999999)
    if k <= n * p:
        return 0.0
    log_p, log_q = math.log(p), math.log1p(-p)
    top = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q
    ratio, total, term = math.exp(log_p - log_q), 1.0, 1.0
    for i in range(k, n):  # each term from the one before it; they fall, because k is above the mean
        term *= (n - i) / (i + 1) * ratio
        total += term
        if term < 1e-12 * total:
            break
    return (top + math.log(total)) / math.log(10)


def _seeds(
    bands: DefectBands, search: Search, breathe: Breathe, origins: int
) -> tuple[list[tuple[int, int, int]], int]:
    """Hypotheses: pairs of defects, so many revolutions apart; and how many more than the limit there are.

    origins: the first defect of a pair is one of so many.

    Above the limit the pairs are taken evenly from the whole strip, those of one revolution before those of two.
    """
    found: dict[int, list[tuple[int, int, int]]] = {turns: [] for turns in SEED_TURNS}
    counted = 0
    ceiling = 20 * search.max_pairs
    for i, (x, y) in enumerate(zip(bands.xs[:origins], bands.ys[:origins], strict=True)):
        for j in bands.near(x + search.shortest_m, x + search.longest_m * SEED_TURNS[-1], y):
            for turns in SEED_TURNS:
                if search.shortest_m <= (bands.xs[j] - x) / turns <= search.longest_m:
                    counted += 1
                    if counted <= ceiling:
                        found[turns].append((i, j, turns))
        if i % 100 == 0:
            breathe()
    seeds: list[tuple[int, int, int]] = []
    for turns in SEED_TURNS:
        room = search.max_pairs - len(seeds)
        every = -(-len(found[turns]) // room) if room > 0 else 0
        seeds += found[turns][::every] if every > 1 else found[turns][:room]
    seeds.sort()
    return seeds, counted - len(seeds)


def _is_excluded(period_m: float, excluded_m: Iterable[float]) -> bool:
    return any(
        abs(period_m / (fixed_m * times) - 1) <= EXCLUDED_SHARE
        for fixed_m in excluded_m
        if fixed_m > 0
        for times in MULTIPLES
    )


def _distinct(chains: Iterable[_Chain]) -> list[_Chain]:
    """Of chains that share defects the most surprising one: multiples and fractions of a period go."""
    kept: list[_Chain] = []
    taken: set[int] = set()
    for chain in sorted(chains, key=lambda c: (c.log10_chance, c.links)):
        members = {k for _, k in chain.links}
        if len(members - taken) >= max(MIN_MEMBERS, 0.6 * len(members)):
            kept.append(chain)
            taken |= members
    return kept


def _as_mark(chain: _Chain, placed: Sequence[PlacedDefect], run: _Run) -> RollMark:
    members = [placed[k] for _, k in chain.links]
    places, uninspected = run.places(chain)
    names = Counter(member.class_name for member in members)
    return RollMark(
        chain.period_m,
        chain.sigma_m,
        median(member.across_mm for member in members),
        members[0].m,
        members[-1].m,
        tuple(member.seq for member in members),
        len(members),
        places,
        uninspected,
        chain.log10_chance,
        min(names, key=lambda name: (-names[name], name)),
    )
