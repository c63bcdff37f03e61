"""Runs one node: starts consumers before producers, watches, and stops along the flow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from edge import __version__, event, wiring
from edge.control.reload import Node
from edge.control.startup import Prepared
from edge.delivery.mqtt.embedded_broker import EmbeddedBroker
from edge.errors import BundleError, CommandError, ConfigError
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock
from edge.host.signals import Signals
from edge.host.stop_sequence import StopSequence
from edge.host.systemd import Service
from edge.host.watchdog import LIMIT_S, Stuck, Watchdog
from edge.monitoring.page_process import PageProcess
from edge.wiring import Parts

log = logging.getLogger(__name__)

CHECK_S: Final = 0.5
"""Longest wait between two rounds of the watch loop."""
STOP_S: Final = 15.0
"""For the whole stop, from the signal on. Two parts that hang take 3 s more: the unit's TimeoutStopSec is 20 s."""
STOP_COMMANDS_S: Final = 1.0
STOP_CAMERAS_S: Final = 0.7
DRAIN_S: Final = 3.0
"""How long the inspection loop inspects what the cameras left; the rest is dropped."""
STOP_LINE_S: Final = 6.0
STOP_RECORDER_S: Final = 2.0
STOP_EVIDENCE_S: Final = 0.5
STOP_PUBLISHER_S: Final = 1.6
STOP_OUTPUTS_S: Final = 1.2
STOP_JUDGE_S: Final = 0.5
STOP_PAGE_S: Final = 2.0
STOP_BROKER_S: Final = 0.3
STOP_HTTP_S: Final = 1.0
"""Limits, not waits: a healthy node stops in about half a second. What is not delivered by then waits in the outbox
for the next start."""


class Daemon:
    """One node: cameras, the inspection loop, the outbox, the publisher, the outputs."""

    def __init__(
        self,
        prepared: Prepared,
        clock: Clock,
        path: Path | None = None,
        power: machine.PowerWatch | None = None,
        service: Service | None = None,
        on_link: Callable[[str], None] = lambda _link: None,
    ) -> None:
        """path: of the configuration file, for a reload.  service: systemd; None: there is none.

        on_link: called once with the address of the page, when it is served.
        """
        self._service = service or Service()
        self._settings = prepared.settings
        self._power = power or machine.PowerWatch()
        self._prepared = prepared
        self._clock = clock
        self._path = path
        self._signals = Signals(clock)
        self._on_link = on_link
        self._page: PageProcess | None = None

    def run(self, for_s: float | None = None) -> int:
        """Run until SIGTERM, SIGINT or `for_s`.  Returns the exit code.  Raises ConfigError, OutboxError."""
        with ExitStack() as building:
            building.enter_context(self._settings.state.locked())
            building.enter_context(self._signals)
            broker = self._start_broker(building)
            parts = wiring.build(
                building, self._prepared, self._clock, self._path, self._service, self._more_status, self._on_link
            )
            self._page = parts.page
            try:
                self._start(building, parts)
                self._service.ready()
                broken = self._watch(parts, for_s)
            except Exception:  # for example no thread can be started: what was delivered is still accounted for
                log.exception("the node cannot go on: stopping, so that the service is restarted")
                broken = "main"
            self._service.stopping()
            left_behind = self._shut(parts, broker)
            if not broken:
                parts.rollout.close()
            return 1 if broken or left_behind else 0

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
        parts.outputs.start()
        parts.recorder.start()
        if parts.evidence is not None:
            parts.evidence.start()
        if parts.judge is not None:
            parts.judge.start()
        if parts.reporter is not None:
            parts.reporter.start()
        parts.line.start()
        parts.cameras.start()
        self._export(building, parts)
        names = ", ".join(camera.name for camera in self._settings.active_cameras)
        log.info("node %s inspects %s with %s", self._settings.node, names, parts.node.origin.model["name"])
        for camera in self._settings.active_cameras:
            lacks = [key for key in ("scale", "direction") if getattr(camera, key) is None]
            if lacks and parts.line.reading.state != "off":
                log.warning("camera %s reports no positions: it has no %s", camera.name, " and no ".join(lacks))
        parts.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, "node.started", {"version": __version__}))
        parts.rollout.resume()
        parts.console.start()
        if parts.page is not None:
            try:
                parts.page.start()
            except RuntimeError as error:  # no thread for it: inspection does not depend on the page
                log.error("the page cannot be started: %s", error)  # noqa: TRY400

    def _export(self, building: ExitStack, parts: Parts) -> None:
        """Start the HTTP server, if the configuration has an address for it."""
        address = self._settings.metrics.address
        if address is None:
            return
        from edge.monitoring.http_server import HttpServer  # noqa: PLC0415 (a node without metrics loads no tornado)
        from edge.monitoring.routes import routes_of  # noqa: PLC0415 (nor prometheus_client)

        server = HttpServer(address, self._clock)
        if server.start(routes_of(wiring.monitored(parts, server.refused), self._clock)):
            building.callback(server.stop, STOP_HTTP_S)
            log.info("metrics on http://%s:%d/metrics", *address)

    def _more_status(self) -> dict[str, Any]:
        throttling = None if self._power.found is None else asdict(self._power.found)
        if self._page is None:
            return {"throttling": throttling}
        now_ns, wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        return {"throttling": throttling, "page": self._page.status.as_json(wall_ns, now_ns)}

    def _watch(self, parts: Parts, for_s: float | None) -> str | None:
        """Watch until a signal comes or the time is over.  Returns the thread that ended or hangs before that."""
        period_s = self._service.watchdog_s
        watchdog = Watchdog(parts.loops, self._clock, LIMIT_S if period_s is None else period_s / 2)
        status = wiring.node_status(parts, self._settings, self._clock)
        end_ns = None if for_s is None else self._clock.monotonic_ns() + int(for_s * NS_PER_S)
        while not self._signals.wants_stop:
            dead = next((name for name, thread in parts.threads.items() if not thread.alive), None)
            if dead is not None:
                log.error("the thread %s has ended: stopping, so that the service is restarted", dead)
                return dead
            stuck = watchdog.check()
            if stuck is not None:
                return self._give_up(stuck)
            self._service.alive()
            parts.totals.save()
            parts.rollout.check()
            changed = [parts.outputs.supervise(), parts.page is not None and parts.page.take_change()]
            if self._power.check(self._clock.monotonic_ns()) or any(changed):
                parts.node.announce()
            if parts.outputs.wants_status and (read := status.read_if_due()) is not None:
                parts.outputs.set_node(read)
            if self._signals.take_reload():
                self._read_again(parts.node)
            left_s = CHECK_S if end_ns is None else (end_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return None
            self._signals.wait(min(CHECK_S, left_s))
        return None

    def _read_again(self, node: Node) -> None:
        """Reload, as SIGHUP requests. The node reports a refusal; it stops nothing."""
        self._service.reloading(self._clock.monotonic_ns())
        try:
            node.reload()
        except (ConfigError, BundleError, CommandError):
            pass  # reported by an event and in the log
        except Exception:  # no descriptors, no memory: the node goes on with what it has
            log.exception("the configuration cannot be read again, nothing was changed")
        finally:
            self._service.ready()

    def _give_up(self, stuck: Stuck) -> str:
        """A required loop hangs: with systemd this process ends at once, without it after the usual stop."""
        log.error(
            "the thread %s has not moved for %.0f s: stopping, so that the service is restarted\n%s",
            stuck.name,
            stuck.still_s,
            stuck.stack,
        )
        self._service.stuck()
        return stuck.name

    def _shut(self, parts: Parts, broker: EmbeddedBroker | None) -> bool:
        """Stop along the flow: no new frames, none left over, nothing unwritten, nothing unsent that can be sent.

        A part stops when nothing upstream of it works any more.  Returns whether a thread is left behind that works
        on frames or events.
        """
        log.info("stopping")
        now_ns = self._clock.monotonic_ns()
        stop = StopSequence(self._clock, (self._signals.stop_ns or now_ns) + int(STOP_S * NS_PER_S))
        if parts.page is not None:
            stop.act("the end of the page", parts.page.ask_stop)
        stop.act("the alarm about refused events", lambda: parts.rejected_alarm.emit(at_once=True))
        stop.step("the thread console", STOP_COMMANDS_S, parts.console.stop)
        stop.step("the thread commands", STOP_COMMANDS_S, parts.commands.stop)
        upstream = [
            stop.step("the thread cameras", STOP_CAMERAS_S, parts.cameras.stop),
            stop.step("the thread inspection", STOP_LINE_S, lambda left_s: parts.line.stop(left_s, drain_s=DRAIN_S)),
        ]
        stop.act("saving the totals", lambda: parts.totals.save(ended=all(upstream)))
        parts.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, "node.stopped"))
        upstream.append(stop.step("the thread recorder", STOP_RECORDER_S, lambda left_s: _stop_recorder(parts, left_s)))
        if parts.evidence is not None:
            stop.step("the thread evidence", STOP_EVIDENCE_S, parts.evidence.stop)
        if parts.judge is not None:
            stop.step("the thread coil-judge", STOP_JUDGE_S, parts.judge.stop)
        if parts.reporter is not None:
            stop.step("the thread coil-reports", STOP_JUDGE_S, parts.reporter.stop)
        stop.step("outputs", STOP_OUTPUTS_S, parts.outputs.ask_stop)
        stop.step("the thread publisher", STOP_PUBLISHER_S, lambda left_s: _stop_publisher(parts, left_s))
        stop.step("outputs", STOP_OUTPUTS_S, lambda left_s: _stop_outputs(parts, left_s))
        if parts.page is not None:
            stop.step("the thread web", STOP_PAGE_S, parts.page.stop)
        if broker is not None:
            stop.step("the embedded broker", STOP_BROKER_S, broker.stop)
        waiting = parts.publisher.snapshot().depth
        log.info("stopped; %s", f"{waiting} events wait for the next start" if waiting else "every event is delivered")
        return not all(upstream)

    def stop(self) -> None:
        """Make `run` end; from any thread."""
        self._signals.ask_stop()


def _stop_recorder(parts: Parts, limit_s: float) -> bool:
    """Events that the disk refuses are lost, and the recorder logs that: its thread ends all the same."""
    return parts.recorder.stop(limit_s) or not parts.recorder.alive


def _stop_publisher(parts: Parts, limit_s: float) -> bool:
    """Events that the broker does not take stay in the outbox: the thread ends all the same."""
    return parts.publisher.stop(limit_s) or not parts.publisher.alive


def _stop_outputs(parts: Parts, limit_s: float) -> None:
    """Events that an output has not sent follow after the next start; the outputs log what hangs."""
    parts.outputs.stop(limit_s)
