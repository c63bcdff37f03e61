"""Durations counted into buckets: bounded memory, quantiles within 3 %."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SUB_BITS: Final = 5
"""2**5 buckets per octave: a bucket is 1/32 of its value wide."""
LARGEST_US: Final = 1 << 36
"""Nineteen hours; longer durations are counted as this."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Quantiles of n durations, ms."""

    n: int
    p50: float
    p95: float
    p99: float
    p999: float
    max: float


class Histogram:
    """Counts of durations in log-linear buckets, as HdrHistogram has them. Not locked: one thread owns it."""

    __slots__ = ("_counts", "_max_us", "_n")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._n = 0
        self._max_us = 0

    def __len__(self) -> int:
        return self._n

    def add(self, duration_ns: int) -> None:
        """Count one duration; a negative one counts as 0."""
        us = min(max(0, duration_ns // 1000), LARGEST_US)
        bucket = _bucket(us)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._n += 1
        self._max_us = max(self._max_us, us)

    def quantile_ms(self, share: float) -> float:
        """The duration that `share` (0 to 1) of all stayed at or below, ms; 0 when nothing was counted."""
        rank = math.ceil(share * self._n - 1e-9)  # 0.07 * 100 is a little above 7
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return min(_upper_us(bucket), self._max_us) / 1000
        return 0.0

    def summary(self) -> Summary:
        p50, p95, p99, p999 = (self.quantile_ms(share) for share in (0.5, 0.95, 0.99, 0.999))
        return Summary(self._n, p50, p95, p99, p999, self._max_us / 1000)

    def clear(self) -> None:
        self._counts.clear()
        self._n = 0
        self._max_us = 0


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
