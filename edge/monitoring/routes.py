"""The table of routes: every page of the HTTP server.  A new page is a file and a row here."""

from __future__ import annotations

from edge.host.clock import Clock
from edge.monitoring.collectors import collectors_of
from edge.monitoring.health_check import HealthPage
from edge.monitoring.monitored_node import MonitoredNode
from edge.monitoring.prometheus import MetricsPage
from edge.monitoring.route import Route


def routes_of(node: MonitoredNode, clock: Clock) -> dict[str, Route]:
    """By path."""
    return {
        "/metrics": Route(MetricsPage(collectors_of(node), clock)),
        "/healthz": Route(HealthPage(node.loops, clock), is_quick=True),
    }
