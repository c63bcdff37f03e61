"""The latency of the last hour, as the page keeps it."""

from __future__ import annotations

from typing import Any

from fakes.clock import FakeClock

from edge.web.trend import Trend


def state(*cameras: tuple[float | None, float | None]) -> dict[str, Any]:
    return {"cameras": [{"p50_ms": p50, "p99_ms": p99, "budget_ms": 20 + at} for at, (p50, p99) in enumerate(cameras)]}


def test_each_minute_is_a_point_of_its_worst() -> None:
    """Over its states and its cameras; states without figures make none; the budget is the smallest."""
    clock = FakeClock(wall_ns=1_790_000_000 // 60 * 60 * 10**9)
    trend = Trend(clock)
    trend.note({})
    trend.note(state((None, None)))
    assert trend.as_json()["time"] == []
    trend.note(state((2.0, 5.0), (3.0, 4.0)))
    clock.advance(30)
    trend.note(state((2.5, 9.0)))
    clock.advance(60)
    trend.note(state((1.0, 2.0), (None, None)))
    found = trend.as_json()
    assert (found["p50_ms"], found["p99_ms"], found["budget_ms"]) == ([3.0, 1.0], [9.0, 2.0], 20.0)
    assert [text[17:] for text in found["time"]] == ["00.000Z", "00.000Z"]


def test_trend_forgets_what_is_older_than_an_hour() -> None:
    """Sixty points, whatever the time."""
    clock = FakeClock()
    trend = Trend(clock)
    for minute in range(200):
        trend.note(state((float(minute), 1.0)))
        clock.advance(60)
    assert trend.as_json()["p50_ms"] == [float(minute) for minute in range(140, 200)]
