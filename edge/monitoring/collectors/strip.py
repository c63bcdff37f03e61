"""The strip: where its edges are, how fast it runs, and how much of it passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.coverage.strip_position import StripReading
from edge.monitoring.monitored_node import LineSignals
from edge.pipeline.camera_session import CameraSession


def collect(sessions: Sequence[CameraSession], reading: StripReading, signals: LineSignals | None) -> Iterator[Metric]:
    yield from _edges(sessions)
    yield from _width(sessions)
    if reading.state != "off":
        yield from _position(reading)
        if signals is not None:
            yield from _messages(signals)
        yield _length(sessions)


def _edges(sessions: Sequence[CameraSession]) -> Iterator[Metric]:
    labels = ["camera", "edge"]
    place = GaugeMetricFamily("defectd_strip_edge_pixels", "Position of a followed strip edge.", labels=labels)
    lost = CounterMetricFamily(
        "defectd_strip_edge_lost_frames",
        "Frames in which the edge was lost and the fixed region was inspected.",
        labels=labels,
    )
    for session in sessions:
        for side, edge in session.inspector.edges.items():
            if edge.at_px is not None:
                place.add_metric([session.camera.name, side], edge.at_px)
            lost.add_metric([session.camera.name, side], edge.lost_frames)
    yield from (place, lost)


def _width(sessions: Sequence[CameraSession]) -> Iterator[Metric]:
    width = GaugeMetricFamily("defectd_strip_width_mm", "Last measured width of the strip.", labels=["camera"])
    is_out = GaugeMetricFamily("defectd_strip_width_out", "1 while the width is out of its limits.", labels=["camera"])
    for session in sessions:
        figures = session.width.curve.figures
        if figures is not None:
            width.add_metric([session.camera.name], figures.last)
        if session.width.limits is not None:
            is_out.add_metric([session.camera.name], float(session.width.limits.is_out))
    yield from (width, is_out)


def _position(reading: StripReading) -> Iterator[Metric]:
    known = float(reading.state == "known")
    yield GaugeMetricFamily("defectd_strip_speed_known", "1 while the speed of the strip is known.", known)
    if reading.m_per_s is not None:
        yield GaugeMetricFamily("defectd_strip_speed_m_per_s", "Speed of the strip.", reading.m_per_s)
    if reading.position_m is not None:
        yield GaugeMetricFamily("defectd_strip_position_m", "Meters of this coil that have passed.", reading.position_m)
    yield CounterMetricFamily("defectd_strip_speed_stale", "Times that the last speed became too old.", reading.stale)


def _messages(signals: LineSignals) -> Iterator[Metric]:
    refused = CounterMetricFamily(
        "defectd_strip_messages_refused", "Messages about speed and coil that were refused.", labels=["reason"]
    )
    for reason, n in tuple(signals.refused.items()):
        refused.add_metric([reason], n)
    yield refused
    yield CounterMetricFamily("defectd_strip_messages_dropped", "Messages that newer ones displaced.", signals.dropped)


def _length(sessions: Sequence[CameraSession]) -> Metric:
    length = CounterMetricFamily("defectd_strip_meters", "Meters that have passed.", labels=["camera", "outcome"])
    for session in sessions:
        passed = session.counters.account.total()["strip"]
        for outcome in ("inspected", "partial", "missed") if passed else ():
            length.add_metric([session.camera.name, outcome], passed[f"{outcome}_m"])
    return length
