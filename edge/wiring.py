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
from edge.control.audit import Audit
from edge.control.handlers import CommandHandlers
from edge.control.model_rollout import ModelRollout
from edge.control.mqtt_commands import Commands
from edge.control.reload import Node, Reach
from edge.control.startup import Prepared
from edge.control.unix_socket import CommandSocket
from edge.coverage import strip_position
from edge.coverage.coil_judge import CoilJudge, JudgedNow, JudgeRules
from edge.coverage.coil_store import MAX_AWAY_S, CoilStore
from edge.coverage.severity import Severities
from edge.coverage.strip_trace import StripTrace
from edge.coverage.totals import CoverageTotals
from edge.delivery.frame_tap import FrameTap
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.line_signals import LineSignals
from edge.delivery.mqtt.publisher import Callbacks, Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.store import MIB, Outbox
from edge.delivery.output import CameraReport
from edge.delivery.outputs import Outputs
from edge.delivery.page_life import PageLife
from edge.delivery.recorder import Recorder
from edge.delivery.refused_alarm import RejectedAlarm
from edge.evidence.archive import Archive
from edge.evidence.selector import EvidenceSelector
from edge.evidence.writer import EvidenceWriter
from edge.host.clock import Clock, boot_id
from edge.host.systemd import Service
from edge.host.watchdog import Loop
from edge.model.bundle import INT8
from edge.monitoring.monitored_node import MonitoredNode
from edge.monitoring.node_status import NodeStatusReader
from edge.monitoring.page_process import PageProcess
from edge.monitoring.status_line import status_line
from edge.page_settings import page_settings
from edge.pipeline.camera_state import NO_SIGNAL_REASONS
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.fixed_periods import fixed_periods_m
from edge.pipeline.histogram import Summary
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import OrderQueue
from edge.pipeline.reporting import Report, Subscribers
from edge.pipeline.strip_monitor import StripInput
from edge.report.reporter import CoilReporter, Wishes, launcher
from edge.report.shelf import ReportShelf

log = logging.getLogger(__name__)
reports_log = logging.getLogger("edge.report")
"""A logger of its own: a live terminal shows these figures in another way."""


class Alive(Protocol):
    """A thread that must run until it is stopped."""

    @property
    def alive(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one node, in the order of the flow."""

    cameras: Supervisor
    line: InspectionLoop
    recorder: Recorder
    publisher: Publisher
    outbox: Outbox
    outputs: Outputs
    page_life: PageLife
    node: Node
    rollout: ModelRollout
    commands: Commands
    console: CommandSocket
    rejected_alarm: RejectedAlarm
    totals: CoverageTotals
    event_latency: EventLatency
    evidence: EvidenceWriter | None
    line_signals: LineSignals
    judge: CoilJudge | None
    """None: there are no records of coils."""
    reporter: CoilReporter | None
    """None as well."""
    page: PageProcess | None
    """None: the page is off, or has a unit of its own."""

    @property
    def threads(self) -> dict[str, Alive]:
        """Required threads: the node ends when one of them ends."""
        return {"inspection": self.line, "recorder": self.recorder, "publisher": self.publisher}

    def loops(self) -> dict[str, Loop]:
        """Required loops, by the names of their threads: the watchdog ends the node when one of them stands still.

        Outputs are optional and supervised by `Outputs`.
        """
        return {
            "cameras": self.cameras,
            "inspection": self.line,
            "recorder": self.recorder,
            "publisher": self.publisher,
        }


def build(
    building: ExitStack,
    prepared: Prepared,
    clock: Clock,
    path: Path | None,
    service: Service,
    more_status: Callable[[], Mapping[str, Any]],
    on_link: Callable[[str], None],
) -> Parts:
    """Make all parts and connect them.  building: closes what was opened when the node ends.  Raises OutboxError.

    path: of the configuration file.  more_status: further fields of the status message.  on_link: gets the address of
    the page when it is served.
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
        outputs.wake()

    totals = CoverageTotals(settings.state.coverage_totals, clock)
    event_latency = EventLatency(names, clock)
    coils = CoilStore(settings.state.coil, clock)
    recorder = Recorder(
        outbox,
        origin,
        topics,
        clock,
        before_commit=coils.record,
        on_stored=on_stored,
        on_commit=event_latency.stored,
    )
    rejected_alarm = RejectedAlarm(recorder.put, clock)
    commands = Commands(topics, settings.commands, names, clock)
    line_signals = LineSignals(settings.travel, clock, lambda: node.settings.lane_names)
    publisher = Publisher(
        opener(settings.mqtt, settings.node),
        outbox,
        topics,
        clock,
        settings.mqtt,
        version=__version__,
        subscriptions=(*commands.subscriptions, *line_signals.subscriptions),
        callbacks=Callbacks(
            on_command=commands.take,
            intercept=line_signals.take,
            on_refused=rejected_alarm.note,
            on_acknowledged=event_latency.acknowledged,
        ),
    )
    tap, page_life, trace = FrameTap(), PageLife(), StripTrace()
    outputs = Outputs(settings, outbox, clock, tap=tap, page_life=page_life, trace=trace)
    orders = OrderQueue()
    cameras = Supervisor(settings.active_cameras, clock)
    building.callback(cameras.close)
    judge = None
    if settings.coils.enabled:
        rules = JudgeRules.of(settings.products, settings.roll_table)
        judge = CoilJudge(
            settings.state.coils, rules, recorder, clock, lambda: fixed_periods_m(line.sessions, line.reading.m_per_s)
        )
    reach = Reach(orders, cameras, recorder, publisher, commands, event_latency, outputs, judge)
    node = Node(prepared, origin, topics, reach, clock, path, more_status)
    evidence = _evidence_writer(settings, clock)
    restored = _restored_coil(coils, totals, recorder, clock)
    line = _inspection_loop(
        prepared,
        topics,
        clock,
        service,
        node,
        reach,
        rejected_alarm,
        totals,
        evidence,
        line_signals,
        restored,
        tap,
        trace,
    )
    rollout = ModelRollout(node, prepared, orders, lambda: line.sessions, clock)
    handlers = CommandHandlers(node, rollout, orders, outbox, recorder, publisher, commands, clock)
    commands.attach(publisher.reply, handlers.perform)
    audit = Audit(handlers.perform, node)
    console = CommandSocket(settings.state.command_socket, audit.perform, clock)
    return Parts(
        cameras,
        line,
        recorder,
        publisher,
        outbox,
        outputs,
        page_life,
        node,
        rollout,
        commands,
        console,
        rejected_alarm,
        totals,
        event_latency,
        evidence,
        line_signals,
        judge,
        _coil_reporter(settings, path, node, publisher, topics, clock),
        _page_process(settings, path, node, page_life, clock, on_link),
    )


def monitored(parts: Parts, http_refused: Mapping[str, int]) -> MonitoredNode:
    """What metrics and health checks read of these parts.  http_refused: by the HTTP server, by reason."""
    return MonitoredNode(
        sessions=lambda: parts.line.sessions,
        cameras=parts.cameras,
        publisher=parts.publisher,
        recorder=parts.recorder,
        latency=parts.event_latency,
        info=lambda: parts.node.info,
        loops=parts.loops,
        evidence=parts.evidence,
        shadow=lambda: parts.line.shadow,
        strip=lambda: parts.line.reading,
        signals=parts.line_signals,
        outputs=parts.outputs.status,
        judged=lambda: JudgedNow() if parts.judge is None else parts.judge.now,
        page=lambda: None if parts.page is None else parts.page.status,
        http_refused=http_refused,
    )


def _page_process(
    settings: Config, path: Path | None, node: Node, life: PageLife, clock: Clock, on_link: Callable[[str], None]
) -> PageProcess | None:
    if settings.web.listen is None or settings.web.process != "daemon":
        return None

    def current() -> str:
        return page_settings(node.settings, path).to_json()

    return PageProcess(current, life, clock, on_link=on_link)


def _coil_reporter(
    settings: Config, path: Path | None, node: Node, publisher: Publisher, topics: Topics, clock: Clock
) -> CoilReporter | None:
    if not settings.coils.enabled:
        return None

    def wishes() -> Wishes:
        coils = node.settings.coils
        return Wishes(coils.report, coils.reports_mb * MIB)

    def publish(summary: dict[str, Any]) -> None:
        publisher.retain(topics.coil_report, summary)

    shelf = ReportShelf(settings.state.coil_reports)
    return CoilReporter(settings.state.coils, shelf, wishes, launcher(path), publish, clock)


def node_status(parts: Parts, settings: Config, clock: Clock) -> NodeStatusReader:
    """Reads how these parts are doing, for people who look at the page."""

    def model() -> dict[str, Any]:
        classifier, shadow = parts.node.model.classifier, parts.line.shadow
        return {
            **parts.node.origin.model,
            "precision": "int8" if classifier.network == INT8 else "fp32",
            "classes": list(classifier.card.classes),
            "canary": parts.rollout.trial,
            "shadow": None if shadow is None else shadow.summary(),
        }

    return NodeStatusReader(
        monitored(parts, {}),
        lambda: parts.outbox.refused,
        model,
        parts.outputs.as_json,
        settings.state_dir,
        settings.evidence.max_mb * MIB,
        clock,
        since=parts.node.since,
    )


def _evidence_writer(settings: Config, clock: Clock) -> EvidenceWriter | None:
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


def _restored_coil(
    coils: CoilStore, totals: CoverageTotals, recorder: Recorder, clock: Clock
) -> strip_position.RestoredCoil | None:
    """The coil from before this start; one that cannot be on the line any more is reported as ended."""
    restored = coils.latest
    if restored is None or (restored.name is None and not restored.lanes):
        return restored
    named: list[tuple[str | None, str]] = [*restored.lanes.items()]
    if restored.name is not None:
        named.insert(0, (None, restored.name))
    words = ", ".join(name for _, name in named)
    if coils.may_still_run(totals.previous_alive_ns):
        log.info("coil %s, started %s, continues; positions are unknown until the next one", words, restored.since)
        return restored
    log.warning(
        "coil %s, started %s, is not continued: the node was off for more than %d minutes",
        words,
        restored.since,
        MAX_AWAY_S // 60,
    )
    for lane, name in named:
        ended = {"coil": name, "length_m": None, "by": "restart", **({} if lane is None else {"lane": lane})}
        recorder.put(event.Event.now(clock, event.NODE_CAMERA, "coil.ended", ended))
    return replace(restored, name=None, lanes={})


def _inspection_loop(
    prepared: Prepared,
    topics: Topics,
    clock: Clock,
    service: Service,
    node: Node,
    reach: Reach,
    rejected_alarm: RejectedAlarm,
    totals: CoverageTotals,
    evidence: EvidenceWriter | None,
    line_signals: LineSignals,
    restored: strip_position.RestoredCoil | None,
    tap: FrameTap,
    trace: StripTrace,
) -> InspectionLoop:
    settings = prepared.settings

    def retain_coverage(camera: str, message: dict[str, Any]) -> None:
        reach.publisher.retain(topics.coverage(camera), totals.add(camera, message))

    def on_report(reports: Sequence[Report]) -> None:
        _log_period(reports, reach.recorder, reach.publisher)
        rejected_alarm.emit()
        if line.reading.state != "off":
            reach.outputs.set_strip(line.reading)
        service.status(status_line(reports, reach.publisher.snapshot(), clock.monotonic_ns()))
        for report in reports:
            total, account = report.latency, report.coverage
            reach.outputs.report(
                CameraReport(report.camera, report.fps, total.p50, total.p99, account, report.width_mm)
            )

    line = InspectionLoop(
        prepared.sessions,
        reach.cameras,
        Subscribers(
            reach.recorder,
            state=node.note_state,
            coverage=retain_coverage,
            reports=on_report,
            removed=node.forget,
            notes=trace.put,
            evidence=None if evidence is None else EvidenceSelector(settings.evidence, evidence.keep, clock),
        ),
        clock,
        report_s=settings.report_s,
        orders=reach.orders,
        strip=StripInput(
            strip_position.PositionTracker(settings.travel, clock.monotonic_ns(), restored),
            line_signals.updates,
            lambda: line_signals.last_refusal,
        ),
        shadow=prepared.shadow,
        severities=Severities(settings.products),
        tap=tap,
    )
    return line


def _log_period(reports: Sequence[Report], recorder: Recorder, publisher: Publisher) -> None:
    link = publisher.snapshot()
    mqtt = "up" if link.connected else "DOWN"
    waiting = link.depth + recorder.waiting
    for report in reports:
        frames = report.coverage["frames"]
        counts = " ".join(f"{state} {n}" for state, n in frames.items() if n) or "no frames"
        if report.bad_images:
            counts += f" ({', '.join(f'{n} {reason}' for reason, n in report.bad_images.items())})"
        if report.coverage["partial"]:
            counts += f" ({report.coverage['partial']} in part)"
        reports_log.info(
            "%s: %s, %.1f fps, %s, %s; %d open; events %d, waiting %d, mqtt %s",
            report.camera,
            _state_words(report),
            report.fps,
            _latency_words(report.latency),
            counts,
            report.open_defects,
            recorder.stored,
            waiting,
            mqtt,
        )


def _state_words(report: Report) -> str:
    """The state for people: with its reason, and the end of the node is no fault."""
    if report.reason == NO_SIGNAL_REASONS["stopped"]:
        return report.reason
    return f"{report.state} ({report.reason})" if report.reason else report.state


def _latency_words(latency: Summary) -> str:
    if not latency.n:
        return "no verdict"
    names = ("p50", "p95", "p99", "p999", "max")
    return "ms " + " ".join(f"{name.replace('999', '99.9')} {getattr(latency, name):.1f}" for name in names)
