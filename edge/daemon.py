"""The caretaker: starts consumers before producers, watches, and stops with the flow."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final

from edge import __version__, event, wiring
from edge.control.reload import STOP_VIEW_S, Node
from edge.control.startup import Prepared
from edge.delivery.mqtt.embedded_broker import EmbeddedBroker
from edge.errors import BundleError, CommandError, ConfigError
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock
from edge.host.systemd import Service
from edge.host.watchdog import LIMIT_S, Stuck, Watchdog
from edge.monitoring.prometheus import Exporter
from edge.wiring import Parts

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
STOP_CAMERAS_S: Final = 0.7
STOP_LINE_S: Final = 0.8
STOP_RECORDER_S: Final = 0.4
STOP_EVIDENCE_S: Final = 0.3
STOP_PUBLISHER_S: Final = 1.6
STOP_BROKER_S: Final = 0.3
STOP_COMMANDS_S: Final = 0.1
"""Limits, not waits: a healthy node needs about half a second. What is not delivered by then waits in the outbox for
the next start."""


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
        self._settings = prepared.settings
        self._power = power or machine.PowerWatch()
        self._prepared = prepared
        self._clock = clock
        self._path = path
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._news = threading.Event()
        """A signal came."""
        self._signals = 0

    def run(self, for_s: float | None = None) -> int:
        """Run until SIGTERM, SIGINT or `for_s`.  Returns the exit code.  Raises ConfigError, OutboxError."""
        with ExitStack() as building:
            building.enter_context(self._settings.state.locked())
            building.enter_context(self._signals_handled())
            broker = self._start_broker(building)
            parts = wiring.build(building, self._prepared, self._clock, self._path, self._service, self._more_status)
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
        log.info("node %s inspects %s with %s", self._settings.node, names, parts.node.origin.model["name"])
        for camera in self._settings.active_cameras:
            lacks = [key for key in ("scale", "direction") if getattr(camera, key) is None]
            if lacks and parts.line.reading.state != "off":
                log.warning("camera %s tells no positions: it has no %s", camera.name, " and no ".join(lacks))
        parts.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, "node.started", {"version": __version__}))
        parts.succession.resume()
        parts.console.start()

    def _export(self, building: ExitStack, parts: Parts) -> None:
        """Open the Prometheus endpoint, if the configuration has one."""
        address = self._settings.metrics.address
        if address is None:
            return
        exporter = Exporter(address, wiring.reading(parts, self._clock))
        if exporter.start():
            building.callback(exporter.stop)
            log.info("metrics on http://%s:%d/metrics", *address)

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
            parts.succession.check()
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
        parts.refusals.emit(at_once=True)
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
