"""From a decided event to a stored one, without the decider waiting for a disk."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.store import Draft, Loss, Outbox
from edge.errors import OutboxError
from edge.event import EVENT_TYPES, NODE_CAMERA, Event, Evidence, Origin, as_json
from edge.host.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

GROUP: Final = 200
"""Most events in one commit."""
RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 5.0
REMIND_S: Final = 60.0
"""Seconds between two log lines about the same outage."""
IDLE_S: Final = 1.0
"""Longest wait for an event, so that the watchdog sees that the loop lives."""
PATIENCE_S: Final = 0.1
"""For the pictures of all events of a group; an event whose picture is not on disk by then goes without."""

Picture = Callable[[float], Evidence | None]
"""Asked once, with the seconds there are: what the event may say of its picture."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event with what was true of the node when it was put."""

    event: Event
    origin: Origin
    picture: Picture | None = None


class Recorder:
    """The thread `recorder`: takes events from anyone, stores them in groups.

    put() costs microseconds and never waits for the disk.  max_waiting: events in memory while the disk is away;
    the oldest go and are told by one events.dropped event.  before_commit: called by the recorder thread with the
    events that it is about to store.  on_stored: called by it after each commit; must not block.  on_commit: the same,
    with the events that were stored.
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
        self._queue: deque[_Waiting] = deque()
        self._in_hand: list[_Waiting] = []
        """The group being stored; only the recorder thread changes it."""
        self._changed = threading.Condition()
        self._stopping = False
        self._give_up_ns: int | None = None
        self._stored = 0
        self._dropped = 0
        self._untold = 0
        """Events dropped from memory that no event has told of yet."""
        self.beat_ns = clock.monotonic_ns()
        """When the loop last came round: the watchdog looks at it."""
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        outbox.tell_losses_by(self._loss_draft)

    def set_origin(self, origin: Origin) -> None:
        """Events put from now on carry this origin."""
        self.origin = origin

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event, picture: Picture | None = None) -> None:
        """Hand over an event; from any thread."""
        with self._changed:
            if len(self._queue) >= self._max_waiting:
                self._queue.popleft()
                self._dropped += 1
                self._untold += 1
            self._queue.append(_Waiting(event, self.origin, picture))
            self._changed.notify()

    def stop(self, timeout_s: float) -> bool:
        """Store what waits, then end; False if something had to be left behind."""
        with self._changed:
            self._stopping = True
            self._give_up_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 1.0)
        left = self.waiting
        if left:
            log.error("%d events could not be stored before the stop and are lost", left)
        return left == 0 and not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Events in memory, not stored yet."""
        return len(self._queue) + len(self._in_hand)

    @property
    def stored(self) -> int:
        return self._stored

    @property
    def dropped(self) -> int:
        """Events lost from memory because the disk was away too long."""
        return self._dropped

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait_for_work() and self._store_group():
                pass
        except Exception:
            log.exception("the recorder has ended: events are no longer stored")

    def _wait_for_work(self) -> bool:
        """Take the next group in hand; False when stopping and nothing waits."""
        with self._changed:
            while not (self._queue or self._stopping):
                self.beat_ns = self._clock.monotonic_ns()
                self._changed.wait(IDLE_S)
            self.beat_ns = self._clock.monotonic_ns()
            while self._queue and len(self._in_hand) < GROUP:
                self._in_hand.append(self._queue.popleft())
            return bool(self._in_hand)

    def _store_group(self) -> bool:
        """Store what is in hand; tries until it is done, or False when the stop's time is up."""
        delay_s = RETRY_FIRST_S
        since_ns: int | None = None
        told_ns = 0
        failures = 0
        untold = self._untold
        self._ask_for_pictures()
        if self._before_commit is not None:
            self._before_commit([waiting.event for waiting in self._in_hand])
        while True:
            self.beat_ns = self._clock.monotonic_ns()
            try:
                self._append(self._in_hand, untold)
                break
            except OutboxError as error:
                now_ns = self._clock.monotonic_ns()
                failures += 1
                if since_ns is None or now_ns - told_ns >= REMIND_S * NS_PER_S:
                    log.error(  # noqa: TRY400 (the cause is in it)
                        "events cannot be stored (%s); %d wait in memory, attempt %d", error, self.waiting, failures
                    )
                    told_ns = now_ns
                since_ns = now_ns if since_ns is None else since_ns
            if not self._pause(delay_s):
                return False
            delay_s = min(delay_s * 2, RETRY_LAST_S)
        with self._changed:
            self._untold -= untold
            self._stored += len(self._in_hand)
            committed = self._in_hand
            self._in_hand = []
        if self._on_commit is not None:
            self._on_commit([waiting.event for waiting in committed])
        if since_ns is not None:
            away_s = (self._clock.monotonic_ns() - since_ns) / NS_PER_S
            log.warning("events are stored again after %.1f s", away_s)
        if self._on_stored is not None:
            self._on_stored()
        return True

    def _ask_for_pictures(self) -> None:
        until_ns = self._clock.monotonic_ns() + int(PATIENCE_S * NS_PER_S)
        for place, waiting in enumerate(self._in_hand):
            if waiting.picture is not None:
                found = waiting.picture(max(0.0, (until_ns - self._clock.monotonic_ns()) / NS_PER_S))
                self._in_hand[place] = replace(waiting, event=replace(waiting.event, evidence=found), picture=None)

    def _pause(self, delay_s: float) -> bool:
        """Wait before the next attempt; False when the stop's time is up."""
        with self._changed:
            if not self._stopping:
                self._changed.wait_for(lambda: self._stopping, delay_s)
                return True
            assert self._give_up_ns is not None
            left_s = (self._give_up_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return False
            self._changed.wait(min(delay_s, left_s))
            return True

    def _append(self, group: list[_Waiting], untold: int) -> None:
        drafts = [self._draft(w) for w in group]
        if untold:
            told = {"first_seq": None, "last_seq": None, "count": untold, "cause": "memory"}
            drafts.append(self._told(told))
        try:
            self._outbox.append(drafts)
        except ValueError as error:
            # A value that JSON has no word for must not cost the event, nor hold up the others.
            log.error("an event is stored with values left out: %s", error)  # noqa: TRY400 (the cause is in it)
            self._outbox.append([Draft(d.topic, _plain(d.payload), d.event_id, d.severity) for d in drafts])

    def _draft(self, waiting: _Waiting) -> Draft:
        event = waiting.event
        return Draft(
            topic=self._topics.event(event.camera),
            payload=as_json(event, waiting.origin),
            event_id=event.event_id,
            severity=EVENT_TYPES[event.type],
        )

    def _loss_draft(self, loss: Loss) -> Draft:
        return self._told(
            {"first_seq": loss.first_seq, "last_seq": loss.last_seq, "count": loss.count, "cause": loss.cause}
        )

    def _told(self, detail: dict[str, Any]) -> Draft:
        dropped = Event.now(self._clock, NODE_CAMERA, "events.dropped", detail)
        return self._draft(_Waiting(dropped, self.origin))


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 (a table)
    """The value with everything that JSON cannot say turned into null or text."""
    if depth > 8:
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
