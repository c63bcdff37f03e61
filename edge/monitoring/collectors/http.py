"""The HTTP server: what it refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric


def collect(refused: Mapping[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "defectd_http_refused", "HTTP connections and requests that were refused, by reason.", labels=["reason"]
    )
    for reason, n in tuple(refused.items()):
        family.add_metric([reason], n)
    yield family
