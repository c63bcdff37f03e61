"""`defectd check --probe` against a real broker."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from mosquitto import Mosquitto, certificates, need_mosquitto

from edge.cli import main
from edge.config import Mqtt
from edge.delivery.mqtt.listener import listen

pytestmark = pytest.mark.system

Probe = Callable[..., tuple[int, dict[str, Any]]]
ACL = "user line3\ntopic write defectd/n1/#\nuser plant\ntopic read #\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """It knows two users; line3 may write the topics of the node n1."""
    need_mosquitto()
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_text(ACL)
    for user in ("line3", "plant"):
        words = ["mosquitto_passwd", *([] if user != "line3" else ["-c"]), "-b", str(folder / "passwd"), user, "right"]
        subprocess.run(words, check=True, capture_output=True)
    started = Mosquitto(folder, f"acl_file {folder}/acl", f"password_file {folder}/passwd", anonymous=False).start()
    yield started
    started.stop()


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """Check a configuration with these broker settings: exit code, and the finding about the broker."""

    def run(node: str = "n1", **mqtt: Any) -> tuple[int, dict[str, Any]]:
        path = tmp_path / "c.yaml"
        cameras = [{"name": "top", "source": "strip:"}]
        content = {"node": node, "state_dir": str(tmp_path / "var"), "mqtt": mqtt, "cameras": cameras}
        path.write_text(yaml.safe_dump(content))
        done = CliRunner().invoke(main, ["check", "-c", str(path), "--probe", "--json"], catch_exceptions=False)
        finding: dict[str, Any] = json.loads(done.stdout)["broker_probe"]
        return done.exit_code, finding

    return run


@pytest.mark.parametrize(
    ("node", "password", "code", "words"),
    [
        ("n1", "right", 0, "it takes what this node publishes"),
        ("n1", "wrong", 1, "refuses the connection"),
        ("n2", "right", 1, "refuses defectd/n2/doctor"),
    ],
)
def test_credentials_and_access_list_are_tried(
    broker: Mosquitto, probe: Probe, node: str, password: str, code: int, words: str
) -> None:
    """A wrong password fails, and so does an access list that refuses the topics of the node."""
    found_code, finding = probe(node, broker=broker.url, username="line3", password=password)
    assert (found_code, words in finding["says"]) == (code, True), finding
    assert "right" not in str(finding)


def test_tls_on_a_plain_port_and_an_unknown_host_fail(broker: Mosquitto, probe: Probe, tmp_path: Path) -> None:
    """The two mistakes in an address that no reading of the file can find."""
    tls = certificates(tmp_path)
    code, finding = probe(broker=f"mqtts://127.0.0.1:{broker.port}", ca_file=str(tls / "ca.crt"))
    assert (code, finding["grade"]) == (1, "fail")
    code, finding = probe(broker="mqtts://broker.invalid:8883")
    assert (code, "cannot be resolved" in finding["says"]) == (1, True)


def test_subscribers_of_states_and_events_see_nothing_of_a_probe(broker: Mosquitto, probe: Probe) -> None:
    """Its message is on a topic of its own, empty and not retained; a message that follows it is the first."""
    settings = Mqtt(broker=broker.url, username="plant", password="right")
    documented = [f"defectd/n1/{rest}" for rest in ("status", "+/event", "+/state", "+/coverage")]
    connected, over = threading.Event(), threading.Event()
    received: list[str] = []

    def subscriber() -> None:
        filters = [*documented, "defectd/n1/last"]
        for message in listen(settings, filters, stopped=over, on_connected=connected.set):
            received.append(message.topic)
            if message.topic == "defectd/n1/last":
                return

    thread = threading.Thread(target=subscriber)
    thread.start()
    try:
        assert connected.wait(10)
        assert probe(broker=broker.url, username="line3", password="right")[0] == 0
        words = ["-h", "127.0.0.1", "-p", str(broker.port), "-u", "line3", "-P", "right"]
        subprocess.run(["mosquitto_pub", *words, "-t", "defectd/n1/last", "-m", "x"], check=True)
        thread.join(10)
    finally:
        over.set()
        thread.join(5)
    assert received == ["defectd/n1/last"]
