"""The Node-RED flow of the documentation, in a real Node-RED, with a real broker and a real node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fakes.ports import free_port
from fakes.waiting import until
from mosquitto import Mosquitto
from node import Node, Subscriber, running, subscriber
from paho.mqtt.enums import CallbackAPIVersion

from edge.event import EVENT_TYPES

pytestmark = pytest.mark.system

FLOW = Path(__file__).parents[2] / "docs" / "node-red-flow.json"
CLIENT_ID = "node-red-defectd"
CAMERA = {"name": "top", "source": "strip:?width=640&height=256&speed_px=48", "fps": 20, "budget_ms": 2000}
SETTINGS = """module.exports = {{
    uiHost: "127.0.0.1", httpAdminRoot: false, httpNodeRoot: false, flowFile: "flows.json", mqttReconnectTime: 2000,
    credentialSecret: false, telemetry: {{enabled: false}}, fileWorkingDirectory: {folder},
    contextStorage: {{default: {{module: "localfilesystem"}}}},
}};
"""
LOGIN = {"DEFECTD_LOGIN_NAME": "history", "DEFECTD_LOGIN_PASSWORD": "a long password"}


def flow() -> list[dict[str, Any]]:
    return json.loads(FLOW.read_text("utf-8"))


class NodeRed:
    """Node-RED with the shipped flow; only the broker, the address of the page and the interval of questions differ."""

    def __init__(self, folder: Path, broker: Mosquitto, page: str) -> None:
        program = shutil.which("node-red")
        if program is None:
            pytest.skip("node-red is not installed (npm install node-red, and its folder .bin in PATH)")
        folder.mkdir()
        nodes = flow()
        for node in nodes:
            if node["type"] == "mqtt-broker":
                node["port"] = str(broker.port)
            if node["type"] == "inject":
                node["repeat"] = "5"
            for variable in node.get("env", ()):
                if variable["name"] == "PAGES":
                    variable["value"] = json.dumps({"line3": page})
        (folder / "flows.json").write_text(json.dumps(nodes))
        (folder / "settings.js").write_text(SETTINGS.format(folder=json.dumps(str(folder))))
        self._command = [program, "--userDir", str(folder), "--port", str(free_port())]
        self._folder, self._broker = folder, broker

    @contextmanager
    def runs(self) -> Iterator[None]:
        """From its connection to the broker to its end."""
        before = self.connections()
        with (self._folder / "log.txt").open("ab") as log:
            env = {**os.environ, **LOGIN, "NODE_RED_HOME": str(self._folder)}
            process = subprocess.Popen(self._command, stdout=log, stderr=log, env=env)
        try:
            until(lambda: self.connections() > before, 40, "Node-RED connects to the broker")
            yield
        finally:
            process.terminate()
            process.wait(15)

    def connections(self) -> int:
        return self._broker.log.read_text().count(f"as {CLIENT_ID} (")

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self._folder / name
        text = path.read_text("utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def record(self) -> list[dict[str, Any]]:
        return self.lines("defectd-events.jsonl")

    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.record()]

    def is_whole(self) -> bool:
        seqs = sorted(self.seqs())
        return seqs == [*range(seqs[0], seqs[-1] + 1)]

    def alarms(self) -> list[str]:
        return [line["alarm"] for line in self.lines("defectd-alarms.jsonl")]


def more_events(client: Subscriber, count: int) -> int:
    """Wait for so many events.  Returns the newest `seq`."""
    start = len(client.events())
    return until(lambda: len(found := client.events()) >= start + count and found[-1]["seq"], 30, "events")


def lose_messages(broker: Mosquitto, client: Subscriber) -> None:
    """Take the client id of Node-RED and discard its session, so that it misses what is published meanwhile."""
    thief = paho.Client(CallbackAPIVersion.VERSION2, client_id=CLIENT_ID, clean_session=True)
    thief.connect("127.0.0.1", broker.port)
    thief.loop_start()
    until(thief.is_connected, 10)
    more_events(client, 1)
    thief.disconnect()
    thief.loop_stop()


def add_user(node: Node) -> None:
    """The node's page then answers only who logs in."""
    (node.folder / "password").write_text(LOGIN["DEFECTD_LOGIN_PASSWORD"])
    user = ["user", "add", LOGIN["DEFECTD_LOGIN_NAME"], "--role", "viewer"]
    command = [sys.executable, "-m", "edge.cli", "web", *user, "--password-file", str(node.folder / "password")]
    subprocess.run([*command, "-c", str(node.config)], check=True, capture_output=True)


def page_process(node: Node) -> int | None:
    with suppress(StopIteration):
        return node.page_process()
    return None


def at_ordinary_priority(page: int) -> None:
    """Let the page check a password while other programs keep the processor busy: by itself it waits for idle time."""
    for task in Path(f"/proc/{page}/task").iterdir():
        os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, int(task.name), 0)


@pytest.mark.soak
@pytest.mark.parametrize("has_users", [False, True])
def test_the_flow_has_every_event_once_though_the_broker_lost_some(broker, tmp_path, has_users):
    """Its record equals what was published: the page of the node fills the hole, and a restart misses nothing.

    With users it logs in first. That is run by hand, as root: see `at_ordinary_priority`.
    """
    port = free_port()
    red = NodeRed(tmp_path / "red", broker, f"http://127.0.0.1:{port}")
    state = {"state_dir": str(tmp_path / "state"), "web": {"listen": f"127.0.0.1:{port}"}}
    with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, [CAMERA], **state) as node:
        if has_users:
            add_user(node)
        with red.runs():
            node.start()
            running(client, "top")
            until(red.record, 30, "events in the record")
            if has_users:
                at_ordinary_priority(until(lambda: page_process(node), 30, "the page"))
            lose_messages(broker, client)
            newest = more_events(client, 2)
            until(lambda: newest in red.seqs() and red.is_whole(), 90, "the hole is filled")
            assert red.seqs() != sorted(red.seqs()), "the broker lost nothing"
        more_events(client, 1)
        with red.runs():
            node.stop()
            until(lambda: "node offline" in red.alarms(), 20, "the alarm")
            newest = client.events()[-1]["seq"]
            until(lambda: newest in red.seqs(), 20, "the last event")
    published = {event["seq"]: event for event in client.events()}
    assert {event["seq"]: event | {"replayed": None} for event in red.record()} == {
        seq: event | {"replayed": None} for seq, event in published.items()
    }
    assert len(red.record()) == len(published)
    assert [alarm for alarm in red.alarms() if alarm != "events missing"] == ["node online", "node offline"]


def test_the_flow_raises_each_event_of_the_severity_alarm():
    """The list in its function is that of the event types; defects are raised by their own severity."""
    (serious,) = (node for node in flow() if node.get("name") == "serious events")
    listed = json.loads(serious["func"].split("const ALARMS = ")[1].split(";")[0])
    assert {*listed, "defect.opened"} == {name for name, severity in EVENT_TYPES.items() if severity == "alarm"}
