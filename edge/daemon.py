"""The caretaker: starts consumers before producers, watches, and stops with the flow."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from edge import __version__, bundle, config, event, overrides
from edge.camera.source import SourceSpec
from edge.camera.supervisor import CameraLost, CameraOpened, Supervisor
from edge.clock import NS_PER_S, Clock, boot_id, stamp
from edge.control import Verbs
from edge.delivery.commands import Commands
from edge.delivery.embedded import EmbeddedBroker
from edge.delivery.mqtt import opener
from edge.delivery.outbox import MIB, Outbox
from edge.delivery.publisher import Publisher
from edge.delivery.recorder import Recorder
from edge.delivery.refusals import Refusals
from edge.delivery.sparkplug import SparkplugView, view_of
from edge.delivery.topics import Topics
from edge.errors import ConfigError, Problem
from edge.exporter import Exporter, Reading
from edge.ledger import Ledger
from edge.line import Control, Line, Report, Station, make
from edge.trail import Trail
from edge.vision.classifier import Classifier

log = logging.getLogger(__name__)

OUTBOX_FILE: Final = "outbox.db"
LEDGER_FILE: Final = "coverage.json"
LOOK_S: Final = 0.5
PROBE_SPARE_S: Final = 2.0
"""For a camera process to start."""
STOP_CAMERAS_S: Final = 0.7
STOP_LINE_S: Final = 0.8
STOP_RECORDER_S: Final = 0.4
STOP_PUBLISHER_S: Final = 1.6
STOP_SPARKPLUG_S: Final = 1.2
STOP_BROKER_S: Final = 0.3
STOP_COMMANDS_S: Final = 0.1
"""Limits, not waits: a healthy node needs about half a second. What is not delivered by then waits in the outbox for
the next start."""


class Alive(Protocol):
    """A thread of the daemon that is meant to run until it is stopped."""

    @property
    def alive(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that can be refused, found good: `defectd check` ends here, `defectd run` goes on."""

    settings: config.Config
    bundle: bundle.Bundle
    classifier: Classifier
    stations: tuple[Station, ...]
    configured: config.Config
    """The settings without what commands have changed."""
    changes: overrides.Changes


def prepare(settings: config.Config, clock: Clock) -> Prepared:
    """Load and test the model, fit the thresholds to it.  Raises ConfigError or BundleError; connects to nothing."""
    configured = settings
    loaded = bundle.load(settings.model.bundle)
    classifier = Classifier(loaded, threads=settings.model.threads, batch=settings.model.batch)
    classifier.selftest()
    changes = overrides.load(configured, classifier.card.classes)
    settings = overrides.adjusted(configured, changes)
    stations = [
        Station(camera, classifier, clock, live=SourceSpec.of(camera).live) for camera in settings.active_cameras
    ]
    if not stations:
        raise ConfigError("cameras", (Problem("cameras", "all disabled", "none is enabled", "Enable one"),))
    return Prepared(settings, loaded, classifier, tuple(stations), configured, changes)


def probed(cameras: Sequence[config.Camera], clock: Clock) -> dict[str, dict[str, Any]]:
    """What each camera gives, or its error: opened for a moment, in a process of its own as `run` does it."""
    found: dict[str, dict[str, Any]] = {}
    supervisor = Supervisor(cameras, clock)
    longest_s = max(camera.open_timeout_s + camera.read_timeout_s for camera in cameras) + PROBE_SPARE_S
    until_ns = clock.monotonic_ns() + int(longest_s * NS_PER_S)
    supervisor.start()
    try:
        while len(found) < len(cameras) and clock.monotonic_ns() < until_ns:
            supervisor.wait(LOOK_S)
            for name, _ in supervisor.heads():
                supervisor.release(supervisor.pop(name))
            for notice in supervisor.take_notices():
                if isinstance(notice, CameraOpened):
                    found[notice.camera] = {"given": notice.given.as_json()}
                elif isinstance(notice, CameraLost):
                    found.setdefault(notice.camera, {"error": config.redact(notice.reason)})
    finally:
        supervisor.stop(STOP_CAMERAS_S)
        supervisor.close()
    late = {"error": f"gives no picture within {longest_s:g} s"}
    return {camera.name: found.get(camera.name, late) for camera in cameras}


class Daemon:
    """One node: cameras, the line, the outbox, the publisher."""

    def __init__(self, prepared: Prepared, clock: Clock) -> None:
        self._settings = settings = prepared.settings
        self._prepared = prepared
        self._clock = clock
        self._stop = threading.Event()
        self._signals = 0
        self._topics = Topics(settings.mqtt.topic_prefix, settings.node)
        card = prepared.classifier.card
        model = {"name": card.name, "version": card.version, "sha256": prepared.bundle.sha256()}
        self._origin = event.Origin(settings.node, boot_id(), model, settings.sha256)

    def run(self, for_s: float | None = None) -> int:
        """Run until SIGTERM, SIGINT or `for_s`.  Returns the exit code.  Raises ConfigError, OutboxError."""
        with ExitStack() as building:
            building.enter_context(_only_one(self._settings.state_dir))
            building.enter_context(self._signals_handled())
            broker = self._start_broker(building)
            outbox = Outbox(
                self._settings.state_dir / OUTBOX_FILE,
                max_rows=self._settings.outbox.max_rows,
                max_bytes=self._settings.outbox.max_mb * MIB,
                keep_delivered=self._settings.outbox.keep_delivered,
                durability=self._settings.outbox.durability,
                clock=self._clock,
            )
            building.callback(outbox.close)
            link = opener(self._settings.mqtt, self._settings.node)

            def on_stored() -> None:
                publisher.wake()
                if sparkplug is not None:
                    sparkplug.wake()

            ledger = Ledger(self._settings.state_dir / LEDGER_FILE, self._clock)
            trail = Trail((camera.name for camera in self._settings.active_cameras), self._clock)
            recorder = Recorder(
                outbox, self._origin, self._topics, self._clock, on_stored=on_stored, on_commit=trail.stored
            )
            refusals = Refusals(recorder.put, self._clock)
            names = [camera.name for camera in self._settings.active_cameras]
            commands = Commands(self._topics, self._settings.commands, names, self._clock)
            publisher = Publisher(
                link,
                outbox,
                self._topics,
                self._clock,
                self._settings.mqtt,
                version=__version__,
                subscriptions=commands.subscriptions,
                on_command=commands.take,
                on_refused=refusals.note,
                on_acknowledged=trail.acknowledged,
            )
            orders = Control()
            sparkplug = view_of(self._settings, outbox, self._clock)
            verbs = self._verbs(orders, outbox, recorder, publisher, sparkplug, commands)
            publisher.announce(self._status())
            cameras = Supervisor(self._settings.active_cameras, self._clock)
            building.callback(cameras.close)
            line = self._line(cameras, recorder, publisher, sparkplug, refusals, ledger, orders, verbs)
            commands.start(publisher.reply, verbs.perform)
            publisher.start()
            if sparkplug is not None:
                sparkplug.describe(self._described())
                sparkplug.start()
            recorder.start()
            line.start()
            cameras.start()
            self._export(building, cameras, publisher, recorder, trail)
            log.info("node %s inspects %s with %s", self._settings.node, ", ".join(names), self._origin.model["name"])
            recorder.put(make(self._clock, event.NODE_CAMERA, "node.started", {"version": __version__}))
            threads: dict[str, Alive] = {"line": line, "recorder": recorder, "publisher": publisher}
            broken = self._watch(threads, for_s, each_look=ledger.save)
            refusals.tell(at_once=True)
            commands.stop(STOP_COMMANDS_S)
            self._shut(cameras, line, recorder, publisher, sparkplug, broker)
            ledger.save(ended=True)
            return 1 if broken else 0

    def _start_broker(self, building: ExitStack) -> EmbeddedBroker | None:
        if not self._settings.mqtt.is_embedded:
            return None
        broker = EmbeddedBroker(self._settings.mqtt.address[1])
        broker.start()
        building.callback(broker.stop, STOP_BROKER_S)
        log.info("embedded broker on 127.0.0.1:%d; see events with: defectd tail", self._settings.mqtt.address[1])
        return broker

    def _export(
        self, building: ExitStack, cameras: Supervisor, publisher: Publisher, recorder: Recorder, trail: Trail
    ) -> None:
        """Open the Prometheus endpoint, if there is to be one."""
        address = self._settings.metrics.address
        if address is None:
            return
        model = self._origin.model
        info = {"version": __version__, "node": self._settings.node, "model": f"{model['name']} {model['version']}"}
        stations = self._prepared.stations
        reading = Reading(stations, cameras, publisher, recorder, trail, self._clock, info)
        exporter = Exporter(address, reading)
        if exporter.start():
            building.callback(exporter.stop)
            log.info("metrics on http://%s:%d/metrics", *address)

    def _line(
        self,
        cameras: Supervisor,
        recorder: Recorder,
        publisher: Publisher,
        sparkplug: SparkplugView | None,
        refusals: Refusals,
        ledger: Ledger,
        orders: Control,
        verbs: Verbs,
    ) -> Line:
        def retain_coverage(camera: str, message: dict[str, Any]) -> None:
            publisher.retain(self._topics.coverage(camera), ledger.note(camera, message))

        def retain_state(camera: str, message: dict[str, Any]) -> None:
            verbs.note_state(camera, message)
            publisher.retain(self._topics.state(camera), message)
            if sparkplug is not None:
                sparkplug.camera_state(camera, message)

        def on_report(reports: Sequence[Report]) -> None:
            _log_period(reports, recorder, publisher)
            refusals.tell()
            if sparkplug is None:
                return
            for report in reports:
                sparkplug.camera_report(
                    report.camera,
                    fps=report.fps,
                    p50_ms=report.latency.p50,
                    p99_ms=report.latency.p99,
                    coverage=report.coverage,
                )

        return Line(
            self._prepared.stations,
            cameras,
            recorder,
            self._clock,
            retain_state=retain_state,
            retain_coverage=retain_coverage,
            on_report=on_report,
            report_s=self._settings.report_s,
            control=orders,
        )

    def _verbs(
        self,
        orders: Control,
        outbox: Outbox,
        recorder: Recorder,
        publisher: Publisher,
        sparkplug: SparkplugView | None,
        commands: Commands,
    ) -> Verbs:
        def on_settings(settings: config.Config) -> None:
            self._origin = replace(self._origin, config_sha256=settings.sha256)
            recorder.origin = self._origin
            publisher.announce(self._status())
            if sparkplug is not None:
                sparkplug.describe(self._described())

        return Verbs(
            self._prepared.configured,
            self._prepared.changes,
            self._prepared.classifier.card.classes,
            orders,
            outbox,
            recorder,
            publisher,
            commands,
            self._clock,
            on_settings=on_settings,
        )

    def _described(self) -> dict[str, str]:
        """What Sparkplug tells about the node, by metric."""
        model = self._origin.model
        return {
            "Properties/Version": __version__,
            "Properties/Config SHA-256": self._origin.config_sha256,
            "Model/Name": model["name"],
            "Model/Version": model["version"],
            "Model/SHA-256": model["sha256"],
        }

    def _status(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "since": stamp(self._clock.wall_ns()),
            "model": self._origin.model,
            "config_sha256": self._origin.config_sha256,
            "cameras": [camera.name for camera in self._settings.active_cameras],
        }

    def _watch(
        self, threads: Mapping[str, Alive], for_s: float | None, *, each_look: Callable[[], None]
    ) -> str | None:
        """Until a signal comes or the time is over; the name of a thread that ended before."""
        end_ns = None if for_s is None else self._clock.monotonic_ns() + int(for_s * NS_PER_S)
        while not self._stop.is_set():
            dead = next((name for name, thread in threads.items() if not thread.alive), None)
            if dead is not None:
                log.error("the %s has ended: stopping, so that the service is restarted", dead)
                return dead
            each_look()
            left_s = LOOK_S if end_ns is None else (end_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return None
            self._stop.wait(min(LOOK_S, left_s))
        return None

    def _shut(
        self,
        cameras: Supervisor,
        line: Line,
        recorder: Recorder,
        publisher: Publisher,
        sparkplug: SparkplugView | None,
        broker: EmbeddedBroker | None,
    ) -> None:
        """Along the flow: no new frames, none left over, nothing unwritten, nothing unsent that can be sent."""
        log.info("stopping")
        cameras.stop(STOP_CAMERAS_S)
        if not line.stop(STOP_LINE_S):
            log.warning("the line still had frames to inspect and was left behind")
        recorder.put(make(self._clock, event.NODE_CAMERA, "node.stopped"))
        recorder.stop(STOP_RECORDER_S)
        if sparkplug is not None:
            sparkplug.ask_stop(STOP_SPARKPLUG_S)
        publisher.stop(STOP_PUBLISHER_S)
        if sparkplug is not None and not sparkplug.stop(STOP_SPARKPLUG_S):
            log.info("some events will reach the Sparkplug host after the next start")
        if broker is not None:
            broker.stop(STOP_BROKER_S)
        waiting = publisher.snapshot().depth
        log.info("stopped; %s", f"{waiting} events wait for the next start" if waiting else "every event is delivered")

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        """Handlers only set a flag; a second signal ends at once. Outside the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_stop(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1
            self._stop.set()
            if self._signals > 1:
                os._exit(1)

        def on_reload(_number: int, _frame: FrameType | None) -> None:
            log.warning("SIGHUP: this version reads its configuration at start only; restart to apply it")

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


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Two daemons on one outbox would give the same seq twice."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = "Choose a directory that this user may write"
        problem = Problem("state_dir", str(state_dir), f"cannot be used: {error.strerror}", remedy)
        raise ConfigError("configuration", (problem,)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        remedy = "Stop it, or give this one another state_dir and another node name"
        problem = Problem("state_dir", str(state_dir), "another defectd uses it", remedy)
        raise ConfigError("configuration", (problem,)) from error
    try:
        yield
    finally:
        os.close(lock)


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
