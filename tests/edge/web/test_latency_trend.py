"""The hour of latency that a page finds when it is opened."""

from edge.web.latency_trend import MINUTES, LatencyTrend


def state(minute: int, *cameras: tuple[float | None, float], second: int = 5) -> dict:
    """cameras: p99 and budget, ms."""
    return {
        "time": f"2026-11-22T{13 + minute // 60}:{minute % 60:02}:{second:02}.120Z",
        "cameras": [{"p50_ms": 1.0, "p99_ms": p99, "budget_ms": budget} for p99, budget in cameras],
    }


def test_a_minute_keeps_its_worst_figure_of_the_camera_nearest_to_its_budget():
    """9 of 10 ms is worse than 12 of 40 ms, and stays when the minute gets better."""
    trend = LatencyTrend()
    trend.add(state(0, (12.0, 40.0), (9.0, 10.0)))
    trend.add(state(0, (3.0, 40.0), (2.0, 10.0), second=40))
    (point,) = trend.points()
    assert (point.p99_ms, point.budget_ms, point.time) == (9.0, 10.0, "2026-11-22T13:00:00.000Z")


def test_unmeasured_cameras_give_no_point_and_an_hour_is_kept():
    """A camera without frames has no latency; the oldest minutes leave."""
    trend = LatencyTrend()
    trend.add(state(0, (None, 10.0)))
    assert trend.points() == []
    for minute in range(90):
        trend.add(state(minute, (4.0, 10.0)))
    assert len(trend.points()) == MINUTES
    assert trend.points()[0].time == "2026-11-22T13:30:00.000Z"
