"""The door to prometheus_client: what the node knows of itself, for whoever asks over HTTP.

Nothing is counted here. Each request reads what the line, the publisher and the supervisor count anyway; they are
never kept waiting.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from edge.camera.supervised_camera import CameraStatus
from edge.coverage.strip_position import StripReading as Strip
from edge.delivery.mqtt import publisher
from edge.evidence.archive import Archive
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock
from edge.host.watchdog import LOOP_AGE, Loop
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.camera_state import STATES
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.histogram import Counts
from edge.pipeline.shadow import Shadow

log = logging.getLogger(__name__)

LIMITS_MS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000, 5000, 60_000)
STOP_S: Final = 1.0


class Cameras(Protocol):
    """The supervisor, or a fake."""

    def snapshot(self) -> dict[str, CameraStatus]: ...


class Delivery(Protocol):
    """The publisher, or a fake."""

    def snapshot(self) -> publisher.Snapshot: ...


class Events(Protocol):
    """The recorder, or a fake."""

    @property
    def waiting(self) -> int: ...
    @property
    def stored(self) -> int: ...
    @property
    def dropped(self) -> int: ...


class Evidence(Protocol):
    """The keeper of pictures, or a fake."""

    archive: Archive
    lost: dict[str, int]


class Telemetry(Protocol):
    """What was heard of the strip, or a fake."""

    refused: dict[str, int]
    dropped: int


class Reading:
    """A collector: reads everything anew for each request.  Called by the threads of the HTTP server."""

    def __init__(
        self,
        sessions: Callable[[], Sequence[CameraSession]],
        cameras: Cameras,
        delivery: Delivery,
        events: Events,
        trail: EventLatency,
        clock: Clock,
        info: Callable[[], dict[str, str]],
        evidence: Evidence | None = None,
        loops: Callable[[], Mapping[str, Loop]] = dict,
        shadow: Callable[[], Shadow | None] = lambda: None,
        strip: Callable[[], Strip] = lambda: Strip("off"),
        telemetry: Telemetry | None = None,
    ) -> None:
        self._sessions = sessions
        self._cameras = cameras
        self._delivery = delivery
        self._events = events
        self._trail = trail
        self._clock = clock
        self._info = info
        self._evidence = evidence
        self._loops = loops
        self._shadow = shadow
        self._strip = strip
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("defectd", "Version and model.", self._info())
        now_ns = self._clock.monotonic_ns()
        status = self._cameras.snapshot()
        yield from self._coverage()
        yield from self._camera_states(status, now_ns)
        yield from self._strips()
        yield from self._drifts()
        yield self._durations()
        yield from self._deliveries(now_ns)
        yield from self._pictures()
        yield self._rounds(now_ns)
        yield from self._second_opinions()
        yield from self._positions()
        yield from self._processes(status)
        yield from _machine()

    def _coverage(self) -> Iterator[Metric]:
        frames = CounterMetricFamily("defectd_frames", "Frames by the state they ended in.", labels=["camera", "state"])
        lost = CounterMetricFamily(
            "defectd_frames_missed", "Frames that nobody looked at, by reason.", labels=["camera", "state", "reason"]
        )
        tiles = CounterMetricFamily("defectd_tiles", "Tiles inspected and skipped.", labels=["camera", "outcome"])
        partial = CounterMetricFamily("defectd_frames_partial", "Frames inspected in part.", labels=["camera"])
        silent = CounterMetricFamily("defectd_no_signal_seconds", "Time without frames.", labels=["camera"])
        for session in self._sessions():
            name, total = session.camera.name, session.counters.account.total()
            for state, n in total["frames"].items():
                frames.add_metric([name, state], n)
            for (state, reason), n in tuple(session.counters.losses.items()):
                lost.add_metric([name, state, reason], n)
            for outcome, n in total["tiles"].items():
                tiles.add_metric([name, outcome], n)
            partial.add_metric([name], total["partial"])
            silent.add_metric([name], total["no_signal_s"])
        yield from (frames, lost, tiles, partial, silent)

    def _camera_states(self, status: dict[str, CameraStatus], now_ns: int) -> Iterator[Metric]:
        state = GaugeMetricFamily("defectd_camera_state", "1 for the state it is in.", labels=["camera", "state"])
        fps = GaugeMetricFamily("defectd_camera_fps", "Frames per second in the last window.", labels=["camera"])
        frame = GaugeMetricFamily("defectd_last_frame_age_seconds", "Since the last frame.", labels=["camera"])
        verdict = GaugeMetricFamily("defectd_last_inference_age_seconds", "Since the last verdict.", labels=["camera"])
        waiting = GaugeMetricFamily("defectd_waiting_frames", "Frames that wait for inspection.", labels=["camera"])
        restarts = CounterMetricFamily("defectd_camera_restarts", "Restarts of the camera.", labels=["camera"])
        for session in self._sessions():
            name = session.camera.name
            for known in STATES:
                state.add_metric([name, known], float(session.state.name == known))
            fps.add_metric([name], session.counters.fps)
            _add_age(verdict, name, session.counters.last_verdict_ns, now_ns)
            if name in status:
                _add_age(frame, name, status[name].last_frame_ns, now_ns)
                waiting.add_metric([name], status[name].waiting)
                restarts.add_metric([name], status[name].restarts)
        yield from (state, fps, frame, verdict, waiting, restarts)

    def _strips(self) -> Iterator[Metric]:
        place = GaugeMetricFamily(
            "defectd_strip_edge_pixels", "Place of a followed edge of the strip.", labels=["camera", "edge"]
        )
        lost = CounterMetricFamily(
            "defectd_strip_edge_lost_frames",
            "Frames in which it was lost and the fixed region held.",
            labels=["camera", "edge"],
        )
        for session in self._sessions():
            for side, edge in session.inspector.edges.items():
                if edge.at_px is not None:
                    place.add_metric([session.camera.name, side], edge.at_px)
                lost.add_metric([session.camera.name, side], edge.lost_frames)
        yield from (place, lost)

    def _drifts(self) -> Iterator[Metric]:
        labels = ["camera", "figure"]
        now = GaugeMetricFamily(
            "defectd_drift_figure", "Median over the window of the watch over drift.", labels=labels
        )
        known = GaugeMetricFamily("defectd_drift_calibrated", "The same of good footage: the middle.", labels=labels)
        drifted = GaugeMetricFamily("defectd_drifted", "1 for a figure that is not as calibrated.", labels=labels)
        for session in self._sessions():
            watch = session.drift
            for name, told in watch.figures().items() if watch is not None else ():
                if told["now"] is not None:
                    now.add_metric([session.camera.name, name], told["now"])
                known.add_metric([session.camera.name, name], told["calibrated"][1])
                drifted.add_metric([session.camera.name, name], float(told["drifted"]))
        yield from (now, known, drifted)

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            "defectd_stage_seconds",
            "Time by stage: queue, preprocess, inference, decide; total from grab to verdict; "
            "outbox and broker from the decision of an event to its commit and its PUBACK.",
            labels=["camera", "stage"],
        )
        for session in self._sessions():
            name = session.camera.name
            for stage, histogram in session.counters.stages.items():
                _add_histogram(family, [name, stage], histogram.counts())
            for stage, times in (("outbox", self._trail.to_outbox), ("broker", self._trail.to_broker)):
                if name in times:
                    _add_histogram(family, [name, stage], times[name].counts())
        return family

    def _deliveries(self, now_ns: int) -> Iterator[Metric]:
        link = self._delivery.snapshot()
        yield GaugeMetricFamily("defectd_mqtt_connected", "1 while the broker is reached.", float(link.connected))
        waiting = link.depth + self._events.waiting
        yield GaugeMetricFamily("defectd_outbox_events", "Events not confirmed by the broker.", waiting)
        yield CounterMetricFamily("defectd_events_stored", "Events stored.", self._events.stored)
        yield CounterMetricFamily("defectd_events_lost", "Events lost because the disk was away.", self._events.dropped)
        yield CounterMetricFamily("defectd_events_acknowledged", "Events the broker confirmed.", link.acknowledged)
        yield CounterMetricFamily("defectd_events_refused", "Events the broker refused for good.", link.refused)
        yield CounterMetricFamily("defectd_mqtt_connections", "Connections to the broker.", link.connections)
        if link.last_ack_ns is not None:
            age_s = (now_ns - link.last_ack_ns) / NS_PER_S
            yield GaugeMetricFamily("defectd_last_ack_age_seconds", "Since the last PUBACK.", age_s)

    def _pictures(self) -> Iterator[Metric]:
        if self._evidence is None:
            return
        archive = self._evidence.archive
        kept = GaugeMetricFamily("defectd_evidence_files", "Pictures on disk, by kind.", labels=["kind"])
        for kind, n in tuple(archive.files.items()):
            kept.add_metric([kind], n)
        lost = CounterMetricFamily("defectd_evidence_lost", "Pictures that were not kept.", labels=["cause"])
        for cause, n in tuple(self._evidence.lost.items()):
            lost.add_metric([cause], n)
        yield from (kept, lost)
        yield GaugeMetricFamily("defectd_evidence_bytes", "Bytes of these pictures.", archive.bytes)
        written = archive.written_bytes
        yield CounterMetricFamily("defectd_evidence_written_bytes", "Bytes written: the wear of a card.", written)
        yield CounterMetricFamily("defectd_evidence_evicted", "Pictures that made room.", archive.evicted)

    def _second_opinions(self) -> Iterator[Metric]:
        shadow = self._shadow()
        if shadow is None:
            return
        frames = CounterMetricFamily(
            "defectd_shadow_frames",
            "Frames for the model that looks on: agreed or disagreed with, left out for want of time, failed.",
            labels=["camera", "outcome"],
        )
        for name, tally in shadow.tallies.items():
            outcomes = {"agreed": tally.frames - tally.disagreed, "disagreed": tally.disagreed}
            for outcome, n in {**outcomes, "no_time": tally.no_time, "failed": tally.failed}.items():
                frames.add_metric([name, outcome], n)
        yield frames

    def _positions(self) -> Iterator[Metric]:
        strip = self._strip()
        if strip.state == "off":
            return
        known = float(strip.state == "known")
        yield GaugeMetricFamily("defectd_strip_speed_known", "1 while the speed of the strip is known.", known)
        if strip.m_per_s is not None:
            yield GaugeMetricFamily("defectd_strip_speed_m_per_s", "Speed of the strip.", strip.m_per_s)
        if strip.position_m is not None:
            yield GaugeMetricFamily(
                "defectd_strip_position_m", "Metres of this coil that have passed.", strip.position_m
            )
        yield CounterMetricFamily("defectd_strip_speed_stale", "Times no speed came for too long.", strip.stale)
        if self._telemetry is not None:
            refused = CounterMetricFamily(
                "defectd_strip_messages_refused", "Messages about speed and coil that are of no use.", labels=["reason"]
            )
            for reason, n in tuple(self._telemetry.refused.items()):
                refused.add_metric([reason], n)
            yield refused
            dropped = self._telemetry.dropped
            yield CounterMetricFamily("defectd_strip_messages_dropped", "Messages that newer ones pushed out.", dropped)
        metres = CounterMetricFamily("defectd_strip_meters", "Metres that have passed.", labels=["camera", "outcome"])
        for session in self._sessions():
            passed = session.counters.account.total()["strip"] or {}
            for outcome in ("inspected", "partial", "missed"):
                if passed:
                    metres.add_metric([session.camera.name, outcome], passed[f"{outcome}_m"])
        yield metres

    def _rounds(self, now_ns: int) -> Metric:
        family = GaugeMetricFamily(
            LOOP_AGE, "Since the loop last came round; it hangs when this grows.", labels=["loop"]
        )
        for name, loop in self._loops().items():
            _add_age(family, name, loop.beat_ns, now_ns)
        return family

    def _processes(self, status: dict[str, CameraStatus]) -> Iterator[Metric]:
        memory = GaugeMetricFamily(
            "defectd_process_resident_bytes", "Memory, without the rings.", labels=["process", "camera"]
        )
        used = CounterMetricFamily("defectd_process_cpu_seconds", "Processor time.", labels=["process", "camera"])
        found = [("daemon", "", os.getpid())]
        found += [("camera", name, camera.pid) for name, camera in status.items() if camera.pid is not None]
        for process, name, pid in found:
            held, spent = machine.resident_bytes(pid), machine.cpu_seconds(pid)
            if held is not None and spent is not None:
                memory.add_metric([process, name], held)
                used.add_metric([process, name], spent)
        yield from (memory, used)


def _machine(sys: Path = machine.SYS) -> Iterator[Metric]:
    heat = GaugeMetricFamily("defectd_temperature_celsius", "Sensors of the box.", labels=["sensor"])
    for sensor, celsius in machine.temperatures(sys):
        heat.add_metric([sensor], celsius)
    if heat.samples:
        yield heat
    slowed = machine.throttlings(sys)
    if slowed is not None:
        yield CounterMetricFamily("defectd_throttlings", "Times the processors were slowed down for heat.", slowed)
    found = machine.throttling(sys)
    if found is not None:
        slow = GaugeMetricFamily("defectd_throttled", "1 for what slows the box down.", labels=["reason", "when"])
        for reason in machine.REASONS:
            slow.add_metric([reason, "now"], float(reason in found.now))
            slow.add_metric([reason, "since_boot"], float(reason in found.since_boot))
        yield slow


def _add_age(family: GaugeMetricFamily, name: str, then_ns: int | None, now_ns: int) -> None:
    if then_ns is not None:
        family.add_metric([name], max(0.0, (now_ns - then_ns) / NS_PER_S))


def _add_histogram(family: HistogramMetricFamily, labels: list[str], counts: Counts) -> None:
    buckets = [(str(ms / 1000), float(n)) for ms, n in zip(LIMITS_MS, counts.below(LIMITS_MS), strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(counts.n))], counts.sum_us / 1e6)


class Exporter:
    """The HTTP server; its thread is a daemon thread named `metrics`."""

    def __init__(self, address: tuple[str, int], reading: Reading) -> None:
        self._address = address
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(reading)
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Listen.  False when the address cannot be had: told, and no reason not to inspect."""
        host, port = self._address
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            log.warning("no metrics on %s:%d: %s", host, port, error.strerror or error)
            return False
        self._thread.name = "metrics"
        return True

    def stop(self) -> None:
        """Safe without a start, and twice."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(STOP_S)
            self._server = None
