"""Delivery: events stored, sent and confirmed, and the outputs beside MQTT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.delivery.mqtt.publisher import Snapshot
from edge.delivery.outputs import OutputStatus
from edge.host.clock import NS_PER_S
from edge.monitoring.monitored_node import Recorder


def collect(link: Snapshot, recorder: Recorder, outputs: Sequence[OutputStatus], now_ns: int) -> Iterator[Metric]:
    yield from _events(link, recorder, now_ns)
    yield from _outputs(outputs)


def _events(link: Snapshot, recorder: Recorder, now_ns: int) -> Iterator[Metric]:
    waiting = link.depth + recorder.waiting
    yield GaugeMetricFamily("defectd_mqtt_connected", "1 while the broker is connected.", float(link.connected))
    yield GaugeMetricFamily("defectd_outbox_events", "Events that the broker has not confirmed.", waiting)
    yield CounterMetricFamily("defectd_events_stored", "Events stored.", recorder.stored)
    yield CounterMetricFamily("defectd_events_lost", "Events lost because the disk failed.", recorder.dropped)
    yield CounterMetricFamily("defectd_events_acknowledged", "Events that the broker confirmed.", link.acknowledged)
    yield CounterMetricFamily("defectd_events_refused", "Events that the broker refused for good.", link.refused)
    yield CounterMetricFamily("defectd_mqtt_connections", "Connections to the broker.", link.connections)
    if link.last_ack_ns is not None:
        age_s = (now_ns - link.last_ack_ns) / NS_PER_S
        yield GaugeMetricFamily("defectd_last_ack_age_seconds", "Since the last PUBACK.", age_s)


def _outputs(outputs: Sequence[OutputStatus]) -> Iterator[Metric]:
    up = GaugeMetricFamily("defectd_output_up", "1 while the output runs, 0 while it restarts.", labels=["output"])
    restarts = CounterMetricFamily("defectd_output_restarts", "Restarts of the output.", labels=["output"])
    for output in outputs:
        up.add_metric([output.name], float(output.state == "running"))
        restarts.add_metric([output.name], output.restarts)
    yield from (up, restarts)
