"""A clock that tests set."""

from __future__ import annotations

from edge.host.clock import NS_PER_S


class FakeClock:
    """Stands still until a test advances it."""

    def __init__(self, wall_ns: int = 1_790_000_000 * NS_PER_S, monotonic_ns: int = 5_000 * NS_PER_S) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance(self, seconds: float) -> None:
        step_ns = round(seconds * NS_PER_S)
        self._monotonic_ns += step_ns
        self._wall_ns += step_ns
