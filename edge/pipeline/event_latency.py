"""How long an event takes from its decision to the disk, and to the broker's word that it has it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from edge.event import Event
from edge.host.clock import Clock
from edge.pipeline.histogram import Histogram

MOST: Final = 10_000
"""Events followed at a time; beyond it the oldest are forgotten, and their time to the broker is not counted."""


class EventLatency:
    """Follows the events of this run.  `stored` is called by the recorder, `acknowledged` by the publisher."""

    def __init__(self, cameras: Iterable[str], clock: Clock) -> None:
        names = tuple(cameras)
        self._clock = clock
        self._lock = threading.Lock()
        self._decided: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self.to_outbox: Mapping[str, Histogram] = {name: Histogram() for name in names}
        """Decision to commit, by camera; the recorder's."""
        self.to_broker: Mapping[str, Histogram] = {name: Histogram() for name in names}
        """Decision to PUBACK; the publisher's.  Events of an earlier run are not in it: their clock may be another."""

    def follow(self, cameras: Iterable[str]) -> None:
        """These cameras from now on; what is known of those among them stays."""
        names = tuple(cameras)
        with self._lock:
            self.to_outbox = {name: self.to_outbox.get(name) or Histogram() for name in names}
            self.to_broker = {name: self.to_broker.get(name) or Histogram() for name in names}

    def stored(self, events: Iterable[Event]) -> None:
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            for event in events:
                if event.camera in self.to_outbox:
                    self.to_outbox[event.camera].add(now_ns - event.monotonic_ns)
                    self._decided[event.event_id] = (event.camera, event.monotonic_ns)
            while len(self._decided) > MOST:
                self._decided.popitem(last=False)

    def acknowledged(self, event_id: str) -> None:
        with self._lock:
            camera, decided_ns = self._decided.pop(event_id, ("", 0))
        if camera in self.to_broker:
            self.to_broker[camera].add(self._clock.monotonic_ns() - decided_ns)
