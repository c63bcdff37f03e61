"""Latency: how long each stage takes, from the grab of a frame to the broker's confirmation of its event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric

from edge.pipeline.camera_session import CameraSession
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.histogram import Counts

LIMITS_MS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000, 5000, 60_000)
"""Upper ends of the buckets."""


def collect(sessions: Sequence[CameraSession], events: EventLatency) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "defectd_stage_seconds",
        "Time by stage: queue, preprocess, inference, decide; total from grab to verdict; "
        "outbox and broker from the decision of an event to its commit and its PUBACK.",
        labels=["camera", "stage"],
    )
    for session in sessions:
        name = session.camera.name
        for stage, histogram in session.counters.stages.items():
            _add(family, [name, stage], histogram.counts())
        for stage, histograms in (("outbox", events.to_outbox), ("broker", events.to_broker)):
            if name in histograms:
                _add(family, [name, stage], histograms[name].counts())
    yield family


def _add(family: HistogramMetricFamily, labels: list[str], counts: Counts) -> None:
    buckets = [(str(ms / 1000), float(n)) for ms, n in zip(LIMITS_MS, counts.below(LIMITS_MS), strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(counts.n))], counts.sum_us / 1e6)
