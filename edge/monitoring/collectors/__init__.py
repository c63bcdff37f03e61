"""The metrics of the node by concern, one file each.

A new metric is a change in one file; a new concern is a file and a row in `collectors_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import Metric

from edge.monitoring.collectors import (
    camera,
    coverage,
    delivery,
    evidence,
    http,
    latency,
    machine,
    model,
    page,
    process,
    strip,
)
from edge.monitoring.monitored_node import MonitoredNode


@dataclass(frozen=True, slots=True)
class Collector:
    """Reads one concern of the node anew for each request."""

    name: str
    collect: Callable[[int], Iterable[Metric]]
    """Takes the monotonic time, ns.  May raise anything: its own metrics are missing then, those of others are not."""


def collectors_of(node: MonitoredNode) -> tuple[Collector, ...]:
    return (
        Collector("model", lambda _: model.collect(node.info(), node.shadow())),
        Collector("coverage", lambda _: coverage.collect(node.sessions())),
        Collector("camera", lambda now_ns: camera.collect(node.sessions(), node.cameras.snapshot(), now_ns)),
        Collector("strip", lambda _: strip.collect(node.sessions(), node.strip(), node.signals)),
        Collector("latency", lambda _: latency.collect(node.sessions(), node.latency)),
        Collector(
            "delivery",
            lambda now_ns: delivery.collect(node.publisher.snapshot(), node.recorder, node.outputs(), now_ns),
        ),
        Collector("evidence", lambda _: evidence.collect(node.evidence)),
        Collector(
            "process", lambda now_ns: process.collect(node.loops(), node.cameras.snapshot(), node.page(), now_ns)
        ),
        Collector("machine", lambda _: machine.collect()),
        Collector("page", lambda _: page.collect(node.page())),
        Collector("http", lambda _: http.collect(node.http_refused)),
    )
