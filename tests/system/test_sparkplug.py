"""The Sparkplug output of a real daemon, through a real Mosquitto, to a scripted host and another decoder."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fakes.sparkplug_host import HostMessage, StrictHost
from mosquitto import Mosquitto
from node import Node, until
from paho.mqtt.enums import CallbackAPIVersion

from edge.delivery.outbox.reader import read_events
from edge.delivery.sparkplug.payload import DataType, Metric, Payload, decode, encode

pytestmark = pytest.mark.system
ORACLE = Path(__file__).with_name("sparkplug_oracle.js")
PACKAGE = "sparkplug-payload@1.0.3"
KEEPALIVE_S = 5
LIFE: list[tuple[str, bytes]] = []
"""Topic and payload of all messages of the node in the first test, for the second."""


def need_oracle() -> Path:
    """The folder of the npm package, installed once per machine; a skip without node, but a failure in CI."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "defectd-tests" / PACKAGE
    why = None
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        why = "node and npm are not installed"
    elif not (folder / "node_modules" / "sparkplug-payload" / "index.js").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        why = f"npm cannot install {PACKAGE}: {done.stderr[-300:]}" if done.returncode else None
    if why is not None and os.environ.get("CI"):
        pytest.fail(why)
    if why is not None:
        pytest.skip(why)
    return folder


class Host:
    """A host application that keeps all messages and acts as the test directs."""

    def __init__(self, port: int, host_id: str = "scada1") -> None:
        self.topic = f"spBv1.0/STATE/{host_id}"
        self.strict = StrictHost("plant", "line3")
        self.raw: list[tuple[str, bytes]] = []
        self.states_ms = int(time.time() * 1000)
        self.deaf = False
        """Until the next NBIRTH: a host that comes late understands nothing before it."""
        self._messages: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=host_id, protocol=paho.MQTTv5)
        self._client.will_set(self.topic, self._state(online=False), qos=1, retain=True)
        self._client.on_connect = lambda client, *_: client.subscribe("spBv1.0/plant/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_disconnect = lambda *_: self._ready.clear()
        self._client.on_message = lambda _c, _u, message: self._messages.put(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port, keepalive=10)
        self._client.loop_start()
        self.await_connection()

    def await_connection(self) -> None:
        assert self._ready.wait(15), "the host does not reach the broker"

    def _state(self, *, online: bool) -> bytes:
        return json.dumps({"online": online, "timestamp": self.states_ms}).encode()

    def publish_state(self, *, online: bool) -> None:
        self.states_ms += 1
        self._client.publish(self.topic, self._state(online=online), qos=1, retain=True).wait_for_publish(5)

    def command(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=0)

    def ask_rebirth(self) -> None:
        metric = Metric("Node Control/Rebirth", DataType.BOOLEAN, value=True)
        self.command("spBv1.0/plant/NCMD/line3", encode(Payload(self.states_ms, (metric,))))

    def received(self) -> list[HostMessage]:
        while not self._messages.empty():
            message = self._messages.get()
            if "CMD/" in message.topic:
                continue
            self.deaf = self.deaf and "/NBIRTH/" not in message.topic
            if self.deaf:
                continue
            if message.retain:
                self.strict.faults.append(f"{message.topic} is retained")
            is_will = "/NDEATH/" in message.topic and message.qos == 1
            if message.qos != 0 and not is_will:
                self.strict.faults.append(f"{message.topic} with QoS {message.qos}")
            self.raw.append((message.topic, message.payload))
            self.strict.receive(message.topic, message.payload)
        return self.strict.messages

    def wait_for(self, verb: str, after: int, what: str, device: str | None = None) -> int:
        """Wait for such a message.  Returns the number of the first from `after` on."""

        def found() -> int:
            for number, message in enumerate(self.received()):
                if number >= after and (message.verb, message.device) == (verb, device):
                    return number + 1
            return 0

        return int(until(found, 15, what)) - 1

    def insist_on_birth(self, after: int) -> None:
        """Request a rebirth once a second, like hosts that receive data without a birth."""
        asked_s = 0.0

        def is_born() -> bool:
            nonlocal asked_s
            if time.monotonic() - asked_s > 1.0:
                asked_s = time.monotonic()
                self.ask_rebirth()
            return ("DBIRTH", "top") in [(message.verb, message.device) for message in self.received()[after:]]

        until(is_born, 15, "a birth that was asked for")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def scene(tmp_path: Path, broker: Mosquitto) -> Any:
    """A broker, a host that is online, and a node that is not started yet."""
    host = Host(broker.port)
    camera = {"name": "top", "source": "strip:?seed=1", "fps": 40, "budget_ms": 500}
    section = {"enabled": True, "group_id": "plant", "primary_host": "scada1", "resend_s": 2.0}
    mqtt = {"broker": broker.url, "keepalive_s": KEEPALIVE_S}
    node = Node(tmp_path / "node", broker.port, [camera], sparkplug=section, mqtt=mqtt)
    with node:
        yield broker, host, node
    host.close()


def events_received(host: Host) -> set[int]:
    host.received()
    return {seq for seq, _ in host.strict.events()}


def events_stored(node: Node) -> dict[int, bytes]:
    return {row.seq: row.payload for row in read_events(node.folder / "var" / "outbox.db", 0, 100_000)}


def test_a_host_loses_nothing_over_the_life_of_a_node(scene: Any) -> None:  # noqa: PLR0915 (the life of a node has many steps)
    """It receives every event over birth, rebirth, host offline, camera loss, daemon kill, broker kill and stop."""
    # tck-id-message-flow-edge-node-birth-publish-phid-wait, tck-id-topics-nbirth-bdseq-increment,
    # tck-id-operational-behavior-data-commands-rebirth-action-3, tck-id-operational-behavior-device-ddeath,
    # tck-id-operational-behavior-edge-node-termination-host-offline, tck-id-payloads-ndeath-will-message,
    # tck-id-payloads-ndeath-will-message-qos, tck-id-payloads-ndeath-will-message-retain,
    # tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt50, tck-id-topics-nbirth-mqtt,
    # tck-id-topics-ddata-mqtt
    broker, host, node = scene
    strict = host.strict

    # no birth without the host; then births, data and events
    node.start()
    until(lambda: "waiting for the host" in node.log(), 15, "the node to wait for the host")
    assert host.received() == []
    host.publish_state(online=True)
    host.wait_for("DBIRTH", 0, "the device's birth", "top")
    until(lambda: max(events_received(host), default=0) >= 2, 15, "the first events")
    host.wait_for("DDATA", 0, "device data", "top")
    assert strict.bd_seq == 0
    assert strict.value("Model/Name")
    until(lambda: host.received() and strict.value("Frames/OK", "top"), 10, "coverage")

    # an invalid command has no effect, a rebirth has
    host.command("spBv1.0/plant/NCMD/line3", b"\xff garbage")
    host.command("spBv1.0/plant/DCMD/line3/top", b"\x00" * 1000)
    time_of_birth = len(host.received())
    host.ask_rebirth()
    host.wait_for("DBIRTH", time_of_birth, "the device's second birth", "top")
    assert strict.bd_seq == 0

    # the host goes and comes back
    mark = len(host.received())
    host.publish_state(online=False)
    host.wait_for("NDEATH", mark, "the death of the node without its host")
    stored = max(events_stored(node))
    until(lambda: max(events_stored(node)) >= stored + 2, 15, "events while the host is away")
    mark = len(host.received())
    host.publish_state(online=True)
    host.wait_for("DBIRTH", mark, "the birth for the returned host", "top")
    assert strict.bd_seq == 1
    until(lambda: stored + 2 in events_received(host), 10, "the events of the outage")
    assert dict(strict.events())[stored + 2], "as history"

    # a camera goes and comes back
    mark = len(host.received())
    until(node.children, 5, "the camera process")
    for pid in node.children():
        os.kill(pid, signal.SIGKILL)
    death = host.wait_for("DDEATH", mark, "the death of the device", "top")
    host.wait_for("DBIRTH", death, "the device's return", "top")

    # the daemon is killed: the broker publishes its will; the next daemon publishes a birth with the next number
    mark = len(host.received())
    node.kill()
    host.wait_for("NDEATH", mark, "the will of the killed node")
    assert strict.alive == set()
    node.start()
    host.wait_for("DBIRTH", mark, "the birth after the kill", "top")
    assert strict.bd_seq == 2

    # the broker is killed; the host, which may come back after the node, asks for a birth as hosts do
    broker.kill()
    until(lambda: "Sparkplug: " in node.log().split("waiting for the host")[-1], 10, "the node to notice")
    host.received()
    host.deaf = True
    broker.start()
    host.await_connection()
    mark = len(host.received())
    host.publish_state(online=True)
    host.insist_on_birth(mark)
    until(lambda: events_received(host) >= set(events_stored(node)), 15, "all events")

    # the end: the remaining events, then NDEATH, and with MQTT 5 the will as well
    mark = len(host.received())
    assert node.stop() == 0
    host.wait_for("NDEATH", mark, "the farewell")
    until(lambda: [h.verb for h in host.received()].count("NDEATH") and strict.alive == set(), 5, "the node's death")
    stored_events = events_stored(node)
    assert events_received(host) == set(stored_events), node.log()
    assert not strict.faults, (strict.faults, node.log())
    for message in strict.messages:
        if message.verb == "NDATA" and "Event/JSON" in message.names():
            stored = json.loads(str(message["Event/JSON"].value))
            assert stored == json.loads(stored_events[stored["seq"]])
    LIFE.extend(host.raw)


def test_another_decoder_reads_the_same_values_from_every_message() -> None:
    """It encodes the same bytes again (tck-id-message-flow-edge-node-birth-publish-nbirth-payload)."""
    if not LIFE:
        pytest.skip("needs the messages of the test before")
    folder = need_oracle()
    lines = "".join(json.dumps({"topic": topic, "hex": payload.hex()}) + "\n" for topic, payload in LIFE)
    done = subprocess.run(
        ["node", str(ORACLE), str(folder)], input=lines, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(LIFE) > 20
    known: dict[int, DataType | None] = {}
    for (topic, raw), answer in zip(LIFE, answers, strict=True):
        payload = decode(raw)
        if "BIRTH/" in topic:
            known |= {metric.alias: metric.datatype for metric in payload.metrics if metric.alias is not None}
        assert answer["same"], topic
        assert (answer["seq"], answer["timestamp"]) == (_text(payload.seq), _text(payload.timestamp_ms)), topic
        resolved = [_as_oracle(metric, known) for metric in payload.metrics]
        assert answer["metrics"] == resolved, topic


def _as_oracle(metric: Metric, known: dict[int, DataType | None]) -> dict[str, Any]:
    kind = metric.datatype or known[metric.alias or 0]
    assert kind is not None
    names = {"INT32": "Int32", "INT64": "Int64", "DOUBLE": "Double", "BOOLEAN": "Boolean", "STRING": "String"}
    value = metric.value
    if metric.datatype is None and isinstance(value, int) and not isinstance(value, bool):
        bits = 64 if kind == DataType.INT64 else 32  # the decoder reads a value without a type as unsigned
        value -= (1 << bits) if value >> (bits - 1) else 0
    if kind == DataType.INT64:
        value = _text(value)
    return {
        "name": metric.name,
        "alias": _text(metric.alias),
        "type": names[kind.name],
        "timestamp": _text(metric.timestamp_ms),
        "value": value,
        "isHistorical": metric.is_historical,
        "quality": metric.quality,
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
