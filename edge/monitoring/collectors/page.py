"""The page: whether its process runs, and how many look at it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.monitoring.page_process import PageStatus


def collect(page: PageStatus | None) -> Iterator[Metric]:
    """Nothing where the daemon does not start the page."""
    if page is None:
        return
    serves = page.state == "running" and page.link is not None
    yield GaugeMetricFamily("defectd_page_up", "1 while the page is served.", float(serves))
    yield CounterMetricFamily("defectd_page_restarts", "Restarts of the page process.", page.restarts)
    yield GaugeMetricFamily("defectd_page_viewers", "Browsers that show the page.", page.viewers)
