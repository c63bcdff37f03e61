"""The machine: temperature, and what slows its processors down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.host import machine


def collect(sysfs: Path = machine.SYS) -> Iterator[Metric]:
    """Nothing where the machine has no such sensors."""
    temperature = GaugeMetricFamily("defectd_temperature_celsius", "Sensors of this machine.", labels=["sensor"])
    for sensor, celsius in machine.temperatures(sysfs):
        temperature.add_metric([sensor], celsius)
    if temperature.samples:
        yield temperature
    times = machine.throttlings(sysfs)
    if times is not None:
        yield CounterMetricFamily("defectd_throttlings", "Times that heat slowed the processors down.", times)
    found = machine.throttling(sysfs)
    if found is not None:
        throttled = GaugeMetricFamily(
            "defectd_throttled", "1 for what slows this machine down.", labels=["reason", "when"]
        )
        for reason in machine.REASONS:
            throttled.add_metric([reason, "now"], float(reason in found.now))
            throttled.add_metric([reason, "since_boot"], float(reason in found.since_boot))
        yield throttled
