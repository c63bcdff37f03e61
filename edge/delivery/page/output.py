"""The output `page`: the feed of the process that serves the page, on a unix socket in the state directory.

One thread, `page`, listens, encodes frames, and sends. It holds no events back: what a client has missed lies in the
outbox. While no client wants frames, the inspection loop offers none.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import selectors
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge import __version__
from edge.coverage.strip_position import StripReading
from edge.delivery.frame_tap import FrameTap, ShownFrame
from edge.delivery.output import CameraReport, Events, NodeProperties, NodeStatus, OutputContext
from edge.delivery.page.client import Client, Gone
from edge.delivery.page.frame_messages import FrameMessages
from edge.delivery.page.framing import encoded
from edge.delivery.page.listener import Listener
from edge.delivery.page.log_ring import LogRing
from edge.delivery.page.messages import sign_of, want_of
from edge.delivery.page.state import Known, state_object
from edge.delivery.page_life import PageLife
from edge.errors import ImageError, OutboxError
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker

log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 4
TURN_S: Final = 0.2
STATE_EVERY_NS: Final = NS_PER_S // 5
"""Between two states when something has changed."""
STATE_AGAIN_NS: Final = NS_PER_S
"""Between two states when nothing has."""
READ_ROWS: Final = 100
MAX_ROWS_A_TURN: Final = 1000
READ_BACK: Final = 1000
"""Events that a new feed reads, to count the defects of the coil that runs."""
JOIN_S: Final = 1.0

Merged = NodeProperties | StripReading | NodeStatus | CameraReport | tuple[str, Mapping[str, Any]]


class PageOutput:
    """The thread `page`.  Any thread may call any public method; only `stop` waits."""

    name: Final = "page"
    """Of its thread."""

    def __init__(
        self,
        path: Path,
        node: str,
        cameras: tuple[str, ...],
        events: Events,
        tap: FrameTap,
        life: PageLife,
        clock: Clock,
    ) -> None:
        """path: of the socket.  cameras: those of the configuration."""
        self._path = path
        self._events = events
        self._tap = tap
        self._life = life
        self._clock = clock
        self._known = Known(node, __version__, secrets.token_hex(8), cameras)
        self._lock = threading.Lock()
        self._fresh: dict[tuple[type, str], Merged] = {}
        """The newest of each, until the thread takes them: merged values need no queue."""
        self._clients: list[Client] = []
        self._listener: Listener | None = None
        self._wake_fd = -1
        self._has_changed = True
        self._state_ns = 0
        """When the last state was built, monotonic."""
        self._read_seq = 0
        """Up to here events were read."""
        self._logs = LogRing()
        self._throttle = LogThrottle(log)
        self._worker = Worker(self.name, self._run, clock)

    @classmethod
    def of(cls, context: OutputContext) -> PageOutput:
        """The output that the configuration describes."""
        settings = context.settings
        names = tuple(camera.name for camera in settings.active_cameras)
        path = settings.state.page_socket
        return cls(path, settings.node, names, context.events, context.tap, context.page_life, context.clock)

    # ---- from any thread -----------------------------------------------------------------------------

    def start(self) -> None:
        """Listen.  Raises OSError."""
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listener = Listener(self._path)
        self._worker.start()
        logging.getLogger().addHandler(self._logs)

    def wake(self) -> None:
        """The outbox holds new events, or there is a frame.  Without clients nothing is to be done."""
        with self._lock:
            if self._wake_fd >= 0 and (self._clients or self._worker.is_stopping):
                os.eventfd_write(self._wake_fd, 1)

    def set_properties(self, properties: NodeProperties) -> None:
        self._set("", properties)

    def set_strip(self, reading: StripReading) -> None:
        self._set("", reading)

    def set_node(self, status: NodeStatus) -> None:
        self._set("", status)

    def state(self, camera: str, message: Mapping[str, Any]) -> None:
        """message: the state message of the camera."""
        self._set(camera, (camera, message))

    def report(self, report: CameraReport) -> None:
        self._set(report.camera, report)

    def _set(self, camera: str, value: Merged) -> None:
        with self._lock:
            self._fresh[type(value), camera] = value

    def ask_stop(self, timeout_s: float) -> None:
        """Say goodbye to the clients.  Does not wait."""
        del timeout_s  # no event is held back for clients
        self._worker.ask_stop()
        self.wake()

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait for the end.  False when the thread hangs."""
        logging.getLogger().removeHandler(self._logs)
        self.ask_stop(timeout_s)
        if not self._worker.join(timeout_s + JOIN_S):
            return False
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
                self._wake_fd = -1
        return True

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def beat_ns(self) -> int:
        """When the loop last came round."""
        return self._worker.beat_ns

    # ---- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._listener is not None
        self._life.listens(self._clock.monotonic_ns())
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._listener.socket, selectors.EVENT_READ)
                selector.register(self._wake_fd, selectors.EVENT_READ)
                while not self._worker.is_stopping:
                    self._worker.beat()
                    self._turn(selector, self._listener)
        finally:
            self._life.listens(None)
            self._tap.watch({}, lambda: None)
            for client in self._clients:
                client.leave(encoded({"kind": "bye", "reason": "the daemon stops, or starts its feed again"}))
            self._clients = []

    def _turn(self, selector: selectors.BaseSelector, listener: Listener) -> None:
        """Wait for something to do, and do it."""
        ready = {key.fileobj for key, _ in selector.select(TURN_S)}
        now_ns = self._clock.monotonic_ns()
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        self._learn()
        if listener.socket in ready:
            self._accept(selector, listener, now_ns)
        frames, pictures = self._tap.take(), FrameMessages(self._clock)
        if not self._clients:
            return
        events, state = self._read_events(), self._state_if_due(now_ns)
        for client in tuple(self._clients):
            try:
                if client.connection in ready:
                    self._receive(client, now_ns)
                for event in events:
                    client.put(event)
                if state is not None:
                    client.put_state(state)
                client.put_logs(self._logs)
                self._show(client, frames, pictures, now_ns)
                client.send(now_ns)
            except Gone as reason:
                log.info("a client of the page's feed has gone: %s", reason)
                selector.unregister(client.connection)
                client.close()
                self._clients.remove(client)
            else:
                selector.modify(client.connection, client.awaited)
        self._watch(now_ns)

    def _watch(self, now_ns: int) -> None:
        """Have the inspection loop offer what the clients want, and nothing else."""
        wanted: dict[str, float] = {}
        for client in self._clients:
            for camera, fps in client.rates(now_ns).items():
                wanted[camera] = max(fps, wanted.get(camera, 0.0))
        if wanted != self._tap.wanted:
            self._tap.watch(wanted, self.wake)
        self._life.clients = len(self._clients)

    # ---- clients -------------------------------------------------------------------------------------

    def _accept(self, selector: selectors.BaseSelector, listener: Listener, now_ns: int) -> None:
        try:
            connection = listener.accept()
        except OSError as error:  # out of file descriptors, for now
            self._log(logging.WARNING, f"the page's feed takes no connection: {error}")
            self._worker.wait_for_stop(TURN_S)
            return
        if connection is None:
            return
        client = Client(connection, now_ns)
        if len(self._clients) >= MAX_CLIENTS:
            self._log(logging.WARNING, f"the page's feed refuses a connection: it has {MAX_CLIENTS} already")
            client.leave(encoded({"kind": "bye", "reason": f"{MAX_CLIENTS} clients are connected already"}))
            return
        if not self._clients:
            self._catch_up()
        client.put(encoded({"kind": "hello", **self._greeting()}))
        client.put_state(self._state(now_ns))
        self._clients.append(client)
        selector.register(client.connection, client.awaited)

    def _greeting(self) -> dict[str, Any]:
        known = self._known
        return {
            "node": known.node,
            "version": known.version,
            "epoch": known.epoch,
            "last_seq": self._read_seq,
            "cameras": known.cameras,
        }

    def _receive(self, client: Client, now_ns: int) -> None:
        """Take what a client has sent.  Raises Gone."""
        for message in client.receive():
            try:
                match message.kind:
                    case "want":
                        client.wants(want_of(message.header), now_ns)
                    case "page":
                        self._life.note(sign_of(message.header), now_ns)
                        client.takes_logs = True
                    case _:
                        raise ValueError(f"no message has the kind {message.kind[:40]!r}")
            except ValueError as error:
                raise Gone(str(error)) from None

    def _show(self, client: Client, frames: Sequence[ShownFrame], pictures: FrameMessages, now_ns: int) -> None:
        """Give a client the frames that it wants."""
        for frame in frames:
            try:
                if client.takes_raw(frame.camera, frame.pixels.nbytes):
                    client.put_raw(pictures.raw(frame))
                want = client.due(frame.camera, now_ns)
                if want is not None:
                    client.put_frame(frame.camera, pictures.scaled(frame, want.longest_px))
            except ImageError as error:
                self._log(logging.WARNING, f"a frame of camera {frame.camera} cannot be shown: {error}")

    # ---- values and events ---------------------------------------------------------------------------

    def _learn(self) -> None:
        """Take the values that other threads have left."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        known = self._known
        for value in fresh.values():
            match value:
                case NodeProperties():
                    known.properties = value
                case StripReading():
                    known.strip = value
                case NodeStatus():
                    known.status = value
                case CameraReport():
                    known.reports[value.camera] = value
                case (camera, message):
                    known.states[camera] = message
        self._has_changed = self._has_changed or bool(fresh)

    def _state_if_due(self, now_ns: int) -> bytes | None:
        age_ns = now_ns - self._state_ns
        if age_ns >= STATE_AGAIN_NS or (self._has_changed and age_ns >= STATE_EVERY_NS):
            return self._state(now_ns)
        return None

    def _state(self, now_ns: int) -> bytes:
        self._state_ns, self._has_changed = now_ns, False
        self._known.last_seq = self._events.last_seq
        return encoded({"kind": "state", "state": state_object(self._known, stamp(self._clock.wall_ns()))})

    def _read_events(self) -> list[bytes]:
        """The events since the last call, as messages."""
        messages: list[bytes] = []
        while len(messages) < MAX_ROWS_A_TURN and self._read_seq < self._events.last_seq:
            payloads = self._read()
            if not payloads:
                break
            messages += [encoded({"kind": "event", "seq": each["seq"], "payload": each}) for each in payloads]
        return messages

    def _catch_up(self) -> None:
        """Count the defects of the events that no client was there for, as far back as it goes."""
        self._read_seq = max(self._read_seq, self._events.last_seq - READ_BACK)
        while self._read_seq < self._events.last_seq and self._read():
            pass

    def _read(self) -> list[dict[str, Any]]:
        """The next events; none while the disk fails."""
        try:
            rows = self._events.after(self._read_seq, READ_ROWS)
        except OutboxError as error:
            self._log(logging.ERROR, f"the page: events cannot be read: {error}")
            return []
        payloads: list[dict[str, Any]] = [json.loads(row.payload) for row in rows]
        for payload in payloads:
            self._known.defects.add(payload)
        if rows:
            self._read_seq = rows[-1].seq
            self._has_changed = True
        return payloads

    def _log(self, level: int, message: str) -> None:
        self._throttle.write(level, message, self._clock.monotonic_ns())
