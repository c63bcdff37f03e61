"""When int8 is kept: limits on what it loses against fp32, with tests that tell a loss from counting noise.

Both networks predict the same pictures, so only pictures that one of them gets right count (McNemar). A loss above its
limit refuses int8 if chance does not explain it, or if it is so large that one need not ask. What the pictures could
not have shown is said, too: with few of them only a large loss can be found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LEVEL: Final = 0.05
"""Probability of refusing an int8 network that is as good as fp32, by each of the tests."""
POWER: Final = 0.95
SMALL: Final = 2
"""Pictures: a loss of no more is never refused for its size alone."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What int8 must reach to be kept, on pictures that training did not see and on this machine."""

    accuracy_drop: float = 0.003
    """Loss of accuracy against fp32 on clean pictures that is refused if it is no chance."""
    mean_drop: float = 0.0075
    """The same for the mean over the corruptions of the robustness suite."""
    corruption_drop: float = 0.015
    """The same for each corruption."""
    largest_drop: float = 0.05
    """Loss that is refused in any case, clean and in the mean over the corruptions; twice that for one corruption."""
    agreement: float = 0.98
    """Share of pictures with the same class as fp32; refused if it is lower, and that is no chance."""
    gain: float = 1.1
    """Minimum speed-up: time of fp32 / time of int8, for one tile and for a line-scan frame."""
    rounds: int = 200
    """Rounds of the timing."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """lost: pictures that only fp32 gets right.  won: that only int8 does.  of: all of them."""

    lost: int
    won: int
    of: int

    @property
    def drop(self) -> float:
        """Loss of accuracy, a share; negative where int8 is better."""
        return (self.lost - self.won) / self.of if self.of else 0.0

    @property
    def p_value(self) -> float:
        """McNemar's mid-p value, one-sided: small where int8 is worse than fp32."""
        apart = self.lost + self.won
        if not apart:
            return 1.0
        return (_at_least(self.lost, apart, 0.5) + _at_least(self.lost + 1, apart, 0.5)) / 2

    def exceeds(self, limit: float, level: float, largest: float) -> bool:
        """Whether the loss is above `limit` and no chance at this level, or above `largest` in any case."""
        too_large = self.drop > largest and self.lost - self.won > SMALL
        return too_large or (self.drop > limit and self.p_value < level)


def pooled(lost_minus_won: Mapping[int, int]) -> Pairs:
    """Pictures that int8 gets right less often than fp32 over all corruptions, and those more often.

    One picture under fifteen corruptions is no fifteen pictures: it counts once.  lost_minus_won: by picture.
    """
    worse = sum(net > 0 for net in lost_minus_won.values())
    better = sum(net < 0 for net in lost_minus_won.values())
    return Pairs(worse, better, len(lost_minus_won))


def detectable(of: int) -> float:
    """The smallest share of pictures on which int8 must fail alone to be refused with a probability of POWER.

    1 where there are too few pictures to refuse anything by a test.
    """
    needed = next(lost for lost in range(1, 64) if Pairs(lost, 0, max(of, 1)).p_value < LEVEL)
    if of < needed or _at_least(needed, of, 0.999) < POWER:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(needed, of, middle) >= POWER else (middle, high)
    return high


def refusals(gate: Gate, measured: Mapping[str, Any]) -> tuple[str, ...]:
    """Why int8 is not kept; empty where it is.  measured: as `quantize` records it."""
    n, found = measured["n"], []
    clean = Pairs(measured["lost"], measured["won"], n)
    if clean.exceeds(gate.accuracy_drop, LEVEL, gate.largest_drop):
        found.append(f"{_loss(clean)} (p = {clean.p_value:.2g})")
    corrupted = {name: Pairs(lost, won, n) for name, (lost, won) in measured["corrupted_lost_won"].items()}
    if corrupted:
        mean = sum(pairs.drop for pairs in corrupted.values()) / len(corrupted)
        by_picture = Pairs(*measured["worse_better"], n)
        is_worse = mean > gate.mean_drop and by_picture.p_value < LEVEL
        if is_worse or (mean > gate.largest_drop and mean * n > SMALL):
            found.append(
                f"over {len(corrupted)} corruptions it loses {mean:.1%} in the mean, on {by_picture.lost} pictures "
                f"worse than fp32 and on {by_picture.won} better (p = {by_picture.p_value:.2g})"
            )
    for name, pairs in corrupted.items():
        if pairs.exceeds(gate.corruption_drop, LEVEL / len(corrupted), 2 * gate.largest_drop):
            found.append(f"under {name} {_loss(pairs)} (p = {pairs.p_value:.2g})")
    differ = round((1 - measured["agreement"]) * n)
    if measured["agreement"] < gate.agreement and _at_least(differ, n, 1 - gate.agreement) < LEVEL:
        found.append(f"it agrees with fp32 on {measured['agreement']:.1%}, at least {gate.agreement:.1%} are required")
    times = measured["times_fp32"]
    found += [
        f"fp32 takes only {times[count]:.2f} times as long for {count} tiles, at least {gate.gain:g} is required"
        for count in list(times)[:2]
        if times[count] < gate.gain
    ]
    return tuple(found)


def guarantee(gate: Gate, measured: Mapping[str, Any]) -> str:
    """What the comparison shows, and what it could not have shown, in one paragraph."""
    n = measured["n"]
    clean = Pairs(measured["lost"], measured["won"], n)
    text = (
        f"int8 against fp32 on {n} pictures that training did not see: clean it loses {clean.lost} and wins {clean.won}"
    )
    corrupted = measured["corrupted_lost_won"].values()
    if corrupted:
        lost, won = (sum(column) for column in zip(*corrupted, strict=True))
        text += (
            f"; under {len(corrupted)} corruptions it loses {lost} and wins {won} of {n * len(corrupted)} predictions"
        )
    share = detectable(n)
    power = (
        "Too few pictures to tell a loss from chance: only its size could refuse it" if share >= 1
        else f"A loss on {share:.1%} of the pictures or more would have been refused with a probability of {POWER:.0%}"
    )  # fmt: skip
    limit = f"a mean loss above {gate.largest_drop:.0%} is refused in any case"
    return f"{text}. {power}; {limit}."


def _at_least(count: int, of: int, share: float) -> float:
    """The probability of `count` or more hits in `of` tries, each with the probability `share`."""
    if share <= 0 or share >= 1:
        return float(count <= (of if share >= 1 else 0))
    logs = (
        math.lgamma(of + 1) - math.lgamma(i + 1) - math.lgamma(of - i + 1)
        + i * math.log(share) + (of - i) * math.log1p(-share)
        for i in range(max(count, 0), of + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def _loss(pairs: Pairs) -> str:
    return (
        f"it gets {pairs.lost} of {pairs.of} pictures wrong that fp32 gets right, and {pairs.won} the other way round"
    )
