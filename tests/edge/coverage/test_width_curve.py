"""The width along the strip: samples of one meter, and limits with hysteresis."""

from __future__ import annotations

import pytest

from edge.coverage.width_curve import WidthCurve, WidthLimits, WidthSample


def test_each_meter_gives_its_median_least_and_most() -> None:
    """Single wrong frames do not move the median; the figures start anew with a coil."""
    curve = WidthCurve()
    ended = [curve.add(width, "A", at, 0) for width, at in ((1250.0, 0.1), (1251.0, 0.4), (1300.0, 0.9), (1249.0, 1.0))]
    assert ended == [None, None, None, WidthSample("A", 0.0, 1251.0, 1250.0, 1300.0)]
    assert curve.end() == WidthSample("A", 1.0, 1249.0, 1249.0, 1249.0)
    figures = curve.figures
    assert figures is not None
    assert (figures.last, figures.least, figures.most, figures.mean) == (1249.0, 1249.0, 1251.0, 1250.0)
    curve.add(900.0, "B", 0.0, 0)
    curve.end()
    assert curve.figures is not None
    assert curve.figures.most == 900.0


def test_unknown_places_give_a_sample_each_second() -> None:
    """Without a speed the curve goes on, without places."""
    curve = WidthCurve()
    found = [curve.add(1250.0, None, None, ms * 1_000_000) for ms in range(0, 2500, 100)]
    assert [sample for sample in found if sample] == [WidthSample(None, None, 1250.0, 1250.0, 1250.0)] * 2


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ([1250, 1252, 1253.1, 1252.9, 1252.9], [None, None, "out", None, None]),
        ([1246, 1250, 1250, 1250], ["out", None, "restored", None]),
        ([1246, 1250, 1254, 1250, 1250], ["out", None, None, None, "restored"]),
    ],
)
def test_width_is_restored_well_within_its_limits(widths: list[float], expected: list[str | None]) -> None:
    """A width at its limit does not give an event a meter."""
    limits = WidthLimits(1250.0, 3.0)
    assert [limits.check(width) for width in widths] == expected
