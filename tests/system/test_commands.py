"""Commands to a real daemon over a real broker."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as paho
import pytest
from mosquitto import Mosquitto
from node import Node, running, subscriber, until
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.control.requests import VERBS

pytestmark = pytest.mark.system

ALL = ["ping", "state", "snapshot", "pause", "resume", "set", "reload", "dead-letters", "evidence"]
CAMERA = {"name": "top", "source": "strip:?width=640&height=256", "fps": 20, "budget_ms": 2000}


class Operator:
    """A client of MQTT 5 that sends a command and waits for the reply."""

    def __init__(self, port: int) -> None:
        self.replies: queue.SimpleQueue[tuple[str, Any, bytes | None]] = queue.SimpleQueue()
        self.messages: list[tuple[str, Any]] = []
        ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe("defectd/#", qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = self._receive
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(10)
        self._count = 0

    def _receive(self, _client: Any, _userdata: Any, message: Any) -> None:
        if "/cmd/" in message.topic and not message.topic.endswith("/reply"):
            return
        fact = json.loads(message.payload)
        if fact.get("schema") == "defectd.reply/1":
            self.replies.put((message.topic, fact, getattr(message.properties, "CorrelationData", None)))
        else:
            self.messages.append((message.topic, fact))

    def ask(self, verb: str, reply_to: str = "defectd/line3/replies/operator", **fields: Any) -> dict[str, Any]:
        """Send a command.  Returns its own reply, which comes on the node's topic if the node refuses `reply_to`."""
        self._count += 1
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = reply_to
        properties.CorrelationData = str(self._count).encode()
        self.client.publish(f"defectd/line3/cmd/{verb}", json.dumps(fields), qos=1, properties=properties)
        while True:
            topic, reply, correlation = self.replies.get(timeout=15)
            if correlation == properties.CorrelationData:
                refused = reply.get("error", {}).get("code") == "reply_topic"
                assert topic == (f"defectd/line3/cmd/{verb}/reply" if refused else reply_to)
                return reply

    def latest(self, topic: str) -> Any:
        return next((fact for name, fact in reversed(list(self.messages)) if name == topic), None)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [fact for name, fact in list(self.messages) if name.endswith("/event") and fact["type"] == kind]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def operator(broker: Mosquitto) -> Iterator[Operator]:
    operator = Operator(broker.port)
    yield operator
    operator.close()


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def test_operator_reads_state_pauses_cameras_and_sets_thresholds(tmp_path, broker, operator):
    """ping, state, snapshot, pause, resume and set work on a running node; the set values survive a restart."""
    with Node(tmp_path / "node", broker.port, [CAMERA], commands={"allow": ALL, "rate_per_s": 50}) as node:
        node.start()
        running(operator, "top")
        assert operator.ask("ping")["result"]["up_s"] > 0
        shown = operator.ask("snapshot", camera="top", longest_px=320)["result"]
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(shown["base64"]), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert (shown["size_px"], picture.shape) == ([640, 256], (128, 320))
        assert operator.ask("snapshot", camera="side")["error"]["code"] == "unknown_camera"

        assert operator.ask("pause", camera="top")["result"]["state"] == "paused"
        coverage = "defectd/line3/top/coverage"
        until(lambda: (operator.latest(coverage) or {}).get("paused_frames"), 10, "frames in the pause")
        assert operator.ask("snapshot", camera="top")["ok"], "a paused camera still delivers snapshots"
        assert operator.ask("resume", camera="top")["result"]["state"] == "running"
        until(lambda: [e for e in operator.events("coverage.gap") if e["detail"]["cause"] == "paused"], 10, "the gap")

        before = operator.ask("state")["result"]
        done = operator.ask("set", camera="top", confidence=0.91, classes={"scratches": 0.95})["result"]
        assert (done["thresholds"]["confidence"], done["config_sha256_before"]) == (0.91, before["config_sha256"])
        after = operator.ask("state")["result"]
        assert after["config_sha256"] == done["config_sha256"] != before["config_sha256"]
        assert after["cameras"]["top"]["thresholds"]["classes"] == {"scratches": 0.95}
        changed = until(lambda: operator.events("thresholds.changed"), 10, "the event")
        assert changed[0]["config_sha256"] == done["config_sha256"]
        for wrong in ({"confidence": 0.1}, {"classes": {"rust": 0.9}}, {"confidence": "high"}):
            assert operator.ask("set", camera="top", **wrong)["error"]["code"] == "bad_value"
        assert operator.ask("reload")["result"]["thresholds"] == []
        assert operator.ask("dead-letters")["result"]["letters"] == []
        assert node.stop() == 0

        node.start()
        until(lambda: "thresholds set by a command hold" in node.log(), 20, "the kept thresholds")
        until(lambda: operator.latest("defectd/line3/status")["online"], 20, "the second start")
        again = operator.ask("state")["result"]
        assert again["config_sha256"] == done["config_sha256"]
        assert operator.ask("set", camera="top", confidence=None, classes=None)["result"]["set"] == {}
        assert operator.ask("state")["result"]["config_sha256"] == before["config_sha256"]
        assert node.stop() == 0


def test_operator_fetches_the_picture_of_an_event(tmp_path, broker, operator):
    """Path and hash in the event match the picture on disk, also after kill -9; a deleted one is reported as gone."""
    with Node(tmp_path / "node", broker.port, [CAMERA], commands={"allow": ALL, "rate_per_s": 50}) as node:
        node.start()
        opened = until(lambda: operator.events("defect.opened"), 30, "a defect")[0]
        kept = opened["evidence"]
        fetched = operator.ask("evidence", path=kept["path"])["result"]
        picture = base64.b64decode(fetched["base64"])
        assert hashlib.sha256(picture).hexdigest() == fetched["sha256"] == kept["sha256"]
        assert fetched["facts"]["event_id"] == opened["event_id"]
        x, y, w, h = fetched["facts"]["crop_px"]
        assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (h, w)
        left, top, width, height = opened["defect"]["box_px"]
        assert x <= left
        assert y <= top
        assert x + w >= left + width
        assert y + h >= top + height
        track = opened["defect"]["track_id"]
        closed = until(
            lambda: [e for e in operator.events("defect.closed") if e["defect"]["track_id"] == track], 30, "the closing"
        )
        final = operator.ask("evidence", path=closed[0]["evidence"]["path"])["result"]
        assert (final["sha256"], final["facts"]["track_id"]) == (closed[0]["evidence"]["sha256"], track)
        assert len(final["facts"]["box_in_picture"]) == 4
        node.kill()
        node.start()
        until(lambda: "pictures, " in node.log().rpartition("inspects")[0], 20, "the index of the folder")
        until(lambda: operator.latest("defectd/line3/status")["online"], 20, "the second start")
        again = operator.ask("evidence", path=kept["path"])["result"]
        assert (again["sha256"], again["reduced"]) == (kept["sha256"], False)
        newest = operator.ask("evidence", kind="defect", limit=5)["result"]["pictures"]
        assert [entry["path"] for entry in newest] == sorted((entry["path"] for entry in newest), reverse=True)
        assert operator.ask("evidence", path="../../etc/passwd")["error"]["code"] == "bad_value"
        gone = f"defect/0000000000-top-{'0' * 16}.jpg"
        assert operator.ask("evidence", path=gone)["error"]["code"] == "gone"
        assert node.stop() == 0


def test_wildcards_of_the_manual_bring_what_the_manual_says(tmp_path, broker, operator):
    """Filters of status, events and coverage bring no command or reply; that of states brings the command `state`."""
    filters = ("defectd/+/status", "defectd/+/+/event", "defectd/+/+/coverage", "defectd/+/+/state")
    with (
        subscriber(broker.port, topics=filters) as consumer,
        Node(tmp_path / "node", broker.port, [CAMERA], commands={"allow": ALL, "rate_per_s": 50}) as node,
    ):
        node.start()
        running(operator, "top")
        assert operator.ask("pause", camera="top")["ok"]  # an event of the camera
        for verb in VERBS:
            operator.ask(verb)
        for level in ("event", "coverage", "state"):
            assert operator.ask("ping", reply_to=f"defectd/line3/replies/{level}")["error"]["code"] == "reply_topic"
        assert node.stop() == 0
        until(lambda: not consumer.latest("defectd/line3/status")["online"], 10, "the last status")
        messages = [(topic, message) for _, topic, message in consumer.all()]
    own = {topic: message.get("schema") for topic, message in messages if topic.split("/")[2] != "cmd"}
    assert own == {
        "defectd/line3/status": None,
        "defectd/line3/node/event": "defectd.event/1",
        "defectd/line3/top/event": "defectd.event/1",
        "defectd/line3/top/coverage": "defectd.coverage/1",
        "defectd/line3/top/state": "defectd.state/1",
    }
    assert [(topic, message) for topic, message in messages if topic not in own] == [("defectd/line3/cmd/state", {})]


def test_flood_and_huge_commands_cost_neither_memory_nor_latency(tmp_path, broker, operator):
    """The node refuses and counts 1,000 commands a second and ten of 10 MB; memory stays bounded, no frame is late."""
    with Node(tmp_path / "node", broker.port, [CAMERA]) as node:
        node.start()
        running(operator, "top")
        time.sleep(1.0)
        assert operator.ask("ping")["ok"]
        before_mib = rss_mib(node.pid)
        flooder = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        flooder.connect("127.0.0.1", broker.port)
        flooder.loop_start()
        try:
            start = time.monotonic()
            for n in range(3000):
                flooder.publish("defectd/line3/cmd/ping", b"{}", qos=0)
                time.sleep(max(0.0, start + n / 1000 - time.monotonic()))
            for _ in range(10):
                flooder.publish("defectd/line3/cmd/set", b"x" * 10_000_000, qos=1).wait_for_publish(20)
        finally:
            flooder.disconnect()
            flooder.loop_stop()
        replies = list(iter_replies(operator))
        rejected = [r for r in replies if not r["ok"] and r["error"]["code"] == "rate"]
        assert 2 <= len(rejected) <= 8
        assert len(replies) < 60
        time.sleep(2.2)
        state = operator.ask("state")
        assert state["result"]["commands"]["flooded"] > 2500
        grown_mib = rss_mib(node.pid) - before_mib
        logging.getLogger("bench").warning("flood: %d replies, memory %+.1f MiB", len(replies), grown_mib)
        assert grown_mib < 60
        frames = operator.latest("defectd/line3/top/coverage")["since_start"]["frames"]
        assert frames["late"] == 0
        assert node.stop() == 0


def iter_replies(operator: Operator) -> Iterator[dict[str, Any]]:
    """The replies until none has come for half a second."""
    while True:
        try:
            yield operator.replies.get(timeout=0.5)[1]
        except queue.Empty:
            return
