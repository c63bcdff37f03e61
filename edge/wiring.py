"""Makes the parts of a node and connects them; nothing runs yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from edge import __version__, event
from edge.camera.supervisor import Supervisor
from edge.config import Config
from edge.control.handlers import CommandHandlers
from edge.control.model_rollout import ModelRollout
from edge.control.mqtt_commands import Commands
from edge.control.reload import Node, Reach
from edge.control.startup import Prepared
from edge.control.unix_socket import CommandSocket
from edge.coverage import strip_position
from edge.coverage.coil_store import LONGEST_AWAY_S, CoilStore
from edge.coverage.totals import CoverageTotals
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.line_signals import LineSignals
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.store import MIB, Outbox
from edge.delivery.outputs import Output
from edge.delivery.recorder import Recorder
from edge.delivery.refused_alarm import RejectedAlarm
from edge.delivery.sparkplug.output import views_of
from edge.evidence.archive import Archive
from edge.evidence.writer import EvidenceSelector, EvidenceWriter
from edge.host.clock import Clock, boot_id
from edge.host.systemd import Service
from edge.host.watchdog import Loop
from edge.monitoring.prometheus import Reading
from edge.monitoring.status_line import status_line
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import OrderQueue
from edge.pipeline.reporting import Report, Subscribers
from edge.pipeline.strip_monitor import StripInput

log = logging.getLogger(__name__)


class Alive(Protocol):
    """A thread of the daemon that is meant to run until it is stopped."""

    @property
    def alive(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs on one node, in the order of the flow."""

    cameras: Supervisor
    line: InspectionLoop
    recorder: Recorder
    publisher: Publisher
    views: list[Output]
    node: Node
    succession: ModelRollout
    commands: Commands
    console: CommandSocket
    refusals: RejectedAlarm
    ledger: CoverageTotals
    trail: EventLatency
    evidence: EvidenceWriter | None
    telemetry: LineSignals

    @property
    def threads(self) -> dict[str, Alive]:
        """Without any of these the node is no node."""
        return {"inspection": self.line, "recorder": self.recorder, "publisher": self.publisher}

    def loops(self) -> dict[str, Loop]:
        """What must go round, whatever cameras and broker do; by the names of the threads."""
        loops: dict[str, Loop] = {"cameras": self.cameras, "inspection": self.line, "recorder": self.recorder}
        return {**loops, "publisher": self.publisher, **{view.name: view for view in self.views}}


def build(
    building: ExitStack,
    prepared: Prepared,
    clock: Clock,
    path: Path | None,
    service: Service,
    more_status: Callable[[], Mapping[str, Any]],
) -> Parts:
    """Make all parts and connect them.  building: closes what was opened when the node ends.  Raises OutboxError.

    path: of the configuration file.  more_status: further fields of the status message.
    """
    settings = prepared.settings
    topics = Topics(settings.mqtt.topic_prefix, settings.node)
    origin = event.Origin(settings.node, boot_id(), prepared.effective.model.identity, settings.sha256)
    names = [camera.name for camera in settings.active_cameras]
    outbox = Outbox(
        settings.state.outbox,
        max_rows=settings.outbox.max_rows,
        max_bytes=settings.outbox.max_mb * MIB,
        keep_delivered=settings.outbox.keep_delivered,
        durability=settings.outbox.durability,
        clock=clock,
    )
    building.callback(outbox.close)

    def on_stored() -> None:
        publisher.wake()
        for view in tuple(views):
            view.wake()

    ledger = CoverageTotals(settings.state.coverage_totals, clock)
    trail = EventLatency(names, clock)
    coils = CoilStore(settings.state.coil, clock)
    recorder = Recorder(
        outbox,
        origin,
        topics,
        clock,
        before_commit=coils.heed,
        on_stored=on_stored,
        on_commit=trail.stored,
    )
    refusals = RejectedAlarm(recorder.put, clock)
    commands = Commands(topics, settings.commands, names, clock)
    telemetry = LineSignals(settings.travel, clock)
    publisher = Publisher(
        opener(settings.mqtt, settings.node),
        outbox,
        topics,
        clock,
        settings.mqtt,
        version=__version__,
        subscriptions=(*commands.subscriptions, *telemetry.subscriptions),
        on_command=commands.take,
        overhear=telemetry.take,
        on_refused=refusals.note,
        on_acknowledged=trail.acknowledged,
    )
    views: list[Output] = [*views_of(settings, outbox, clock)]
    orders = OrderQueue()
    cameras = Supervisor(settings.active_cameras, clock)
    building.callback(cameras.close)
    reach = Reach(
        orders, cameras, recorder, publisher, commands, trail, views, lambda new: views_of(new, outbox, clock)
    )
    node = Node(prepared, origin, topics, reach, clock, path, more_status)
    evidence = _keeper(settings, clock)
    kept = _recalled(coils, ledger, recorder, clock)
    line = _line(prepared, topics, clock, service, node, reach, refusals, ledger, evidence, telemetry, kept)
    succession = ModelRollout(node, prepared, orders, lambda: line.sessions, clock)
    verbs = CommandHandlers(node, succession, orders, outbox, recorder, publisher, commands, clock)
    commands.attach(publisher.reply, verbs.perform)
    console = CommandSocket(settings.state.command_socket, verbs.perform, clock)
    return Parts(
        cameras,
        line,
        recorder,
        publisher,
        views,
        node,
        succession,
        commands,
        console,
        refusals,
        ledger,
        trail,
        evidence,
        telemetry,
    )


def reading(parts: Parts, clock: Clock) -> Reading:
    """What the Prometheus endpoint shows of the parts."""
    return Reading(
        lambda: parts.line.sessions,
        parts.cameras,
        parts.publisher,
        parts.recorder,
        parts.trail,
        clock,
        lambda: parts.node.info,
        parts.evidence,
        parts.loops,
        lambda: parts.line.shadow,
        lambda: parts.line.reading,
        parts.telemetry,
    )


def _keeper(settings: Config, clock: Clock) -> EvidenceWriter | None:
    ours = settings.evidence
    if not ours.enabled:
        return None
    archive = Archive(
        settings.evidence_dir,
        max_bytes=ours.max_mb * MIB,
        min_free_bytes=ours.min_free_mb * MIB,
        tiles_bytes=ours.tiles_mb * MIB,
    )
    return EvidenceWriter(ours, archive, clock)


def _recalled(
    coils: CoilStore, ledger: CoverageTotals, recorder: Recorder, clock: Clock
) -> strip_position.RestoredCoil | None:
    """The coil of before this start; one that cannot be there any more is told as ended."""
    kept = coils.kept
    if kept is None or kept.name is None:
        return kept
    if coils.may_be_there(ledger.before_ns):
        log.info("coil %s, begun %s, goes on; positions are unknown until the next one", kept.name, kept.since)
        return kept
    words = "coil %s, begun %s, is not taken up again: the node was off for more than %d minutes"
    log.warning(words, kept.name, kept.since, LONGEST_AWAY_S // 60)
    ended = {"coil": kept.name, "length_m": None, "by": "restart"}
    recorder.put(event.Event.now(clock, event.NODE_CAMERA, "coil.ended", ended))
    return replace(kept, name=None)


def _line(
    prepared: Prepared,
    topics: Topics,
    clock: Clock,
    service: Service,
    node: Node,
    reach: Reach,
    refusals: RejectedAlarm,
    ledger: CoverageTotals,
    evidence: EvidenceWriter | None,
    telemetry: LineSignals,
    kept: strip_position.RestoredCoil | None,
) -> InspectionLoop:
    settings = prepared.settings

    def retain_coverage(camera: str, message: dict[str, Any]) -> None:
        reach.publisher.retain(topics.coverage(camera), ledger.note(camera, message))

    def on_report(reports: Sequence[Report]) -> None:
        _log_period(reports, reach.recorder, reach.publisher)
        refusals.emit()
        _describe_strip(reach.views, line.reading)
        service.status(status_line(reports, reach.publisher.snapshot(), clock.monotonic_ns()))
        for report in reports:
            total, account = report.latency, report.coverage
            for view in tuple(reach.views):
                view.report(report.camera, fps=report.fps, p50_ms=total.p50, p99_ms=total.p99, coverage=account)

    line = InspectionLoop(
        prepared.sessions,
        reach.cameras,
        Subscribers(
            reach.recorder,
            state=node.note_state,
            coverage=retain_coverage,
            reports=on_report,
            removed=node.forget,
            evidence=None if evidence is None else EvidenceSelector(settings.evidence, evidence.keep, clock),
        ),
        clock,
        report_s=settings.report_s,
        orders=reach.orders,
        strip=StripInput(
            strip_position.PositionTracker(settings.travel, clock.monotonic_ns(), kept),
            telemetry.news,
            lambda: telemetry.last_refusal,
        ),
        shadow=prepared.shadow,
    )
    return line


def _describe_strip(views: Sequence[Output], reading: strip_position.Reading) -> None:
    if reading.state == "off":
        return
    for view in tuple(views):
        view.set_properties(
            {
                "Strip/Speed m per s": reading.m_per_s,
                "Strip/Position m": None if reading.position_m is None else round(reading.position_m, 3),
                "Strip/Coil": reading.coil,
            }
        )


def _log_period(reports: Sequence[Report], recorder: Recorder, publisher: Publisher) -> None:
    link = publisher.snapshot()
    mqtt = "up" if link.connected else "DOWN"
    waiting = link.depth + recorder.waiting
    for report in reports:
        frames = report.coverage["frames"]
        counts = " ".join(f"{state} {n}" for state, n in frames.items() if n) or "no frames"
        if report.coverage["partial"]:
            counts += f" ({report.coverage['partial']} in part)"
        log.info(
            "%s: %s, %.1f fps, ms p50 %.1f p95 %.1f p99 %.1f p99.9 %.1f max %.1f, %s; %d open; "
            "events %d, waiting %d, mqtt %s",
            report.camera,
            report.state,
            report.fps,
            report.latency.p50,
            report.latency.p95,
            report.latency.p99,
            report.latency.p999,
            report.latency.max,
            counts,
            report.open_defects,
            recorder.stored,
            waiting,
            mqtt,
        )
