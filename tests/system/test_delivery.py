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


class Scene:
    """The brokers, nodes and subscribers of one test; `close` ends them in reverse order."""

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
    """Kill -9 the process.  Returns the lines that it had printed."""
    child.kill()
    assert child.stdout is not None
    lines = [] if child.stdout.closed else child.stdout.read().splitlines()
    child.stdout.close()
    child.wait(10)
    return lines


@pytest.fixture
def scene(tmp_path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.close()


def store(outbox: Outbox, publisher: Publisher | None, count: int, first: int = 1) -> None:
    for n in range(first, first + count):
        outbox.append([draft(n)])
        if publisher is not None:
            publisher.wake()


@pytest.mark.parametrize("kind", ["mosquitto 5", "mosquitto 3.1.1", "embedded"])
def test_events_arrive_in_order_without_a_gap(scene, kind):
    """Every event reaches a subscriber once and in order, on every broker and MQTT version."""
    if kind == "embedded":
        pytest.importorskip("amqtt", reason="the extra demo is not installed")
        broker = EmbeddedBroker(free_port())
        broker.start()
        scene._ends.append(broker.stop)
        url = broker.url.replace("mqtt://127.0.0.1", "embedded")
    else:
        url = scene.broker().url
    subscriber = scene.subscriber(url)
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, url, protocol="3.1.1" if "3.1.1" in kind else "auto")
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


def test_broker_of_mqtt_311_behind_a_plain_address_is_detected(scene):
    """The publisher reaches a broker that does not even answer version 5 with 3.1.1."""
    pytest.importorskip("amqtt", reason="the extra demo is not installed")
    broker = EmbeddedBroker(free_port())
    broker.start()
    scene._ends.append(broker.stop)
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, broker.url)
    store(outbox, publisher, 3)
    until(lambda: outbox.depth() == 0, 20)
    assert publisher.snapshot().protocol == "3.1.1"


def test_killed_broker_loses_no_event(scene):
    """Events stored while the broker is dead arrive in order and marked replayed once it is back."""
    broker = scene.broker()
    proxy = scene.proxy(broker)
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, proxy.url)
    store(outbox, publisher, 20)
    until(lambda: outbox.depth() == 0)
    broker.kill()
    until(lambda: not publisher.snapshot().connected)
    proxy.set("refuse")  # until the subscriber is back, which has no session to catch up with
    store(outbox, publisher, 50, first=21)
    assert outbox.depth() == 50
    broker.start()
    subscriber = scene.subscriber(broker.url)
    proxy.set("pass")
    until(lambda: len(subscriber.events) >= 50, 20)
    assert subscriber.first_seqs == list(range(21, 71))
    assert all(e["replayed"] for e in subscriber.events)
    until(lambda: outbox.depth() == 0)
    assert {e.state for e in read_events(scene.outbox_path, 0, 1000)} == {"delivered"}


def sweep(scene: Scene, seed: int, kills: int, trouble) -> tuple[list[str], Subscriber, Path]:
    """Kill a publishing process again and again while `trouble` happens.  Returns what it had committed."""
    choice = random.Random(seed)
    path = scene.folder / "state" / "outbox.db"
    committed: list[str] = []
    for _ in range(kills):
        child = scene.process(NODE_SCRIPT, path, trouble.port, 0.002)
        assert child.stdout is not None
        committed.append(child.stdout.readline().strip())
        end = time.monotonic() + choice.uniform(0.2, 1.0)
        while time.monotonic() < end:
            trouble.happen(choice)
            threading.Event().wait(choice.uniform(0.01, 0.2))
        committed += finish(child)
    return [line for line in committed if " " in line], trouble.subscriber, path


class Cuts:
    """A network that is cut, silent, refusing or slow at random."""

    def __init__(self, scene: Scene) -> None:
        self.broker = scene.broker()
        self.proxy = scene.proxy(self.broker)
        self.port = self.proxy.port
        self.subscriber = scene.subscriber(self.broker.url)

    def happen(self, choice: random.Random) -> None:
        self.proxy.set(choice.choice(["pass", "pass", "pass", "reset", "refuse", "blackhole", "slow"]))


class BrokerDeaths:
    """A broker that dies and comes back with the state that it had saved."""

    def __init__(self, scene: Scene) -> None:
        self.broker = scene.broker()
        self.port = self.broker.port
        self.subscriber = scene.subscriber(self.broker.url)
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
def test_no_committed_event_is_lost_by_kills_and_cuts(scene, seed):
    """Every committed event arrives, first arrivals in order, in spite of kill -9 at random times on a bad network."""
    cuts = Cuts(scene)
    committed, subscriber, _ = sweep(scene, seed, 4, cuts)
    cuts.proxy.set("pass")
    outbox = scene.outbox(durability="full")
    publisher = scene.publisher(outbox, cuts.proxy.url)
    until(lambda: outbox.depth() == 0, 30)
    assert publisher.stop(5)
    until(lambda: len(subscriber.first_seqs) == outbox.last_seq, 20)
    seen = {f"{e['seq']} {e['event_id']}" for e in subscriber.events}
    assert len(seen) == outbox.last_seq
    assert set(committed) <= seen
    assert subscriber.first_seqs == list(range(1, outbox.last_seq + 1))
    assert len(committed) > 100


@pytest.mark.parametrize("mode", ["confirmed", "early"])
def test_event_is_delivered_when_confirmed_and_not_when_sent(scene, mode):
    """The network swallows events before kill -9; only a node that marks events when it sends them loses some."""
    broker = scene.broker()
    proxy = scene.proxy(broker)
    subscriber = scene.subscriber(broker.url)
    path = scene.folder / "state" / "outbox.db"
    child = scene.process(NODE_SCRIPT, path, proxy.port, 0.005, mode)
    until(lambda: len(subscriber.first_seqs) > 5, 20)
    proxy.set("blackhole")
    assert child.stdout is not None
    silent_from = max(subscriber.first_seqs)
    while int(child.stdout.readline().split()[0]) < silent_from + 60:
        pass
    finish(child)
    proxy.set("reset")
    proxy.set("pass")
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, proxy.url)
    until(lambda: outbox.depth() == 0, 20)
    assert publisher.stop(5)
    until(lambda: outbox.last_seq in subscriber.first_seqs)
    lost = set(range(1, outbox.last_seq + 1)) - set(subscriber.first_seqs)
    assert bool(lost) == (mode == "early")


def test_no_committed_event_is_lost_by_kills_and_dying_brokers(scene):
    """Broker and node are killed at random, and the broker confirms every committed event in the end."""
    deaths = BrokerDeaths(scene)
    committed, _, path = sweep(scene, 3, 4, deaths)
    deaths.heal()
    outbox = scene.outbox(durability="full")
    publisher = scene.publisher(outbox, deaths.broker.url)
    until(lambda: outbox.depth() == 0, 30)
    assert publisher.stop(5)
    assert {int(line.split()[0]) for line in committed} <= set(range(1, outbox.last_seq + 1))
    assert all(e.state == "delivered" for e in read_events(path, 0, 10**6))


def test_denied_topic_becomes_dead_letters_and_others_arrive(scene, caplog):
    """An access list forbids one camera: its events become dead letters, the others arrive."""
    broker_folder = scene.folder / "with-acl"
    broker_folder.mkdir()
    (broker_folder / "acl").write_text(
        "topic write defectd/line3/top/#\ntopic write defectd/line3/node/#\ntopic write defectd/line3/status\n"
        "topic read #\n"
    )
    need_mosquitto()
    broker = Mosquitto(broker_folder, f"acl_file {broker_folder}/acl")
    scene._ends.append(broker.stop)
    broker.start()
    subscriber = scene.subscriber(broker.url)
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, broker.url)
    outbox.append([draft(1), draft(2, "defectd/line3/side/event"), draft(3)])
    publisher.wake()
    until(lambda: outbox.depth() == 0)
    assert [e.state for e in read_events(scene.outbox_path, 0, 10)] == ["delivered", "refused", "delivered"]
    until(lambda: subscriber.first_seqs == [1, 3])
    assert "dead letters" in caplog.text
    assert publisher.snapshot().refused == 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_oversized_event_does_not_stop_the_others(scene, protocol):
    """A broker with version 5 announces max_packet_size, one with 3.1.1 hangs up; both cost only that event."""
    broker = scene.broker("max_packet_size 10000")
    subscriber = scene.subscriber(broker.url)
    outbox = scene.outbox()
    big = draft(2)
    big.payload["text"] = "x" * 20_000
    outbox.append([draft(1), big, draft(3)])
    publisher = scene.publisher(outbox, broker.url, Retries(poison_strikes=3), protocol=protocol)
    until(lambda: outbox.depth() == 0, 60)
    assert [e.state for e in read_events(scene.outbox_path, 0, 10)] == ["delivered", "refused", "delivered"]
    until(lambda: subscriber.first_seqs == [1, 3])
    if protocol == "5":
        assert publisher.snapshot().connections == 1


def test_half_open_connection_is_closed(scene):
    """The keepalive detects a network that swallows everything; every event arrives afterwards."""
    broker = scene.broker()
    proxy = scene.proxy(broker)
    subscriber = scene.subscriber(broker.url)
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, proxy.url, keepalive_s=2)
    store(outbox, publisher, 5)
    until(lambda: outbox.depth() == 0)
    proxy.set("blackhole")
    store(outbox, publisher, 30, first=6)
    until(lambda: not publisher.snapshot().connected, 15)
    proxy.set("reset")
    proxy.set("pass")
    until(lambda: outbox.depth() == 0, 20)
    until(lambda: subscriber.first_seqs == list(range(1, 36)))


def test_connection_to_a_broker_that_confirms_nothing_is_closed(scene):
    """A stopped broker process keeps its sockets; three keepalives without an answer end the connection."""
    broker = scene.broker()
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, broker.url, keepalive_s=2)
    until(lambda: publisher.snapshot().connected)
    broker.freeze()
    store(outbox, publisher, 3)
    until(lambda: not publisher.snapshot().connected, 15)
    broker.thaw()
    until(lambda: outbox.depth() == 0, 20)


def test_wrong_password_is_reported_once(scene, caplog):
    """Many attempts log one line that names user and password; the right password then works without a restart."""
    folder = scene.folder / "with-password"
    folder.mkdir()
    need_mosquitto()
    (folder / "passwd").touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(folder / "passwd"), "defectd", "right"], check=True)
    broker = Mosquitto(folder, f"password_file {folder}/passwd", anonymous=False)
    scene._ends.append(broker.stop)
    broker.start()
    secret = scene.folder / "secret"
    secret.write_text("wrong\n")
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, broker.url, username="defectd", password_file=secret)
    store(outbox, publisher, 3)
    until(lambda: broker.log.read_text().count("not authorised") >= 3 or "refuses the connection" in caplog.text)
    until(lambda: publisher.snapshot().last_error)
    assert "mqtt.username and the password" in publisher.snapshot().last_error
    secret.write_text("right\n")
    until(lambda: outbox.depth() == 0, 20)
    assert caplog.text.count("refuses the connection") == 1
    assert "wrong" not in caplog.text


def test_will_reports_offline_after_a_kill(scene):
    """After kill -9 of the node the broker publishes the retained status offline."""
    broker = scene.broker()
    subscriber = scene.subscriber(broker.url)
    child = scene.process(NODE_SCRIPT, scene.folder / "state" / "outbox.db", broker.port, 0.05)
    until(lambda: any(s["online"] for s in subscriber.statuses()), 20)
    finish(child)
    until(lambda: subscriber.statuses()[-1]["online"] is False)
    assert subscriber.statuses()[-1]["reason"] == "lost"
    late = scene.subscriber(broker.url)
    until(lambda: [m.retained for m in late.messages if m.topic == TOPICS.status] == [True])
    assert late.statuses()[0]["online"] is False


def test_tls_checks_the_broker_and_carries_events(scene, caplog):
    """The node accepts its own CA; another CA, another name and an expired certificate each get a message."""
    need_mosquitto()
    folder = scene.folder / "tls"
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
    scene._ends.append(broker.stop)
    broker.start()
    url = f"mqtts://localhost:{broker.port}"
    outbox = scene.outbox()
    publisher = scene.publisher(outbox, url, ca_file=folder / "ca.crt")
    store(outbox, publisher, 20)
    until(lambda: outbox.depth() == 0)
    assert publisher.stop(5)
    cases = [
        (url, folder / "other.crt", "unknown authority"),
        (f"mqtts://127.0.0.2:{broker.port}", folder / "ca.crt", None),
        (f"mqtts://localhost:{expired}", folder / "ca.crt", "has expired"),
    ]
    for address, authority, words in cases:
        failing = scene.publisher(outbox, address, ca_file=authority)
        until(lambda publisher=failing: publisher.snapshot().last_error)
        if words is not None:
            assert words in failing.snapshot().last_error
        failing.stop(1)
    plain = scene.publisher(outbox, f"mqtt://127.0.0.1:{broker.port}")
    until(lambda: plain.snapshot().last_error)
    assert "expect TLS" in plain.snapshot().last_error
    assert caplog.records


@pytest.mark.bench
def test_drain_rate_and_insert_time(scene):
    """It logs the rate for 10,000 stored events on loopback, and the time of one insert."""
    broker = scene.broker()
    outbox = scene.outbox(durability="full")
    took_ms = []
    for n in range(500):
        start = CLOCK.monotonic_ns()
        outbox.append([draft(n)])
        took_ms.append((CLOCK.monotonic_ns() - start) / 1e6)
    took_ms.sort()
    for n in range(500, 10_000, 100):
        outbox.append([draft(n + k) for k in range(100)])
    start = CLOCK.monotonic_ns()
    scene.publisher(outbox, broker.url)
    until(lambda: outbox.depth() == 0, 60)
    seconds = (CLOCK.monotonic_ns() - start) / NS_PER_S
    logging.getLogger("bench").warning(
        "drained %.0f/s (n=10000), insert p50 %.2f ms, p99 %.2f ms (n=500)",
        10_000 / seconds,
        took_ms[250],
        took_ms[494],
    )
