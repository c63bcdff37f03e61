"""Evidence: the images on disk, and those that were not kept."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.monitoring.monitored_node import Evidence


def collect(evidence: Evidence | None) -> Iterator[Metric]:
    if evidence is None:
        return
    archive = evidence.archive
    files = GaugeMetricFamily("defectd_evidence_files", "Images on disk, by kind.", labels=["kind"])
    for kind, n in tuple(archive.files.items()):
        files.add_metric([kind], n)
    lost = CounterMetricFamily("defectd_evidence_lost", "Images that were not kept, by cause.", labels=["cause"])
    for cause, n in tuple(evidence.lost.items()):
        lost.add_metric([cause], n)
    written = archive.written_bytes
    yield from (files, lost)
    yield GaugeMetricFamily("defectd_evidence_bytes", "Size of the images on disk.", archive.bytes)
    yield CounterMetricFamily("defectd_evidence_written_bytes", "Bytes written: the wear of a flash card.", written)
    yield CounterMetricFamily("defectd_evidence_evicted", "Images deleted to keep the quota.", archive.evicted)
