"""The soak: kill the node, kill the broker, cut the link, for as long as you like; then count.

    python tests/system/soak_delivery.py --minutes 15 --seed 1        (make soak-delivery)

Nothing is simulated but the cameras: the real recorder, outbox and publisher in a process that is killed with -9 at
random instants, a real mosquitto that is killed and started again with and without its memory, and a network that
passes, refuses, resets, swallows and creeps. A witness subscribes with QoS 0 beside the network: mosquitto writes to
its socket before it confirms a publish, so what was confirmed was seen, whatever is killed afterwards. One thing is
arranged: after a broker's death the node gets through only when the witness is back, for a broker that has lost its
sessions knows no subscriber.

Counted against the store of the node, which keeps every row: events lost, first arrivals out of order per camera,
repetitions with another event_id, holes in seq. The negative control (--careless) must lose some.
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
    """How much of what, spread evenly at random over the time.  rate: events per s, bursts on top."""

    seconds: float
    seed: int
    kills: int
    deaths: int
    cuts: int
    rate: float = 25.0
    careless: bool = False

    @classmethod
    def of(cls, minutes: float, seed: int, *, careless: bool = False) -> Plan:
        """Per 15 minutes 36 kills, 12 deaths of the broker and 216 cuts; for shorter times a little more of each."""
        share = minutes / 15
        return cls(
            minutes * 60,
            seed,
            kills=max(4, round(36 * share)),
            deaths=max(2, round(12 * share)),
            cuts=max(16, round(216 * share)),
            careless=careless,
        )


@dataclass(frozen=True)
class Result:
    """What the soak counted."""

    seed: int
    seconds: float
    kills: int
    broker_deaths: int
    cuts: int
    stored: int
    arrived: int
    lost: int
    duplicates: int
    out_of_order: int
    other_ids: int
    holes: int
    undelivered: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.out_of_order or self.other_ids or self.holes or self.undelivered)


class EvidenceSelector:
    """Sees everything that the broker passes on, in order."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[tuple[int, str, str]] = []
        """seq, event_id, camera."""
        self._client: paho.Client | None = None

    def attach(self) -> None:
        """Subscribe; returns when the broker has said yes."""
        ready = threading.Event()
        # Never sends anything after its SUBSCRIBE: then the end of the connection cannot eat what is still unread.
        client = paho.Client(CallbackAPIVersion.VERSION2, clean_session=True, reconnect_on_failure=False)
        client.on_connect = lambda c, *_: c.subscribe("defectd/+/+/event", qos=0)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self._note
        client.connect("127.0.0.1", self._port, keepalive=3600)
        client.loop_start()
        assert ready.wait(10), "the witness does not get through"
        self._client = client

    def drain(self) -> None:
        """After the broker's end: read what it had still said."""
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
        fact = json.loads(message.payload)
        self.seen.append((fact["seq"], fact["event_id"], fact["camera"]))


class Soak:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self._choice = random.Random(plan.seed)
        port = free_port()
        self._brokers = []
        for kind in ("persistent", "forgetful"):
            (folder / kind).mkdir(parents=True)
            self._brokers.append(Mosquitto(folder / kind, port=port, persistent=kind == "persistent"))
        self._broker = self._brokers[0].start()
        self._witness = EvidenceSelector(port)
        self._witness.attach()
        self._proxy = Proxy(port, rate=20_000)
        self._path = folder / "state" / "outbox.db"
        self._node: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def run(self) -> Result:
        began = time.monotonic()
        try:
            self._start_node()
            for at_s, trouble in self._timeline():
                time.sleep(max(0.0, began + at_s - time.monotonic()))
                trouble()
            time.sleep(max(0.0, began + self.plan.seconds - time.monotonic()))
            self._proxy.set("pass")
            self._kill_node()
            undelivered = self._deliver_the_rest()
            return self._count(time.monotonic() - began, undelivered)
        finally:
            self.close()

    def close(self) -> None:
        self._kill_node()
        self._witness.close()
        self._proxy.close()
        for broker in self._brokers:
            broker.stop()

    def _timeline(self) -> list:
        plan = self.plan
        troubles = [self._kill_and_start] * plan.kills + [self._bury_broker] * plan.deaths + [self._cut] * plan.cuts
        spread = [(self._choice.uniform(0.5, plan.seconds - 0.5), n) for n in range(len(troubles))]
        return [(at_s, troubles[n]) for at_s, n in sorted(spread)]

    def _start_node(self) -> None:
        self._starts += 1
        seed = str(self.plan.seed * 1000 + self._starts)
        command = [sys.executable, str(NODE), str(self._path), str(self._proxy.port), str(self.plan.rate), seed]
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
        longest_s = 0.5 * self.plan.seconds / (self.plan.cuts + self.plan.deaths)
        time.sleep(self._choice.uniform(0.05, longest_s))
        if self._choice.random() < 0.5:
            self._proxy.set("reset")  # what a black hole had swallowed never comes out again
        self._proxy.set("pass")

    def _bury_broker(self) -> None:
        """Kill it, or now and then stop it politely; another one with or without memory takes its port."""
        if self._choice.random() < 0.8:
            self._broker.kill()
        else:
            self._broker.stop()
        self._proxy.set("refuse")
        self._witness.drain()
        time.sleep(self._choice.uniform(0.0, 1.0))
        self._broker = self._choice.choice(self._brokers).start()
        self._witness.attach()
        self._proxy.set("pass")

    def _deliver_the_rest(self) -> int:
        clock = SystemClock()
        settings = Mqtt(broker=f"mqtt://127.0.0.1:{self._proxy.port}", protocol="5")
        outbox = Outbox(self._path, max_rows=10**6, keep_delivered=10**6, durability="full", clock=clock)
        topics = Topics("defectd", "line3")
        publisher = Publisher(opener(settings, "line3"), outbox, topics, clock, settings, version="soak")
        publisher.start()
        end = time.monotonic() + 60
        while outbox.depth() and time.monotonic() < end:
            time.sleep(0.05)
        publisher.stop(5)
        time.sleep(0.5)  # for what is on its way to the witness
        left = outbox.depth()
        outbox.close()
        return left

    def _count(self, seconds: float, undelivered: int) -> Result:
        stored = {event.seq: event.event_id for event in read_events(self._path, 0, 10**7)}
        ids: dict[int, str] = {}
        last: dict[str, int] = {}
        duplicates = out_of_order = other_ids = 0
        for seq, event_id, camera in self._witness.seen:
            if seq in ids:
                duplicates += 1
                other_ids += ids[seq] != event_id
                continue
            ids[seq] = event_id
            out_of_order += seq < last.get(camera, 0)
            last[camera] = max(seq, last.get(camera, 0))
        wrong = sum(1 for seq, event_id in ids.items() if stored.get(seq) != event_id)
        return Result(
            self.plan.seed,
            round(seconds, 1),
            self._starts - 1,
            self.plan.deaths,
            self.plan.cuts,
            stored=len(stored),
            arrived=len(ids),
            lost=len(stored.keys() - ids.keys()),
            duplicates=duplicates,
            out_of_order=out_of_order,
            other_ids=other_ids + wrong,
            holes=(max(stored) - min(stored) + 1 - len(stored)) + (min(stored) - 1) if stored else 0,
            undelivered=undelivered,
        )


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=15.0)
    words.add_argument("--seed", type=int, default=None, help="repeats the plan of an earlier run")
    words.add_argument("--careless", action="store_true", help="negative control: delete at publish")
    given = words.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    plan = Plan.of(given.minutes, seed, careless=given.careless)
    sys.stdout.write(f"{plan}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        result = Soak(Path(folder), plan).run()
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    good = bool(result.lost) if given.careless else result.is_clean
    sys.stdout.write(f"{'as it must be' if good else 'BROKEN'}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
