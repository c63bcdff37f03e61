"""A subscriber that can prove it has every event of a node; needs nothing but paho-mqtt 2.

    python subscriber.py BROKER_HOST PORT NODE [SECONDS]

Three things make it complete:
- a persistent session (a fixed client id, clean_session=False) and QoS 1, so that the broker keeps messages while
  this program is away (raise `max_queued_messages` in mosquitto.conf);
- `event_id`: an event may arrive more than once, keep the first;
- `seq`: counts over all events of a node, whatever the camera; a missing number is a missing event.
An `events.dropped` event names the numbers that the node itself lost.
"""

from __future__ import annotations

import json
import sys
import time

import paho.mqtt.client as mqtt


class Account:
    """Which events of one node arrived. In real use, store `next_seq` and `holes` beside the events."""

    def __init__(self) -> None:
        self.next_seq: int | None = None
        self.holes: set[int] = set()
        self.reported: set[int] = set()
        self.events = self.duplicates = 0

    def take(self, event: dict) -> bool:
        """Record an event; False if it arrived before."""
        seq = event["seq"]
        if self.next_seq is None:
            self.next_seq = seq  # the first event after the subscription
        if seq >= self.next_seq:
            self.holes.update(range(self.next_seq, seq))
            self.next_seq = seq + 1
        elif seq in self.holes:
            self.holes.remove(seq)  # arrived late
        else:
            self.duplicates += 1
            return False
        self.events += 1
        lost = event["detail"] or {}
        if event["type"] == "events.dropped" and lost.get("first_seq") is not None:
            self.reported.update(range(lost["first_seq"], lost["last_seq"] + 1))
        return True


def main() -> int:
    host, port, node = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    account = Account()

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe(f"defectd/{node}/+/event", qos=1)

    def on_message(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        event = json.loads(message.payload)
        if account.take(event):
            sys.stdout.write(f"{event['seq']} {event['time']} {event['camera']} {event['type']}\n")
            sys.stdout.flush()

    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=f"history-of-{node}", clean_session=False, protocol=mqtt.MQTTv311
    )
    client.on_connect = on_connect
    client.on_message = on_message
    client.connect(host, port)
    client.loop_start()  # reconnects by itself; the broker keeps the session
    try:
        time.sleep(float(sys.argv[4]) if len(sys.argv) > 4 else 1e9)
    except KeyboardInterrupt:
        pass
    client.disconnect()
    client.loop_stop()
    missing = sorted(account.holes)
    sys.stderr.write(f"{account.events} events, {account.duplicates} duplicates, missing: {missing}\n")
    sys.stderr.write(f"reported as lost by the node: {sorted(account.holes & account.reported)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
