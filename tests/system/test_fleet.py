"""`defectd fleet` against a real mosquitto: what two nodes have left there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import yaml
from click.testing import CliRunner
from fakes.ports import free_port
from mosquitto import Mosquitto, need_mosquitto
from paho.mqtt.enums import CallbackAPIVersion

from edge.cli import main

pytestmark = pytest.mark.system

RETAINED = {
    "line3/status": {"online": True, "version": "0.9.0", "cameras": ["top"]},
    "line3/top/state": {"state": "running", "strip": {"coil": "A4711"}},
    "line4/status": {"online": False, "reason": "lost"},
}


def retain(port: int) -> None:
    """Publish what the nodes retain, and wait until the broker has it."""
    sent, connected = threading.Semaphore(0), threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = lambda *_: sent.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(10)
    for topic, value in RETAINED.items():
        client.publish(f"plant/{topic}", json.dumps(value), qos=1, retain=True)
    assert all(sent.acquire(timeout=10) for _ in RETAINED)
    client.disconnect()
    client.loop_stop()


def asked(folder: Path, port: int, *options: str) -> tuple[int, str]:
    config = folder / "config.yaml"
    settings = {"broker": f"mqtt://127.0.0.1:{port}", "topic_prefix": "plant"}
    camera = {"name": "top", "source": "strip:"}
    config.write_text(yaml.safe_dump({"node": "desk", "mqtt": settings, "cameras": [camera]}))
    result = CliRunner().invoke(main, ["fleet", "-c", str(config), *options])
    return result.exit_code, result.stdout


def test_nodes_of_a_broker_are_shown_the_worst_first(tmp_path: Path) -> None:
    """As a table for people with an exit code, and as JSON."""
    need_mosquitto()
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Mosquitto(folder).start()
    try:
        retain(broker.port)
        code, text = asked(tmp_path, broker.port, "--json", "--wait", "0.5s")
        found = [(one["node"], one["verdict"], one["coil"]) for one in json.loads(text)["nodes"]]
        assert (code, found) == (0, [("line4", "offline", None), ("line3", "inspecting", "A4711")])
        code, text = asked(tmp_path, broker.port, "--wait", "0.5s")
        assert code == 1
        assert ["OFFLINE" in line for line in text.splitlines()] == [False, True, False]
        assert "the broker lost the connection" in text
    finally:
        broker.stop()


def test_broker_that_cannot_be_reached_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known then, which is not the same as no node."""
    monkeypatch.setattr("edge.cli.fleet.CONNECT_S", 0.3)
    assert asked(tmp_path, free_port(), "--json") == (1, "")
