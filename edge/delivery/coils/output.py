"""The output `coils`: what is in the outbox is in the record of its coil, once, also after `kill -9`.

The thread `coils` reads the outbox with a cursor of its own, which is the newest number in the records themselves, and
the notes of the inspection loop (runs, width, speed), which only this process has. It reads no further while the disk
does not take what it has read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from edge.coverage.strip_position import StripReading
from edge.coverage.strip_trace import StripTrace
from edge.delivery.coils.book import MIB, READ_NOTES, CoilBook
from edge.delivery.coils.shelf import Shelf
from edge.delivery.output import CameraReport, Events, NodeProperties, NodeStatus, OutputContext
from edge.errors import OutboxError
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker

log = logging.getLogger(__name__)

READ_ROWS: Final = 500
TURN_S: Final = 1.0
"""Longest wait between two turns."""
LAST_S: Final = 0.05
"""Between two turns of a stop."""


class CoilsOutput:
    """Any thread may call any public method; only `stop` waits."""

    name: Final = "coils"

    def __init__(self, context: OutputContext, trace: StripTrace) -> None:
        """Raises OSError where the folder cannot be used."""
        settings = context.settings
        self._events: Events = context.events
        self._clock: Clock = context.clock
        self._changed = threading.Condition()
        self._has_news = True
        self._stop_ns: int | None = None
        self._has_all = False
        self._is_mended = False
        """The index has all records that it should."""
        self._throttle = LogThrottle(log)
        self._backoff = Backoff(0.2, 10.0)
        self._worker = Worker(self.name, self._run, self._clock)
        coils = settings.coils
        self._shelf = Shelf(settings.state.coils, coils.max_mb * MIB, coils.max_coils, self._worker.beat)
        seqs = context.first_seq, self._events.last_seq
        self._book = CoilBook(settings, self._shelf, trace, self._clock, seqs)
        self._events.hold(self.name, self._book.cursor)

    # ---- from any thread -----------------------------------------------------------------------------

    def start(self) -> None:
        self._worker.start()

    def wake(self) -> None:
        """The outbox holds new events."""
        with self._changed:
            self._has_news = True
            self._changed.notify()

    def set_properties(self, properties: NodeProperties) -> None:
        """Each event says what it was decided with."""

    def set_strip(self, reading: StripReading) -> None:
        """The notes have the speed."""

    def state(self, camera: str, message: Mapping[str, Any]) -> None:
        """Events say what concerns the coil."""

    def report(self, report: CameraReport) -> None:
        """The notes have the meters."""

    def set_node(self, status: NodeStatus) -> None:
        """The record has its own counts."""

    def ask_stop(self, timeout_s: float) -> None:
        """Start to stop: write what is left within that time.  Does not wait."""
        if self._stop_ns is None:
            self._stop_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self._worker.ask_stop()
        self.wake()

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait for the end.  False when events are left: they follow after the next start."""
        self.ask_stop(timeout_s)
        return self._worker.join(timeout_s + 1.0) and self._has_all

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def beat_ns(self) -> int:
        return self._worker.beat_ns

    # ---- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._worker.is_stopping:
                self._worker.beat()
                self._rest(self._try_turn())
            while not self._is_over():
                if self._try_turn() > 0.0 and self._is_up_to_date():
                    break
                with self._changed:
                    self._changed.wait(LAST_S)
            self._has_all = self._is_up_to_date()
        finally:
            self._book.close()

    def _try_turn(self) -> float:
        """One turn.  Returns how long to wait for the next, s.  A disk that is full costs no more than time."""
        try:
            more = self.turn()
        except OSError as error:
            words = f"the record of the coil cannot be written: {error.strerror or error}; it is tried again"
            self._throttle.write(logging.ERROR, words, self._clock.monotonic_ns())
            return self._backoff.next_s()
        except OutboxError as error:
            words = f"events for the record of the coil cannot be read: {error}"
            self._throttle.write(logging.ERROR, words, self._clock.monotonic_ns())
            return self._backoff.next_s()
        self._backoff.reset()
        return 0.0 if more else TURN_S

    def turn(self) -> bool:
        """Write what waits, then read and write what is new.  Returns whether there is more.  Raises OSError."""
        book = self._book
        book.write()
        rows = self._events.after(book.cursor, READ_ROWS)
        for row in rows:
            book.take_event(row)
        book.open_next()
        taken = book.take_notes()
        book.write()
        self._events.hold(self.name, book.cursor)
        if not self._is_mended:
            self._shelf.mend_index()
            self._is_mended = True
        book.settle()
        return len(rows) == READ_ROWS or taken == READ_NOTES

    def _rest(self, delay_s: float) -> None:
        until_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        with self._changed:
            is_failing = self._backoff.attempts > 0
            while (left_ns := until_ns - self._clock.monotonic_ns()) > 0:
                if self._worker.is_stopping or (self._has_news and not is_failing):
                    break
                self._changed.wait(min(TURN_S, left_ns / NS_PER_S))
                self._worker.beat()
            self._has_news = False

    def _is_over(self) -> bool:
        return self._stop_ns is not None and self._clock.monotonic_ns() >= self._stop_ns

    def _is_up_to_date(self) -> bool:
        return self._book.cursor >= self._events.last_seq and not self._book.has_waiting
