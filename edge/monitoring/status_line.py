"""The condition of the node in one line, for `systemctl status`."""

from __future__ import annotations

from collections.abc import Sequence

from edge.delivery.mqtt.publisher import Snapshot
from edge.host.clock import NS_PER_S
from edge.pipeline.reporting import Report


def status_line(reports: Sequence[Report], link: Snapshot, now_ns: int) -> str:
    """Cameras, frame rate, the largest p99 from grab to verdict, waiting events, and the broker."""
    running = [report for report in reports if report.state == "running"]
    others = ", ".join(f"{report.camera} {report.state}" for report in reports if report.state != "running")
    p99_ms = max((report.latency.p99 for report in reports if report.latency.n), default=None)
    broker = "broker up" if link.connected else f"broker AWAY for {(now_ns - link.since_ns) / NS_PER_S:.0f} s"
    return "; ".join(
        (
            f"{len(running)} of {len(reports)} cameras run{f' ({others})' if others else ''}",
            f"{sum(report.fps for report in reports):.1f} fps",
            "no verdict yet" if p99_ms is None else f"p99 {p99_ms:.1f} ms",
            f"{link.depth} events wait",
            broker,
        )
    )
