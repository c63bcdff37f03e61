"""The soak: kills the node, kills the broker and cuts the link for a given time, then counts what arrived.

    python tests/system/soak_delivery.py --minutes 15 --seed 1        (make soak-delivery)

Only the cameras are simulated. The soak runs the real recorder, outbox and publisher in a process that it kills with -9
at random times, a real mosquitto that it kills and starts again with and without its stored sessions, and a network
that passes, refuses, resets, swallows or delays the traffic. A subscriber listens with QoS 0 beside that network:
mosquitto writes to its socket before it confirms a publish, so the subscriber sees every confirmed event, whatever is
killed afterwards. The soak controls one thing: after the broker was killed, the node reaches it only when the
subscriber is back, because a broker that has lost its sessions knows no subscriber.

The soak compares the arrivals with the outbox of the node and counts: lost events, first arrivals out of order per
camera, repetitions with another event_id, and numbers that neither arrived nor were reported by an events.dropped
event. The outbox keeps every row, unless --max-rows makes it so small that the node has to drop events. The negative
control (--careless) must lose events.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# A script finds `fakes` in tests/, and before that `edge` in the checkout: tests/edge is a folder of that name, too.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import paho.mqtt.client as paho
from mosquitto import Mosquitto, free_port
from paho.mqtt.enums import CallbackAPIVersion
from proxy import Mode, Proxy

from edge.config import Mqtt
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.store import Outbox
from edge.host.clock import SystemClock

NODE = Path(__file__).with_name("soak_node.py")
CUTS: tuple[Mode, ...] = ("reset", "refuse", "blackhole", "slow")


@dataclass(frozen=True)
class Plan:
    """The number of faults, at uniformly random times.  rate: events per s, without the bursts."""

    seconds: float
    seed: int
    kills: int
    broker_kills: int
    cuts: int
    rate: float = 25.0
    careless: bool = False
    max_rows: int = 10**6
    """Rows that the outbox of the node holds."""

    @classmethod
    def of(cls, minutes: float, seed: int, *, careless: bool = False, max_rows: int = 10**6) -> Plan:
        """In 15 minutes 36 kills of the node, 12 of the broker and 216 cuts; in shorter times slightly more of each."""
        share = minutes / 15
        return cls(
            minutes * 60,
            seed,
            kills=max(4, round(36 * share)),
            broker_kills=max(2, round(12 * share)),
            cuts=max(16, round(216 * share)),
            careless=careless,
            max_rows=max_rows,
        )


@dataclass(frozen=True)
class Result:
    """What the soak counted."""

    seed: int
    seconds: float
    kills: int
    broker_kills: int
    cuts: int
    stored: int
    arrived: int
    lost: int
    reported: int
    """Numbers that did not arrive, and that the node reported as dropped."""
    duplicates: int
    out_of_order: int
    other_ids: int
    holes: int
    undelivered: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.out_of_order or self.other_ids or self.holes or self.undelivered)


class Subscriber:
    """Records every event that the broker passes on, in order."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[tuple[int, str, str]] = []
        """seq, event_id, camera."""
        self.dropped: set[int] = set()
        """Numbers that events.dropped events name."""
        self._client: paho.Client | None = None

    def attach(self) -> None:
        """Subscribe; returns when the broker has confirmed that."""
        ready = threading.Event()
        # Sends nothing after its SUBSCRIBE: then the end of the connection cannot discard messages not read yet.
        client = paho.Client(CallbackAPIVersion.VERSION2, clean_session=True, reconnect_on_failure=False)
        client.on_connect = lambda c, *_: c.subscribe("defectd/+/+/event", qos=0)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self._note
        client.connect("127.0.0.1", self._port, keepalive=3600)
        client.loop_start()
        assert ready.wait(10), "the subscriber does not reach the broker"
        self._client = client

    def drain(self) -> None:
        """Read the messages that the broker sent before it was killed."""
        client, self._client = self._client, None
        if client is not None:
            end = time.monotonic() + 10
            while client.is_connected() and time.monotonic() < end:
                time.sleep(0.01)
            client.loop_stop()

    def close(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _note(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        event = json.loads(message.payload)
        self.seen.append((event["seq"], event["event_id"], event["camera"]))
        if event["type"] == "events.dropped":
            self.dropped.update(range(event["detail"]["first_seq"], event["detail"]["last_seq"] + 1))


class Soak:
    """One run in its own folder."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self._choice = random.Random(plan.seed)
        port = free_port()
        self._brokers = []
        for kind in ("persistent", "forgetful"):
            (folder / kind).mkdir(parents=True)
            self._brokers.append(Mosquitto(folder / kind, port=port, persistent=kind == "persistent"))
        self._broker = self._brokers[0].start()
        self._subscriber = Subscriber(port)
        self._subscriber.attach()
        self._proxy = Proxy(port, rate=20_000)
        self._path = folder / "state" / "outbox.db"
        self._node: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._last_seq = 0

    def run(self) -> Result:
        started = time.monotonic()
        try:
            self._start_node()
            for at_s, fault in self._timeline():
                time.sleep(max(0.0, started + at_s - time.monotonic()))
                fault()
            time.sleep(max(0.0, started + self.plan.seconds - time.monotonic()))
            self._proxy.set("pass")
            self._kill_node()
            undelivered = self._deliver_the_rest()
            return self._count(time.monotonic() - started, undelivered)
        finally:
            self.close()

    def close(self) -> None:
        self._kill_node()
        self._subscriber.close()
        self._proxy.close()
        for broker in self._brokers:
            broker.stop()

    def _timeline(self) -> list:
        plan = self.plan
        faults = [self._kill_and_start] * plan.kills + [self._kill_broker] * plan.broker_kills + [self._cut] * plan.cuts
        spread = [(self._choice.uniform(0.5, plan.seconds - 0.5), n) for n in range(len(faults))]
        return [(at_s, faults[n]) for at_s, n in sorted(spread)]

    def _start_node(self) -> None:
        self._starts += 1
        seed = str(self.plan.seed * 1000 + self._starts)
        command = [sys.executable, str(NODE), str(self._path), str(self._proxy.port), str(self.plan.rate), seed]
        command.append(str(self.plan.max_rows))
        if self.plan.careless:
            command.append("--delete-at-publish")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self._node = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _kill_node(self) -> None:
        if self._node is not None:
            self._node.kill()
            self._node.wait(10)
            self._node = None

    def _kill_and_start(self) -> None:
        self._kill_node()
        self._start_node()

    def _cut(self) -> None:
        self._proxy.set(self._choice.choice(CUTS))
        longest_s = 0.5 * self.plan.seconds / (self.plan.cuts + self.plan.broker_kills)
        time.sleep(self._choice.uniform(0.05, longest_s))
        if self._choice.random() < 0.5:
            self._proxy.set("reset")  # what the black hole swallowed never arrives
        self._proxy.set("pass")

    def _kill_broker(self) -> None:
        """Kill it, or in one of five cases stop it; a broker with or without stored sessions takes its port."""
        if self._choice.random() < 0.8:
            self._broker.kill()
        else:
            self._broker.stop()
        self._proxy.set("refuse")
        self._subscriber.drain()
        time.sleep(self._choice.uniform(0.0, 1.0))
        self._broker = self._choice.choice(self._brokers).start()
        self._subscriber.attach()
        self._proxy.set("pass")

    def _deliver_the_rest(self) -> int:
        clock = SystemClock()
        settings = Mqtt(broker=f"mqtt://127.0.0.1:{self._proxy.port}", protocol="5")
        outbox = Outbox(
            self._path, max_rows=self.plan.max_rows, keep_delivered=self.plan.max_rows, durability="full", clock=clock
        )
        topics = Topics("defectd", "line3")
        publisher = Publisher(opener(settings, "line3"), outbox, topics, clock, settings, version="soak")
        publisher.start()
        end = time.monotonic() + 60
        while outbox.depth() and time.monotonic() < end:
            time.sleep(0.05)
        publisher.stop(5)
        time.sleep(0.5)  # for messages on their way to the subscriber
        left, self._last_seq = outbox.depth(), outbox.last_seq
        outbox.close()
        return left

    def _count(self, seconds: float, undelivered: int) -> Result:
        stored = {event.seq: event.event_id for event in read_events(self._path, 0, 10**7)}
        ids: dict[int, str] = {}
        last: dict[str, int] = {}
        duplicates = out_of_order = other_ids = 0
        for seq, event_id, camera in self._subscriber.seen:
            if seq in ids:
                duplicates += 1
                other_ids += ids[seq] != event_id
                continue
            ids[seq] = event_id
            out_of_order += seq < last.get(camera, 0)
            last[camera] = max(seq, last.get(camera, 0))
        keeps_all = self.plan.max_rows >= 10**6
        wrong = sum(1 for seq, event_id in ids.items() if (keeps_all or seq in stored) and stored.get(seq) != event_id)
        missing = set(range(1, self._last_seq + 1)) - ids.keys() - stored.keys()
        return Result(
            self.plan.seed,
            round(seconds, 1),
            self._starts - 1,
            self.plan.broker_kills,
            self.plan.cuts,
            stored=len(stored),
            arrived=len(ids),
            lost=len(stored.keys() - ids.keys()),
            reported=len(missing & self._subscriber.dropped),
            duplicates=duplicates,
            out_of_order=out_of_order,
            other_ids=other_ids + wrong,
            holes=len(missing - self._subscriber.dropped),
            undelivered=undelivered,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the plan of an earlier run")
    parser.add_argument("--careless", action="store_true", help="negative control: delete at publish")
    parser.add_argument("--max-rows", type=int, default=10**6, help="rows that the outbox holds")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    plan = Plan.of(arguments.minutes, seed, careless=arguments.careless, max_rows=arguments.max_rows)
    sys.stdout.write(f"{plan}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        result = Soak(Path(folder), plan).run()
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    is_ok = bool(result.lost) if arguments.careless else result.is_clean
    sys.stdout.write(f"{'OK' if is_ok else 'FAIL'}\n")
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
