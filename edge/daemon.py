"""The caretaker: starts consumers before producers, watches, and stops with the flow."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from edge import __version__, event
from edge.camera.supervisor import Supervisor
from edge.control.handlers import CommandHandlers
from edge.control.model_rollout import ModelRollout
from edge.control.model_validation import identity
from edge.control.mqtt_commands import Commands
from edge.control.reload import STOP_VIEW_S, Node, Reach
from edge.control.startup import Prepared
from edge.control.unix_socket import Console
from edge.coverage import strip_position
from edge.coverage.coil_store import LONGEST_AWAY_S, CoilStore
from edge.coverage.totals import CoverageTotals
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.embedded_broker import EmbeddedBroker
from edge.delivery.mqtt.line_signals import LineSignals
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.store import MIB, Outbox
from edge.delivery.outputs import Output
from edge.delivery.recorder import Recorder
from edge.delivery.refused_alarm import RejectedAlarm
from edge.delivery.sparkplug.output import views_of
from edge.errors import BundleError, CommandError, ConfigError
from edge.evidence.archive import Archive
from edge.evidence.writer import EvidenceSelector, EvidenceWriter
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock, boot_id
from edge.host.systemd import Service
from edge.host.watchdog import LIMIT_S, Loop, Stuck, Watchdog
from edge.monitoring.monitored_node import MonitoredNode
from edge.monitoring.status_line import status_line
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.loop import InspectionLoop, OrderQueue, Report

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
STOP_CAMERAS_S: Final = 0.7
STOP_LINE_S: Final = 0.8
STOP_RECORDER_S: Final = 0.4
STOP_EVIDENCE_S: Final = 0.3
STOP_PUBLISHER_S: Final = 1.6
STOP_BROKER_S: Final = 0.3
STOP_COMMANDS_S: Final = 0.1
STOP_HTTP_S: Final = 1.0
"""Limits, not waits: a healthy node needs about half a second. What is not delivered by then waits in the outbox for
the next start."""


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
    console: Console
    refusals: RejectedAlarm
    ledger: CoverageTotals
    trail: EventLatency
    evidence: EvidenceWriter | None
    telemetry: LineSignals

    @property
    def threads(self) -> dict[str, Alive]:
        """Without any of these the node is no node."""
        return {"line": self.line, "recorder": self.recorder, "publisher": self.publisher}

    def loops(self) -> dict[str, Loop]:
        """What must go round, whatever cameras and broker do; by the names of the threads."""
        loops: dict[str, Loop] = {"cameras": self.cameras, "line": self.line, "recorder": self.recorder}
        return {**loops, "publisher": self.publisher, **{view.name: view for view in self.views}}


class Daemon:
    """One node: cameras, the line, the outbox, the publisher."""

    def __init__(
        self,
        prepared: Prepared,
        clock: Clock,
        path: Path | None = None,
        power: machine.PowerWatch | None = None,
        service: Service | None = None,
    ) -> None:
        """path: of the configuration, to be read again when asked.  service: who is told how it goes; None: nobody."""
        self._service = service or Service()
        self._settings = settings = prepared.settings
        self._power = power or machine.PowerWatch()
        self._prepared = prepared
        self._clock = clock
        self._path = path
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._news = threading.Event()
        """A signal came."""
        self._signals = 0
        self._topics = Topics(settings.mqtt.topic_prefix, settings.node)
        model = identity(prepared.bundle, prepared.classifier)
        self._origin = event.Origin(settings.node, boot_id(), model, settings.sha256)

    def run(self, for_s: float | None = None) -> int:
        """Run until SIGTERM, SIGINT or `for_s`.  Returns the exit code.  Raises ConfigError, OutboxError."""
        with ExitStack() as building:
            building.enter_context(self._settings.state.locked())
            building.enter_context(self._signals_handled())
            broker = self._start_broker(building)
            parts = self._build(building)
            self._start(building, parts)
            self._service.ready()
            broken = self._watch(parts, for_s)
            self._service.stopping()
            self._shut(parts, broker)
            if not broken:
                parts.succession.close()
            return 1 if broken else 0

    def _start_broker(self, building: ExitStack) -> EmbeddedBroker | None:
        if not self._settings.mqtt.is_embedded:
            return None
        broker = EmbeddedBroker(self._settings.mqtt.address[1])
        broker.start()
        building.callback(broker.stop, STOP_BROKER_S)
        log.info("embedded broker on 127.0.0.1:%d; see events with: defectd tail", self._settings.mqtt.address[1])
        return broker

    def _build(self, building: ExitStack) -> Parts:
        """Make all parts and connect them; nothing runs yet."""
        settings, clock = self._settings, self._clock
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
            self._origin,
            self._topics,
            clock,
            before_commit=coils.heed,
            on_stored=on_stored,
            on_commit=trail.stored,
        )
        refusals = RejectedAlarm(recorder.put, clock)
        commands = Commands(self._topics, settings.commands, names, clock)
        telemetry = LineSignals(settings.travel, clock)
        publisher = Publisher(
            opener(settings.mqtt, settings.node),
            outbox,
            self._topics,
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
        node = Node(self._prepared, self._origin, self._topics, reach, clock, self._path, self._more_status)
        evidence = self._keeper()
        kept = self._recalled(coils, ledger, recorder)
        line = self._line(node, reach, refusals, ledger, evidence, telemetry, kept)
        succession = ModelRollout(node, self._prepared, orders, lambda: line.sessions, clock)
        verbs = CommandHandlers(node, succession, orders, outbox, recorder, publisher, commands, clock)
        commands.attach(publisher.reply, verbs.perform)
        console = Console(settings.state_dir, verbs.perform)
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

    def _keeper(self) -> EvidenceWriter | None:
        settings = self._settings.evidence
        if not settings.enabled:
            return None
        archive = Archive(
            self._settings.evidence_dir,
            max_bytes=settings.max_mb * MIB,
            min_free_bytes=settings.min_free_mb * MIB,
            tiles_bytes=settings.tiles_mb * MIB,
        )
        return EvidenceWriter(settings, archive, self._clock)

    def _recalled(
        self, coils: CoilStore, ledger: CoverageTotals, recorder: Recorder
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
        recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, "coil.ended", ended))
        return replace(kept, name=None)

    def _start(self, building: ExitStack, parts: Parts) -> None:
        """Consumers before producers."""
        parts.node.announce()
        parts.commands.start()
        parts.publisher.start()
        for view in parts.views:
            view.start()
        parts.recorder.start()
        if parts.evidence is not None:
            parts.evidence.start()
        parts.line.start()
        parts.cameras.start()
        self._export(building, parts)
        names = ", ".join(camera.name for camera in self._settings.active_cameras)
        log.info("node %s inspects %s with %s", self._settings.node, names, self._origin.model["name"])
        for camera in self._settings.active_cameras:
            lacks = [key for key in ("scale", "direction") if getattr(camera, key) is None]
            if lacks and parts.line.reading.state != "off":
                log.warning("camera %s tells no positions: it has no %s", camera.name, " and no ".join(lacks))
        parts.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, "node.started", {"version": __version__}))
        parts.succession.resume()
        parts.console.start()

    def _export(self, building: ExitStack, parts: Parts) -> None:
        """Start the HTTP server, if the configuration asks for it."""
        address = self._settings.metrics.address
        if address is None:
            return
        from edge.monitoring.http_server import HttpServer  # noqa: PLC0415 (a node without metrics loads no tornado)
        from edge.monitoring.routes import routes_of  # noqa: PLC0415 (nor prometheus_client)

        server = HttpServer(address, self._clock)
        monitored = MonitoredNode(
            sessions=lambda: parts.line.sessions,
            cameras=parts.cameras,
            publisher=parts.publisher,
            recorder=parts.recorder,
            latency=parts.trail,
            info=lambda: parts.node.info,
            loops=parts.loops,
            evidence=parts.evidence,
            shadow=lambda: parts.line.shadow,
            strip=lambda: parts.line.reading,
            signals=parts.telemetry,
            http_refused=server.refused,
        )
        if server.start(routes_of(monitored, self._clock)):
            building.callback(server.stop, STOP_HTTP_S)
            log.info("metrics on http://%s:%d/metrics", *address)

    def _line(
        self,
        node: Node,
        reach: Reach,
        refusals: RejectedAlarm,
        ledger: CoverageTotals,
        evidence: EvidenceWriter | None,
        telemetry: LineSignals,
        kept: strip_position.RestoredCoil | None,
    ) -> InspectionLoop:
        def retain_coverage(camera: str, message: dict[str, Any]) -> None:
            reach.publisher.retain(self._topics.coverage(camera), ledger.note(camera, message))

        def on_report(reports: Sequence[Report]) -> None:
            _log_period(reports, reach.recorder, reach.publisher)
            refusals.tell()
            _describe_strip(reach.views, line.reading)
            self._service.status(status_line(reports, reach.publisher.snapshot(), self._clock.monotonic_ns()))
            for report in reports:
                total, account = report.latency, report.coverage
                for view in tuple(reach.views):
                    view.report(report.camera, fps=report.fps, p50_ms=total.p50, p99_ms=total.p99, coverage=account)

        line = InspectionLoop(
            self._prepared.sessions,
            reach.cameras,
            reach.recorder,
            self._clock,
            retain_state=node.note_state,
            retain_coverage=retain_coverage,
            on_report=on_report,
            report_s=self._settings.report_s,
            control=reach.orders,
            on_removed=node.forget,
            witness=None if evidence is None else EvidenceSelector(self._settings.evidence, evidence.keep, self._clock),
            shadow=self._prepared.shadow,
            travel=strip_position.PositionTracker(self._settings.travel, self._clock.monotonic_ns(), kept),
            news=telemetry.news,
            why_stale=lambda: telemetry.last_refusal,
        )
        return line

    def _more_status(self) -> dict[str, Any]:
        return {"throttling": None if self._power.found is None else asdict(self._power.found)}

    def _watch(self, parts: Parts, for_s: float | None) -> str | None:
        """Until a signal comes or the time is over; the name of a thread that ended or stands still before."""
        period_s = self._service.watchdog_s
        watchdog = Watchdog(parts.loops, self._clock, LIMIT_S if period_s is None else period_s / 2)
        end_ns = None if for_s is None else self._clock.monotonic_ns() + int(for_s * NS_PER_S)
        while not self._stop.is_set():
            dead = next((name for name, thread in parts.threads.items() if not thread.alive), None)
            if dead is not None:
                log.error("the %s has ended: stopping, so that the service is restarted", dead)
                return dead
            stuck = watchdog.look()
            if stuck is not None:
                return self._give_up(stuck)
            self._service.alive()
            parts.ledger.save()
            parts.succession.look()
            if self._power.look(self._clock.monotonic_ns()):
                parts.node.announce()
            if self._reload.is_set():
                self._reload.clear()
                self._read_again(parts.node)
            left_s = LOOK_S if end_ns is None else (end_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return None
            self._news.wait(min(LOOK_S, left_s))
            self._news.clear()
        return None

    def _read_again(self, node: Node) -> None:
        """What SIGHUP asks for. A refusal is told by the node; it stops nothing."""
        self._service.reloading(self._clock.monotonic_ns())
        try:
            node.reload()
        except (ConfigError, BundleError, CommandError):
            pass  # told by an event and in the log
        finally:
            self._service.ready()

    def _give_up(self, stuck: Stuck) -> str:
        """A loop hangs: with systemd this process ends here and now, without it after the usual stop."""
        log.error(
            "the thread %s has not moved for %.0f s: stopping, so that the service is restarted\n%s",
            stuck.name,
            stuck.still_s,
            stuck.stack,
        )
        self._service.stuck()
        return stuck.name

    def _shut(self, parts: Parts, broker: EmbeddedBroker | None) -> None:
        """Along the flow: no new frames, none left over, nothing unwritten, nothing unsent that can be sent."""
        log.info("stopping")
        parts.refusals.tell(at_once=True)
        parts.console.stop(STOP_COMMANDS_S)
        parts.commands.stop(STOP_COMMANDS_S)
        parts.cameras.stop(STOP_CAMERAS_S)
        if not parts.line.stop(STOP_LINE_S):
            log.warning("the line still had frames to inspect and was left behind")
        parts.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, "node.stopped"))
        parts.recorder.stop(STOP_RECORDER_S)
        if parts.evidence is not None:
            parts.evidence.stop(STOP_EVIDENCE_S)
        for view in parts.views:
            view.ask_stop(STOP_VIEW_S)
        parts.publisher.stop(STOP_PUBLISHER_S)
        for view in parts.views:
            if not view.stop(STOP_VIEW_S):
                log.info("some events will reach the Sparkplug host after the next start")
        if broker is not None:
            broker.stop(STOP_BROKER_S)
        parts.ledger.save(ended=True)
        waiting = parts.publisher.snapshot().depth
        log.info("stopped; %s", f"{waiting} events wait for the next start" if waiting else "every event is delivered")

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        """Handlers only set a flag; a second signal ends at once. Outside the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_stop(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1
            self.stop()
            if self._signals > 1:
                os._exit(1)

        def on_reload(_number: int, _frame: FrameType | None) -> None:
            self._reload.set()
            self._news.set()

        handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: on_stop,
            signal.SIGINT: on_stop,
            signal.SIGHUP: on_reload,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Ask `run` to end; from any thread."""
        self._stop.set()
        self._news.set()


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
