"""A node reduced to delivery, for tests that kill it: appends events without end and publishes them.

Arguments: database, port, pause between events in s, and `early` for a faulty node that marks an event as delivered
when it sends it.  Prints each seq and event id after the commit.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from edge.config import Mqtt
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.session import Session
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.rows import Draft, Row
from edge.delivery.outbox.store import Outbox
from edge.host.clock import SystemClock, uuid7

path, port, pause_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
clock = SystemClock()
topics = Topics("defectd", "line3")
settings = Mqtt(broker=f"mqtt://127.0.0.1:{port}")
outbox = Outbox(path, max_rows=10**6, keep_delivered=100, durability="full", clock=clock)
publisher = Publisher(opener(settings, "line3"), outbox, topics, clock, settings, version="test")
if "early" in sys.argv:
    send_row = Session._send_row

    def send_and_forget(session: Session, row: Row) -> None:
        send_row(session, row)
        outbox.ack([row.seq])

    Session._send_row = send_and_forget  # type: ignore[method-assign]
publisher.start()
threading.current_thread().name = "appender"
while True:
    event_id = uuid7(clock.wall_ns())
    draft = Draft(topics.event("top"), {"event_id": event_id, "seq": 0, "replayed": False}, event_id)
    for seq in outbox.append([draft]):
        sys.stdout.write(f"{seq} {event_id}\n")
        sys.stdout.flush()
    publisher.wake()
    time.sleep(pause_s)
