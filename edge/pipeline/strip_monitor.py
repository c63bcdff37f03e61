"""The strip under the cameras: its speed, its coil, and where it was when a frame was grabbed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from edge import event
from edge.coverage.strip_position import Coil, CoilNamed, PositionTracker, Speed, StripReading, StripUpdate
from edge.host.clock import NS_PER_S, Clock
from edge.pipeline.orders import CoilOrder

log = logging.getLogger(__name__)

READ_EVERY_NS: Final = NS_PER_S // 5
"""Between two readings of the strip for other threads."""


class Sink(Protocol):
    """Where events of the node go."""

    def put(self, event: event.Event) -> None: ...


@dataclass(frozen=True, slots=True)
class StripInput:
    """Where the inspection loop gets the speed and the coil from."""

    tracker: PositionTracker
    updates: Callable[[], Iterable[StripUpdate]] = tuple
    """Returns what arrived since the last call."""
    why_stale: Callable[[], str] = str
    """Returns why no usable speed arrives, if that is known."""


class StripMonitor:
    """Feeds the position tracker, and emits events of speed and coil.  Owned by the inspection loop."""

    def __init__(self, strip: StripInput, sink: Sink, clock: Clock) -> None:
        self.tracker = strip.tracker
        self._updates = strip.updates
        self._why_stale = strip.why_stale
        self._sink = sink
        self._clock = clock
        self._stale_since_ns = 0
        self._read_ns = clock.monotonic_ns()
        self.reading: StripReading = self.tracker.reading(self._read_ns)
        """At most READ_EVERY_NS older than the last turn of the loop; any thread may read it."""

    def update(self) -> None:
        """Take in the speeds and coils that arrived, and emit an event when the speed becomes stale or known again."""
        for update in self._updates():
            match update:
                case Speed(at_ns=at_ns, m_per_s=m_per_s):
                    self.tracker.sample(at_ns, m_per_s)
                case CoilNamed():
                    ended = self.tracker.name_coil(update)
                    if ended is not None:
                        self._emit_coil(ended, "topic", update.lane)
        now_ns = self._clock.monotonic_ns()
        match self.tracker.check_stale(now_ns):
            case "stale":
                silent_ns = self.tracker.silent_ns(now_ns)
                self._stale_since_ns = now_ns - silent_ns
                silent_s, reason = round(silent_ns / NS_PER_S, 3), self._why_stale()
                log.warning("no speed of the strip for %.1f s: positions are unknown. %s", silent_s, reason)
                self._emit("speed.stale", {"silent_s": silent_s, "reason": reason or None})
            case "restored":
                seconds = round((now_ns - self._stale_since_ns) / NS_PER_S, 3)
                log.info("the speed of the strip is known again; positions start with the next coil")
                self._emit("speed.restored", {"seconds": seconds})
        if now_ns - self._read_ns >= READ_EVERY_NS:
            self.read(now_ns)

    def read(self, now_ns: int) -> None:
        """Renew `reading`."""
        self._read_ns = now_ns
        self.reading = self.tracker.reading(now_ns)

    def run_coil_order(self, order: CoilOrder) -> dict[str, Any]:
        """Start or end a coil by command.  Returns the state of the strip after it."""
        now_ns = self._clock.monotonic_ns()
        if order.action == "start" and order.name is not None:
            self._emit_coil(self.tracker.start_coil(order.name, now_ns, order.lane), "command", order.lane)
        elif order.action == "stop":
            self._emit_coil(self.tracker.end_coil(now_ns, order.lane), "command", order.lane)
        self.read(now_ns)
        return self.reading.as_json()

    def _emit_coil(self, ended: Coil, by: str, lane: str | None) -> None:
        """Emit which coil ended and which one runs now, on the strip or on one lane of it."""
        where = {} if lane is None else {"lane": lane}
        if ended.name is not None:
            length_m = None if ended.length_m is None else round(ended.length_m, 3)
            self._emit("coil.ended", {"coil": ended.name, "length_m": length_m, "by": by, **where})
        name = self.tracker.coil_of(lane)
        if name is not None:
            position = self.tracker.at(self._clock.monotonic_ns())
            is_known = position is not None and self.tracker.on_coil(position, lane)[1] is not None
            self._emit("coil.started", {"coil": name, "position_known": is_known, "by": by, **where})

    def _emit(self, kind: event.EventType, detail: dict[str, Any]) -> None:
        self._sink.put(event.Event.now(self._clock, event.NODE_CAMERA, kind, detail))
