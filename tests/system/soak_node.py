"""A node reduced to recorder, outbox and publisher, for the soak to kill: its cameras report events at random times.

Arguments: database, port, events per s, seed, rows that the outbox holds, and `--delete-at-publish` for the negative
control, which marks an event as delivered as soon as the MQTT library has it, like daemons without an outbox.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from edge.config import Mqtt
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.session import Session
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.rows import Row
from edge.delivery.outbox.store import Outbox
from edge.delivery.recorder import Recorder
from edge.event import Event, FrameRef, Origin
from edge.host.clock import SystemClock, clock_synced, uuid7

CAMERAS = ("top", "bottom", "edge")
BURST = 40


send_row = Session._send_row


def send_and_forget(session: Session, row: Row) -> None:
    """Deletes at publish, the fault that the soak has to find."""
    send_row(session, row)
    session._outbox.ack([row.seq])
    session.in_flight = {mid: item for mid, item in session.in_flight.items() if item is not row}


def main() -> None:
    path, port, rate, seed = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    rows = int(sys.argv[5])
    if "--delete-at-publish" in sys.argv:
        Session._send_row = send_and_forget
    clock = SystemClock()
    topics = Topics("defectd", "line3")
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{port}", keepalive_s=2, protocol="5")
    outbox = Outbox(path, max_rows=rows, keep_delivered=rows, durability="full", clock=clock)
    publisher = Publisher(opener(settings, "line3"), outbox, topics, clock, settings, version="soak")
    origin = Origin("line3", "boot", {"name": "soak", "version": "1", "sha256": "0" * 64}, "0" * 64)
    recorder = Recorder(outbox, origin, topics, clock, on_stored=publisher.wake)
    publisher.start()
    recorder.start()
    choice = random.Random(seed)
    number = 0
    while True:
        for _ in range(BURST if choice.random() < 0.01 else 1):
            wall_ns = clock.wall_ns()
            frame = FrameRef(number, "soak")
            number += 1
            camera = choice.choice(CAMERAS)
            recorder.put(
                Event(uuid7(wall_ns), camera, "image.bad", wall_ns, clock.monotonic_ns(), clock_synced(), frame=frame)
            )
        time.sleep(choice.expovariate(rate))


main()
