"""Stores events in the outbox without making the thread that decides them wait for a disk."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.rows import Draft, Loss
from edge.delivery.outbox.store import Outbox
from edge.errors import OutboxError
from edge.event import EVENT_TYPES, NODE_CAMERA, Event, Evidence, Origin, as_json
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker

log = logging.getLogger(__name__)

GROUP: Final = 200
"""Maximum events in one commit."""
RETRY_FIRST_S: Final = 0.1
RETRY_LIMIT_S: Final = 5.0
REMIND_S: Final = 60.0
"""Interval between log lines about the same disk outage."""
IDLE_S: Final = 1.0
"""Longest wait for an event: the loop must beat for the watchdog."""
PATIENCE_S: Final = 0.1
"""Longest wait for the evidence of all events of a group; an event whose evidence is late is stored without it."""
MAX_DEPTH: Final = 8
"""Nesting that `_plain` keeps; deeper values become null."""

Picture = Callable[[float], Evidence | None]
"""Waits at most that many seconds for the evidence of an event, and returns the reference or None; called once."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An event to store, with the origin at the time of `put`."""

    event: Event
    origin: Origin
    picture: Picture | None = None


class Recorder:
    """The thread `recorder`: takes events from any thread and stores them in groups.

    put() costs microseconds and never waits for the disk.  max_waiting: events kept in memory during a disk outage;
    above that the oldest go, and one events.dropped event reports them.  before_commit: the recorder thread calls it
    with the events that it is about to store.  on_stored: the thread calls it after each commit; it must not block.
    on_commit: the same, with the stored events.
    """

    def __init__(
        self,
        outbox: Outbox,
        origin: Origin,
        topics: Topics,
        clock: Clock,
        max_waiting: int = 10_000,
        *,
        before_commit: Callable[[Sequence[Event]], None] | None = None,
        on_stored: Callable[[], None] | None = None,
        on_commit: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        self.origin = origin
        """Replaced as a whole when the model or the configuration changes."""
        self._outbox = outbox
        self._topics = topics
        self._clock = clock
        self._before_commit = before_commit
        self._on_stored = on_stored
        self._on_commit = on_commit
        self._max_waiting = max_waiting
        self._queue: deque[_Pending] = deque()
        self._in_hand: list[_Pending] = []
        """The group being stored; only the recorder thread changes it."""
        self._changed = threading.Condition()
        self._stop_by_ns: int | None = None
        self._stored = 0
        self._dropped = 0
        self._unreported = 0
        """Events dropped from memory that no events.dropped event has reported yet."""
        self._worker = Worker("recorder", self._run, clock)
        outbox.report_losses_by(self._loss_draft)

    def set_origin(self, origin: Origin) -> None:
        """Events put from now on carry this origin."""
        self.origin = origin

    def start(self) -> None:
        self._worker.start()

    def put(self, event: Event, picture: Picture | None = None) -> None:
        """Queue an event for storing; from any thread."""
        with self._changed:
            if len(self._queue) >= self._max_waiting:
                self._queue.popleft()
                self._dropped += 1
                self._unreported += 1
            self._queue.append(_Pending(event, self.origin, picture))
            self._changed.notify()

    def stop(self, timeout_s: float) -> bool:
        """Store the queued events, then end.  False when events are left over."""
        with self._changed:
            self._stop_by_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
            self._worker.ask_stop()
            self._changed.notify()
        has_ended = self._worker.join(timeout_s + 1.0)
        left = self.waiting
        lost = left + self._unreported
        if lost:
            # A thread that still hangs in the disk may yet store its group, so only an ended one has lost anything.
            is_noted = has_ended and self._outbox.give_up(lost)
            hint = "the next start reports it" if is_noted else "no event will report it"
            log.error("%d events could not be stored before the stop and are lost: %s", lost, hint)
        return lost == 0 and has_ended

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def beat_ns(self) -> int:
        """When the loop last came round, monotonic: for the watchdog."""
        return self._worker.beat_ns

    @property
    def waiting(self) -> int:
        """Events in memory, not stored yet."""
        return len(self._queue) + len(self._in_hand)

    @property
    def stored(self) -> int:
        return self._stored

    @property
    def dropped(self) -> int:
        """Events dropped from memory because a disk outage lasted too long."""
        return self._dropped

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._take_group() and self._store_group():
            pass

    def _take_group(self) -> bool:
        """Wait for events and take the next group in hand.  False when stopping and none is left."""
        with self._changed:
            while not (self._queue or self._worker.is_stopping):
                self._worker.beat()
                self._changed.wait(IDLE_S)
            self._worker.beat()
            while self._queue and len(self._in_hand) < GROUP:
                self._in_hand.append(self._queue.popleft())
            return bool(self._in_hand)

    def _store_group(self) -> bool:
        """Store the group in hand.  False when the time of a stop ran out before that."""
        unreported = self._unreported
        self._collect_evidence()
        if self._before_commit is not None:
            self._before_commit([pending.event for pending in self._in_hand])
        if not self._append_with_retries(unreported):
            return False
        with self._changed:
            self._unreported -= unreported
            self._stored += len(self._in_hand)
            committed = self._in_hand
            self._in_hand = []
        if self._on_commit is not None:
            self._on_commit([pending.event for pending in committed])
        if self._on_stored is not None:
            self._on_stored()
        return True

    def _collect_evidence(self) -> None:
        until_ns = self._clock.monotonic_ns() + int(PATIENCE_S * NS_PER_S)
        for index, pending in enumerate(self._in_hand):
            if pending.picture is not None:
                found = pending.picture(max(0.0, (until_ns - self._clock.monotonic_ns()) / NS_PER_S))
                self._in_hand[index] = _Pending(replace(pending.event, evidence=found), pending.origin)

    def _append_with_retries(self, unreported: int) -> bool:
        """Append the group in hand until the disk takes it.  False when the time of a stop ran out."""
        backoff = Backoff(RETRY_FIRST_S, RETRY_LIMIT_S)
        throttle = LogThrottle(log, REMIND_S)
        failed_ns: int | None = None
        while True:
            self._worker.beat()
            try:
                self._append(unreported)
            except OutboxError as error:
                now_ns = self._clock.monotonic_ns()
                failed_ns = now_ns if failed_ns is None else failed_ns
                if throttle.ready("outage", now_ns) is not None:
                    log.error(  # noqa: TRY400 (the message holds the cause)
                        "events cannot be stored (%s); %d wait in memory, attempt %d",
                        error,
                        self.waiting,
                        backoff.attempts + 1,
                    )
            else:
                if failed_ns is not None:
                    outage_s = (self._clock.monotonic_ns() - failed_ns) / NS_PER_S
                    log.warning("events are stored again after %.1f s", outage_s)
                return True
            if not self._pause(backoff.next_s()):
                return False

    def _pause(self, delay_s: float) -> bool:
        """Wait before the next attempt.  False when the time of a stop ran out."""
        with self._changed:
            if self._stop_by_ns is None:
                self._changed.wait_for(lambda: self._worker.is_stopping, delay_s)
                return True
            left_s = (self._stop_by_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return False
            self._changed.wait(min(delay_s, left_s))
            return True

    def _append(self, unreported: int) -> None:
        drafts = [self._draft(pending) for pending in self._in_hand]
        if unreported:
            detail = {"first_seq": None, "last_seq": None, "count": unreported, "cause": "memory"}
            drafts.append(self._dropped_draft(detail))
        try:
            self._outbox.append(drafts)
        except ValueError as error:
            # A value that JSON cannot express must not cost the event, nor delay the others.
            log.error("an event is stored with values left out: %s", error)  # noqa: TRY400 (the message holds the cause)
            self._outbox.append([Draft(d.topic, _plain(d.payload), d.event_id, d.severity) for d in drafts])

    def _draft(self, pending: _Pending) -> Draft:
        event = pending.event
        return Draft(
            topic=self._topics.event(event.camera),
            payload=as_json(event, pending.origin),
            event_id=event.event_id,
            severity=EVENT_TYPES[event.type],
        )

    def _loss_draft(self, loss: Loss) -> Draft:
        return self._dropped_draft(
            {"first_seq": loss.first_seq, "last_seq": loss.last_seq, "count": loss.count, "cause": loss.cause}
        )

    def _dropped_draft(self, detail: dict[str, Any]) -> Draft:
        dropped = Event.now(self._clock, NODE_CAMERA, "events.dropped", detail)
        return self._draft(_Pending(dropped, self.origin))


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 (a table)
    """The value, with whatever JSON cannot express turned into null or text."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {str(k): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v, depth + 1) for v in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a numpy scalar
        return _plain(value.item(), depth + 1)
    return str(value).encode("utf-8", "replace").decode("utf-8")
