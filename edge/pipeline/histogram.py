"""Durations counted into buckets: bounded memory, quantiles within 3 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SUB_BITS: Final = 5
"""2**5 buckets per octave: a bucket is 1/32 of its value wide."""
LARGEST_US: Final = 1 << 36
"""Nineteen hours; longer durations count as this."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Quantiles of n durations, ms."""

    n: int
    p50: float
    p95: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True, slots=True)
class Counts:
    """The content of a histogram at one moment.  buckets: counts by bucket number."""

    buckets: dict[int, int]
    sum_us: int
    max_us: int

    @property
    def n(self) -> int:
        return sum(self.buckets.values())

    def since(self, earlier: Counts | None) -> Counts:
        """The durations added after `earlier`, a moment of the same histogram. The maximum is known to one bucket."""
        if earlier is None:
            return self
        buckets = {b: more for b, n in self.buckets.items() if (more := n - earlier.buckets.get(b, 0))}
        largest = min(self.max_us, _upper_us(max(buckets))) if buckets else 0
        return Counts(buckets, self.sum_us - earlier.sum_us, largest)

    def quantile_ms(self, share: float) -> float:
        """The duration, ms, that `share` (0 to 1) of all durations do not exceed; 0 without durations."""
        rank = math.ceil(share * self.n - 1e-9)  # 0.07 * 100 is a little above 7
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return min(_upper_us(bucket), self.max_us) / 1000
        return 0.0

    def summary(self) -> Summary:
        p50, p95, p99, p999 = (self.quantile_ms(share) for share in (0.5, 0.95, 0.99, 0.999))
        return Summary(self.n, p50, p95, p99, p999, self.max_us / 1000)

    def below(self, limits_ms: Sequence[float]) -> list[int]:
        """How many durations do not exceed each limit.  limits_ms: ascending.  A bucket counts at its upper end."""
        counts, seen = [], 0
        buckets = sorted(self.buckets.items())
        at = 0
        for limit_ms in limits_ms:
            while at < len(buckets) and _upper_us(buckets[at][0]) <= limit_ms * 1000:
                seen += buckets[at][1]
                at += 1
            counts.append(seen)
        return counts


class Histogram:
    """Counts of durations in log-linear buckets, as in HdrHistogram.

    Not locked: one thread adds. Any thread may call `counts`: the interpreter copies a dictionary in one step.
    """

    __slots__ = ("_counts", "_max_us", "_n", "_sum_us")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._n = 0
        self._max_us = 0
        self._sum_us = 0

    def __len__(self) -> int:
        return self._n

    def add(self, duration_ns: int) -> None:
        """Count one duration; a negative one counts as 0."""
        us = min(max(0, duration_ns // 1000), LARGEST_US)
        bucket = _bucket(us)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._n += 1
        self._sum_us += us
        self._max_us = max(self._max_us, us)

    def take(self, counts: Counts) -> None:
        """Add the content of another histogram."""
        for bucket, n in counts.buckets.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + n
        self._n += counts.n
        self._sum_us += counts.sum_us
        self._max_us = max(self._max_us, counts.max_us)

    def counts(self) -> Counts:
        return Counts(self._counts.copy(), self._sum_us, self._max_us)

    def quantile_ms(self, share: float) -> float:
        """The duration, ms, that `share` (0 to 1) of all durations do not exceed; 0 without durations."""
        return self.counts().quantile_ms(share)

    def summary(self) -> Summary:
        return self.counts().summary()

    def clear(self) -> None:
        self._counts.clear()
        self._n = 0
        self._max_us = 0
        self._sum_us = 0


def _bucket(us: int) -> int:
    if us < 1 << (SUB_BITS + 1):
        return us
    octave = us.bit_length() - SUB_BITS - 1
    return (octave << SUB_BITS) + (us >> octave)


def _upper_us(bucket: int) -> int:
    if bucket < 1 << (SUB_BITS + 1):
        return bucket
    octave = (bucket >> SUB_BITS) - 1
    return (((bucket & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS) + 1) << octave) - 1
