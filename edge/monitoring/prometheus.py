"""The page `/metrics`: what the collectors read of the node, in the text format of Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final

from prometheus_client import generate_latest, registry
from prometheus_client.core import GaugeMetricFamily, Metric

from edge.host.clock import Clock
from edge.host.log_throttle import LogThrottle
from edge.monitoring.collectors import Collector
from edge.monitoring.route import Request, Response

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPage(registry.Collector):
    """The handler of the page.  Called by one thread at a time."""

    def __init__(self, collectors: Sequence[Collector], clock: Clock) -> None:
        self._collectors = tuple(collectors)
        self._clock = clock
        self._throttle = LogThrottle(log)

    def __call__(self, _request: Request) -> Response:
        return Response(HTTPStatus.OK, CONTENT_TYPE, generate_latest(self))

    def collect(self) -> Iterator[Metric]:
        """The metrics of every collector.  One that fails is logged and marked; the others go on."""
        now_ns = self._clock.monotonic_ns()
        up = GaugeMetricFamily("defectd_collector_up", "0 for a collector that failed.", labels=["collector"])
        for collector in self._collectors:
            try:
                families = [*collector.collect(now_ns)]
            except Exception as error:  # noqa: BLE001 (logged below; one concern must not hide the others)
                families = []
                self._log_failure(collector.name, error, now_ns)
                up.add_metric([collector.name], 0.0)
            else:
                up.add_metric([collector.name], 1.0)
            yield from families
        yield up

    def _log_failure(self, name: str, error: Exception, now_ns: int) -> None:
        left_out = self._throttle.ready(name, now_ns)
        if left_out is not None:
            words = "the metrics of %s are missing (%d more failures since the last line)"
            log.error(words, name, left_out, exc_info=error)
