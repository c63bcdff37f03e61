"""Delivery against a real broker, real cuts and real kills."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.delivery import ORIGIN, draft, event, every_event
from fakes.waiting import until
from mosquitto import Mosquitto, certificates, free_port, need_mosquitto
from proxy import Proxy

from edge.config import Mqtt
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.embedded_broker import EmbeddedBroker
from edge.delivery.mqtt.listener import listen
from edge.delivery.mqtt.notices import Received
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.retries import DEFAULT_RETRIES, Retries
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.store import Outbox
from edge.delivery.recorder import Recorder
from edge.host.clock import NS_PER_S, SystemClock

pytestmark = pytest.mark.system

TOPICS = Topics("defectd", "line3")
CLOCK = SystemClock()
NODE_SCRIPT = Path(__file__).with_name("delivering_node.py")


class Subscriber:
    """Listens to everything in a thread, as `defectd tail` does."""

    def __init__(self, settings: Mqtt) -> None:
        self._settings = settings
        self._over = threading.Event()
        self._ready = threading.Event()
        self.messages: list[Received] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        def report(sentence: str) -> None:
            if sentence.startswith("connected"):
                self._ready.set()

        for message in listen(self._settings, ["defectd/#"], stopped=self._over, on_state=report):
            self.messages.append(message)

    def wait_until_ready(self) -> Subscriber:
        assert self._ready.wait(15)
        return self

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def events(self) -> list[dict]:
        return [json.loads(m.payload) for m in list(self.messages) if m.topic.endswith("/event")]

    @property
    def first_seqs(self) -> list[int]:
        """seq of first arrivals, in order of arrival."""
        return list(dict.fromkeys(e["seq"] for e in self.events))

    def statuses(self) -> list[dict]:
        return [json.loads(m.payload) for m in list(self.messages) if m.topic == TOPICS.status]


class Stage:
    """What a test starts, ended in reverse order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox_path = folder / "state" / "outbox.db"
        self._ends: list = []

    def broker(self, *lines: str, **options) -> Mosquitto:
        need_mosquitto()
        folder = self.folder / f"broker{len(self._ends)}"
        folder.mkdir()
        broker = Mosquitto(folder, *lines, **options)
        self._ends.append(broker.stop)
        return broker.start()

    def proxy(self, broker: Mosquitto) -> Proxy:
        proxy = Proxy(broker.port)
        self._ends.append(proxy.close)
        return proxy

    def outbox(self, **changes) -> Outbox:
        options = {"max_rows": 10**6, "keep_delivered": 10**6, "durability": "normal", **changes}
        outbox = Outbox(self.outbox_path, clock=CLOCK, **options)
        self._ends.append(outbox.close)
        return outbox

    def publisher(self, outbox: Outbox, url: str, retries: Retries = DEFAULT_RETRIES, **settings) -> Publisher:
        config = Mqtt(broker=url, **settings)
        publisher = Publisher(opener(config, "line3"), outbox, TOPICS, CLOCK, config, version="test", retries=retries)
        self._ends.append(lambda: publisher.stop(1.0))
        publisher.start()
        return publisher

    def subscriber(self, url: str, **settings) -> Subscriber:
        subscriber = Subscriber(Mqtt(broker=url, **settings))
        self._ends.append(subscriber.close)
        return subscriber.wait_until_ready()

    def process(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self._ends.append(lambda: finish(child))
        return child

    def close(self) -> None:
        for end in reversed(self._ends):
            end()


def finish(child: subprocess.Popen[str]) -> list[str]:
    """Kill -9; what it had printed."""
    child.kill()
    assert child.stdout is not None
    lines = [] if child.stdout.closed else child.stdout.read().splitlines()
    child.stdout.close()
    child.wait(10)
    return lines


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def store(outbox: Outbox, publisher: Publisher | None, count: int, first: int = 1) -> None:
    for n in range(first, first + count):
        outbox.append([draft(n)])
        if publisher is not None:
            publisher.wake()


@pytest.mark.parametrize("kind", ["mosquitto 5", "mosquitto 3.1.1", "embedded"])
def test_events_arrive_in_order_without_a_gap(stage, kind):
    """The way from Recorder.put to a subscriber, on every broker and version: one suite for all."""
    if kind == "embedded":
        pytest.importorskip("amqtt", reason="the extra demo is not installed")
        broker = EmbeddedBroker(free_port())
        broker.start()
        stage._ends.append(broker.stop)
        url = broker.url.replace("mqtt://127.0.0.1", "embedded")
    else:
        url = stage.broker().url
    subscriber = stage.subscriber(url)
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, url, protocol="3.1.1" if "3.1.1" in kind else "auto")
    recorder = Recorder(outbox, ORIGIN, TOPICS, CLOCK, on_stored=publisher.wake)
    recorder.start()
    events = [*every_event(), *(event() for _ in range(200))]
    for one in events:
        recorder.put(one)
    assert recorder.stop(10)
    assert publisher.stop(10)
    until(lambda: len(subscriber.events) >= len(events))
    assert [e["event_id"] for e in subscriber.events] == [e.event_id for e in events]
    assert [e["seq"] for e in subscriber.events] == list(range(1, len(events) + 1))
    until(lambda: subscriber.statuses()[-1]["online"] is False)
    assert subscriber.statuses()[0]["online"] is True
    assert publisher.snapshot().connections == 1


def test_broker_of_311_behind_a_plain_address_is_found_out(stage):
    """A broker that does not even answer version 5 is reached with 3.1.1."""
    pytest.importorskip("amqtt", reason="the extra demo is not installed")
    broker = EmbeddedBroker(free_port())
    broker.start()
    stage._ends.append(broker.stop)
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, broker.url)
    store(outbox, publisher, 3)
    until(lambda: outbox.depth() == 0, 20)
    assert publisher.snapshot().protocol == "3.1.1"


def test_killed_broker_costs_nothing_but_time(stage):
    """Events stored while the broker is dead arrive when it is back, in order, marked replayed."""
    broker = stage.broker()
    proxy = stage.proxy(broker)
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, proxy.url)
    store(outbox, publisher, 20)
    until(lambda: outbox.depth() == 0)
    broker.kill()
    until(lambda: not publisher.snapshot().connected)
    proxy.set("refuse")  # until the subscriber is back, which has no session to catch up with
    store(outbox, publisher, 50, first=21)
    assert outbox.depth() == 50
    broker.start()
    subscriber = stage.subscriber(broker.url)
    proxy.set("pass")
    until(lambda: len(subscriber.events) >= 50, 20)
    assert subscriber.first_seqs == list(range(21, 71))
    assert all(e["replayed"] for e in subscriber.events)
    until(lambda: outbox.depth() == 0)
    assert {e.state for e in read_events(stage.outbox_path, 0, 1000)} == {"delivered"}


def sweep(stage: Stage, seed: int, kills: int, trouble) -> tuple[list[str], Subscriber, Path]:
    """Kill a publishing process again and again while `trouble` happens; what it had committed."""
    choice = random.Random(seed)
    path = stage.folder / "state" / "outbox.db"
    committed: list[str] = []
    for _ in range(kills):
        child = stage.process(NODE_SCRIPT, path, trouble.port, 0.002)
        assert child.stdout is not None
        committed.append(child.stdout.readline().strip())
        end = time.monotonic() + choice.uniform(0.2, 1.0)
        while time.monotonic() < end:
            trouble.happen(choice)
            threading.Event().wait(choice.uniform(0.01, 0.2))
        committed += finish(child)
    return [line for line in committed if " " in line], trouble.subscriber, path


class Cuts:
    """The network of the proof: cut, silent, refusing, healed."""

    def __init__(self, stage: Stage) -> None:
        self.broker = stage.broker()
        self.proxy = stage.proxy(self.broker)
        self.port = self.proxy.port
        self.subscriber = stage.subscriber(self.broker.url)

    def happen(self, choice: random.Random) -> None:
        self.proxy.set(choice.choice(["pass", "pass", "pass", "reset", "refuse", "blackhole", "slow"]))


class BrokerDeaths:
    """A broker that dies and comes back with what it had saved; the subscriber sits behind another one's session."""

    def __init__(self, stage: Stage) -> None:
        self.broker = stage.broker()
        self.port = self.broker.port
        self.subscriber = stage.subscriber(self.broker.url)
        self._is_up = True

    def happen(self, choice: random.Random) -> None:
        if self._is_up and choice.random() < 0.3:
            self.broker.kill()
            self._is_up = False
        elif not self._is_up and choice.random() < 0.6:
            self.broker.start()
            self._is_up = True

    def heal(self) -> None:
        if not self._is_up:
            self.broker.start()


@pytest.mark.parametrize("seed", [1, 2])
def test_no_committed_event_is_lost_by_kills_and_cuts(stage, seed):
    """kill -9 at random instants on a bad network: every committed event arrives, first arrivals in order."""
    cuts = Cuts(stage)
    committed, subscriber, _ = sweep(stage, seed, 4, cuts)
    cuts.proxy.set("pass")
    outbox = stage.outbox(durability="full")
    publisher = stage.publisher(outbox, cuts.proxy.url)
    until(lambda: outbox.depth() == 0, 30)
    assert publisher.stop(5)
    until(lambda: len(subscriber.first_seqs) == outbox.last_seq, 20)
    seen = {f"{e['seq']} {e['event_id']}" for e in subscriber.events}
    assert len(seen) == outbox.last_seq
    assert set(committed) <= seen
    assert subscriber.first_seqs == list(range(1, outbox.last_seq + 1))
    assert len(committed) > 100


@pytest.mark.parametrize("mode", ["confirmed", "early"])
def test_event_is_done_when_confirmed_and_not_when_sent(stage, mode):
    """Swallowed by the network, then kill -9: nothing is lost; a node that trusts its own sending loses events."""
    broker = stage.broker()
    proxy = stage.proxy(broker)
    subscriber = stage.subscriber(broker.url)
    path = stage.folder / "state" / "outbox.db"
    child = stage.process(NODE_SCRIPT, path, proxy.port, 0.005, mode)
    until(lambda: len(subscriber.first_seqs) > 5, 20)
    proxy.set("blackhole")
    assert child.stdout is not None
    silent_from = max(subscriber.first_seqs)
    while int(child.stdout.readline().split()[0]) < silent_from + 60:
        pass
    finish(child)
    proxy.set("reset")
    proxy.set("pass")
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, proxy.url)
    until(lambda: outbox.depth() == 0, 20)
    assert publisher.stop(5)
    until(lambda: outbox.last_seq in subscriber.first_seqs)
    lost = set(range(1, outbox.last_seq + 1)) - set(subscriber.first_seqs)
    assert bool(lost) == (mode == "early")


def test_no_committed_event_is_lost_by_kills_and_dying_brokers(stage):
    """With broker and node both killed at random: each committed event ends confirmed by the broker."""
    deaths = BrokerDeaths(stage)
    committed, _, path = sweep(stage, 3, 4, deaths)
    deaths.heal()
    outbox = stage.outbox(durability="full")
    publisher = stage.publisher(outbox, deaths.broker.url)
    until(lambda: outbox.depth() == 0, 30)
    assert publisher.stop(5)
    assert {int(line.split()[0]) for line in committed} <= set(range(1, outbox.last_seq + 1))
    assert all(e.state == "delivered" for e in read_events(path, 0, 10**6))


def test_denied_topic_becomes_dead_letters_and_others_arrive(stage, caplog):
    """An access list that forbids one camera: its events are kept aside, the rest flows."""
    broker_folder = stage.folder / "with-acl"
    broker_folder.mkdir()
    (broker_folder / "acl").write_text(
        "topic write defectd/line3/top/#\ntopic write defectd/line3/node/#\ntopic write defectd/line3/status\n"
        "topic read #\n"
    )
    need_mosquitto()
    broker = Mosquitto(broker_folder, f"acl_file {broker_folder}/acl")
    stage._ends.append(broker.stop)
    broker.start()
    subscriber = stage.subscriber(broker.url)
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, broker.url)
    outbox.append([draft(1), draft(2, "defectd/line3/side/event"), draft(3)])
    publisher.wake()
    until(lambda: outbox.depth() == 0)
    assert [e.state for e in read_events(stage.outbox_path, 0, 10)] == ["delivered", "refused", "delivered"]
    until(lambda: subscriber.first_seqs == [1, 3])
    assert "dead letters" in caplog.text
    assert publisher.snapshot().refused == 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_oversized_event_does_not_stop_the_others(stage, protocol):
    """max_packet_size: announced with 5, found out by the broker hanging up with 3.1.1."""
    broker = stage.broker("max_packet_size 10000")
    subscriber = stage.subscriber(broker.url)
    outbox = stage.outbox()
    big = draft(2)
    big.payload["text"] = "x" * 20_000
    outbox.append([draft(1), big, draft(3)])
    publisher = stage.publisher(outbox, broker.url, Retries(poison_strikes=3), protocol=protocol)
    until(lambda: outbox.depth() == 0, 60)
    assert [e.state for e in read_events(stage.outbox_path, 0, 10)] == ["delivered", "refused", "delivered"]
    until(lambda: subscriber.first_seqs == [1, 3])
    if protocol == "5":
        assert publisher.snapshot().connections == 1


def test_half_open_link_is_given_up(stage):
    """A network that swallows everything: noticed by the keepalive, everything arrives afterwards."""
    broker = stage.broker()
    proxy = stage.proxy(broker)
    subscriber = stage.subscriber(broker.url)
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, proxy.url, keepalive_s=2)
    store(outbox, publisher, 5)
    until(lambda: outbox.depth() == 0)
    proxy.set("blackhole")
    store(outbox, publisher, 30, first=6)
    until(lambda: not publisher.snapshot().connected, 15)
    proxy.set("reset")
    proxy.set("pass")
    until(lambda: outbox.depth() == 0, 20)
    until(lambda: subscriber.first_seqs == list(range(1, 36)))


def test_broker_that_is_alive_but_confirms_nothing_is_left(stage):
    """A stopped broker process keeps its sockets: three keepalives without an answer end the connection."""
    broker = stage.broker()
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, broker.url, keepalive_s=2)
    until(lambda: publisher.snapshot().connected)
    broker.freeze()
    store(outbox, publisher, 3)
    until(lambda: not publisher.snapshot().connected, 15)
    broker.thaw()
    until(lambda: outbox.depth() == 0, 20)


def test_wrong_password_is_one_clear_message(stage, caplog):
    """One line that names user and password, however often it is tried; the right one then works without a restart."""
    folder = stage.folder / "with-password"
    folder.mkdir()
    need_mosquitto()
    (folder / "passwd").touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(folder / "passwd"), "defectd", "right"], check=True)
    broker = Mosquitto(folder, f"password_file {folder}/passwd", anonymous=False)
    stage._ends.append(broker.stop)
    broker.start()
    secret = stage.folder / "secret"
    secret.write_text("wrong\n")
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, broker.url, username="defectd", password_file=secret)
    store(outbox, publisher, 3)
    until(lambda: broker.log.read_text().count("not authorised") >= 3 or "refuses the connection" in caplog.text)
    until(lambda: publisher.snapshot().last_error)
    assert "mqtt.username and the password" in publisher.snapshot().last_error
    secret.write_text("right\n")
    until(lambda: outbox.depth() == 0, 20)
    assert caplog.text.count("refuses the connection") == 1
    assert "wrong" not in caplog.text


def test_will_says_offline_after_a_kill(stage):
    """kill -9 of the node: the broker itself publishes offline, retained."""
    broker = stage.broker()
    subscriber = stage.subscriber(broker.url)
    child = stage.process(NODE_SCRIPT, stage.folder / "state" / "outbox.db", broker.port, 0.05)
    until(lambda: any(s["online"] for s in subscriber.statuses()), 20)
    finish(child)
    until(lambda: subscriber.statuses()[-1]["online"] is False)
    assert subscriber.statuses()[-1]["reason"] == "lost"
    late = stage.subscriber(broker.url)
    until(lambda: [m.retained for m in late.messages if m.topic == TOPICS.status] == [True])
    assert late.statuses()[0]["online"] is False


def test_tls_checks_the_broker_and_carries_events(stage, caplog):
    """The own CA is trusted; another one, another name and an expired certificate each get their sentence."""
    need_mosquitto()
    folder = stage.folder / "tls"
    folder.mkdir()
    certificates(folder)
    expired = free_port()
    tls = [f"cafile {folder}/ca.crt", f"keyfile {folder}/server.key", "tls_version tlsv1.2"]
    broker = Mosquitto(
        folder,
        *tls,
        f"certfile {folder}/server.crt",
        f"listener {expired} 127.0.0.1",
        *tls,
        f"certfile {folder}/expired.crt",
    )
    stage._ends.append(broker.stop)
    broker.start()
    url = f"mqtts://localhost:{broker.port}"
    outbox = stage.outbox()
    publisher = stage.publisher(outbox, url, ca_file=folder / "ca.crt")
    store(outbox, publisher, 20)
    until(lambda: outbox.depth() == 0)
    assert publisher.stop(5)
    cases = [
        (url, folder / "other.crt", "unknown authority"),
        (f"mqtts://127.0.0.2:{broker.port}", folder / "ca.crt", None),
        (f"mqtts://localhost:{expired}", folder / "ca.crt", "has expired"),
    ]
    for address, authority, words in cases:
        failing = stage.publisher(outbox, address, ca_file=authority)
        until(lambda publisher=failing: publisher.snapshot().last_error)
        if words is not None:
            assert words in failing.snapshot().last_error
        failing.stop(1)
    plain = stage.publisher(outbox, f"mqtt://127.0.0.1:{broker.port}")
    until(lambda: plain.snapshot().last_error)
    assert "expect TLS" in plain.snapshot().last_error
    assert caplog.records


@pytest.mark.bench
def test_drain_rate_and_insert_time(stage):
    """Measures: 10,000 stored events drained on loopback, and the time of one insert."""
    broker = stage.broker()
    outbox = stage.outbox(durability="full")
    took_ms = []
    for n in range(500):
        start = CLOCK.monotonic_ns()
        outbox.append([draft(n)])
        took_ms.append((CLOCK.monotonic_ns() - start) / 1e6)
    took_ms.sort()
    for n in range(500, 10_000, 100):
        outbox.append([draft(n + k) for k in range(100)])
    start = CLOCK.monotonic_ns()
    stage.publisher(outbox, broker.url)
    until(lambda: outbox.depth() == 0, 60)
    seconds = (CLOCK.monotonic_ns() - start) / NS_PER_S
    logging.getLogger("bench").warning(
        "drained %.0f/s (n=10000), insert p50 %.2f ms, p99 %.2f ms (n=500)",
        10_000 / seconds,
        took_ms[250],
        took_ms[494],
    )
