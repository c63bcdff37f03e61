"""MQTT 5 properties of what a real daemon publishes over a real broker."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml
from mosquitto import Mosquitto
from node import Node, until
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

pytestmark = pytest.mark.system

CAMERAS = [
    {"name": name, "source": "strip:?width=640&height=256", "fps": 20, "budget_ms": 2000} for name in ("top", "side")
]
REPLIES = "defectd/line3/replies/me"
JSON = ("application/json", 1)
NONE = (None, None)


class Consumer:
    """A client of MQTT 5 that notes the content type and the payload format of each message."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, bytes, tuple[str | None, int | None]]] = []
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("defectd/#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _client, _userdata, message: self._incoming.put(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(10)

    def command(self, verb: str, **fields: Any) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = REPLIES
        properties.CorrelationData = verb.encode()
        self._client.publish(f"defectd/line3/cmd/{verb}", json.dumps(fields), qos=1, properties=properties)

    def of(self, topic: str) -> list[tuple[bytes, tuple[str | None, int | None]]]:
        """Payload, content type and payload format indicator of each message of a topic."""
        while not self._incoming.empty():
            message = self._incoming.get()
            properties = message.properties
            found = (getattr(properties, "ContentType", None), getattr(properties, "PayloadFormatIndicator", None))
            self.messages.append((message.topic, message.payload, found))
        return [(payload, found) for name, payload, found in self.messages if name == topic]

    def kinds(self) -> dict[str, set[tuple[str | None, int | None]]]:
        """The properties by the last level of the topic; those of commands are the sender's."""
        kinds: dict[str, set[tuple[str | None, int | None]]] = {}
        for topic, payload, found in self.messages:
            if topic.split("/")[2] != "cmd" or topic.endswith("/reply"):
                kinds.setdefault(topic.split("/")[-1] if payload else "empty", set()).add(found)
        return kinds

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None


@pytest.fixture
def consumer(broker: Mosquitto) -> Iterator[Consumer]:
    consumer = Consumer(broker.port)
    yield consumer
    consumer.close()


@pytest.mark.parametrize(("protocol", "expected", "answered"), [("5", JSON, "me"), ("3.1.1", NONE, "reply")])
def test_messages_are_declared_as_json(tmp_path, broker, consumer, protocol, expected, answered):
    """With MQTT 5 each payload is declared as JSON text, that of the will too; empty ones and 3.1.1 have no type."""
    mqtt = {"broker": broker.url, "protocol": protocol}
    commands = {"allow": ["ping", "pause", "reload"], "rate_per_s": 50}
    with Node(tmp_path / "node", broker.port, CAMERAS, mqtt=mqtt, commands=commands) as node:
        node.start()
        until(lambda: any(b'"running"' in payload for payload, _ in consumer.of("defectd/line3/side/state")), 30)
        consumer.command("ping")
        consumer.command("pause", camera="top")
        until(lambda: consumer.of("defectd/line3/top/event"), 10, "an event of the camera")
        content = yaml.safe_load(node.config.read_text())
        content["cameras"] = content["cameras"][:1]
        node.config.write_text(yaml.safe_dump(content))
        consumer.command("reload")
        until(lambda: consumer.of("defectd/line3/side/state")[-1][0] == b"", 10, "the state of the removed camera")
        until(lambda: consumer.of("defectd/line3/top/coverage"), 10, "coverage")
        node.kill()
        until(lambda: b'"lost"' in consumer.of("defectd/line3/status")[-1][0], 10, "the will")
    assert consumer.kinds() == {
        **{level: {expected} for level in ("status", "state", "event", "coverage", answered)},
        "empty": {NONE},
    }
