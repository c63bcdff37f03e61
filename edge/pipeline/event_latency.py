"""How long an event takes from its decision to the disk, and to the broker's PUBACK."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from edge.event import Event
from edge.host.clock import Clock
from edge.pipeline.histogram import Histogram

MAX_FOLLOWED: Final = 10_000
"""Events followed at a time. Beyond it the oldest are forgotten, and their time to the broker is not counted."""


class EventLatency:
    """Follows the events of this run.  The recorder calls `stored`, the publisher calls `acknowledged`."""

    def __init__(self, cameras: Iterable[str], clock: Clock, max_followed: int = MAX_FOLLOWED) -> None:
        names = tuple(cameras)
        self._clock = clock
        self._max_followed = max_followed
        self._lock = threading.Lock()
        self._decided: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self.to_outbox: Mapping[str, Histogram] = {name: Histogram() for name in names}
        """From decision to commit, by camera. The recorder adds."""
        self.to_broker: Mapping[str, Histogram] = {name: Histogram() for name in names}
        """From decision to PUBACK, by camera. The publisher adds. Events of an earlier run do not count."""

    def follow(self, cameras: Iterable[str]) -> None:
        """Measure these cameras from now on; known ones keep their histograms."""
        names = tuple(cameras)
        with self._lock:
            self.to_outbox = {name: self.to_outbox.get(name) or Histogram() for name in names}
            self.to_broker = {name: self.to_broker.get(name) or Histogram() for name in names}

    def stored(self, events: Iterable[Event]) -> None:
        """These events were committed."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            for event in events:
                if event.camera in self.to_outbox:
                    self.to_outbox[event.camera].add(now_ns - event.monotonic_ns)
                    self._decided[event.event_id] = (event.camera, event.monotonic_ns)
            while len(self._decided) > self._max_followed:
                self._decided.popitem(last=False)

    def acknowledged(self, event_id: str) -> None:
        """The broker has confirmed this event."""
        with self._lock:
            camera, decided_ns = self._decided.pop(event_id, ("", 0))
        if camera in self.to_broker:
            self.to_broker[camera].add(self._clock.monotonic_ns() - decided_ns)
