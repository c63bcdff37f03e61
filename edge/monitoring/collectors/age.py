"""Seconds since a moment, as a gauge."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily

from edge.host.clock import NS_PER_S


def add_age(family: GaugeMetricFamily, label: str, then_ns: int | None, now_ns: int) -> None:
    """Add the age to the family.  then_ns: monotonic; None: it has not happened yet, and there is no age."""
    if then_ns is not None:
        family.add_metric([label], max(0.0, (now_ns - then_ns) / NS_PER_S))
