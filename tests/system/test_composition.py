"""The parts of the composition that run without a container engine: secrets, shipped Mosquitto, health check."""

from __future__ import annotations

import os
import queue
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from mosquitto import Mosquitto, need_mosquitto
from node import Node, until
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from edge import config
from edge.host.clock import SystemClock
from edge.monitoring.doctor import broker as broker_of
from edge.monitoring.doctor import certificates
from edge.monitoring.doctor.finding import Finding

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).parents[2] / "deploy"


def make_secrets(folder: Path, *names: str) -> None:
    environment = {**os.environ, "SECRETS_DIR": str(folder)}
    subprocess.run([DEPLOY / "secrets.sh", *names], check=True, capture_output=True, env=environment)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes, with a second node, which needs an empty file for its password and nothing else."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    folder.mkdir()
    (folder / "mqtt-password-line4").touch()
    make_secrets(folder, "plant.example", "10.0.0.7")
    return folder


def test_secrets_are_made_once_and_kept(secrets: Path) -> None:
    """A second run of the script changes no password and no certificate; other users of the host cannot read them."""
    kept = {path.name: path.read_bytes() for path in secrets.iterdir() if path.name != "passwd"}
    make_secrets(secrets)
    assert {path.name: path.read_bytes() for path in secrets.iterdir() if path.name != "passwd"} == kept
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert stat.S_IMODE((secrets / "ca.key").stat().st_mode) == 0o600
    names = subprocess.run(
        ["openssl", "x509", "-in", secrets / "server.crt", "-noout", "-ext", "subjectAltName"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert all(name in names for name in ("DNS:mosquitto", "DNS:plant.example", "IP Address:10.0.0.7"))


@pytest.fixture
def shipped(tmp_path: Path, secrets: Path) -> Iterator[Mosquitto]:
    """Mosquitto with the configuration that Compose mounts: only its folders and its port differ."""
    need_mosquitto()
    folder = tmp_path / "broker"
    shutil.copytree(secrets, folder / "secrets")
    shutil.copy(DEPLOY / "mosquitto/defectd.acl", folder)
    broker = Mosquitto(folder)
    text = (DEPLOY / "mosquitto/mosquitto.conf").read_text()
    for inside, outside in (
        ("listener 8883", f"listener {broker.port} 127.0.0.1"),
        ("/run/secrets/", f"{folder}/secrets/"),
        ("/mosquitto/config/", f"{folder}/"),
        ("/mosquitto/data/", f"{folder}/data/"),
    ):
        assert inside in text
        text = text.replace(inside, outside)
    broker._config.write_text(text)
    yield broker.start()
    broker.stop()


PASSWORD_FILES = {"line3": "mqtt-password", "line4": "mqtt-password-line4", "scada": "scada-password"}


def examined(
    broker: Mosquitto, secrets: Path, folder: Path, node: str = "line3", scheme: str = "mqtts", user: str = "line3"
) -> Finding:
    """The doctor's finding with the settings of deploy/defectd.yaml."""
    mqtt = config.Mqtt(
        broker=f"{scheme}://127.0.0.1:{broker.port}",
        username=user,
        password_file=secrets / PASSWORD_FILES[user],
        ca_file=secrets / "ca.crt" if scheme == "mqtts" else None,
    )
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return broker_of.finding(config.Config(node=node, state_dir=folder, mqtt=mqtt, cameras=(camera,)), SystemClock())


def test_shipped_mosquitto_accepts_only_the_node(shipped: Mosquitto, secrets: Path, tmp_path: Path) -> None:
    """Its certificate, password and access list fit together; it refuses clear text, other passwords, other nodes."""
    assert examined(shipped, secrets, tmp_path).grade == "ok"
    assert "refuses defectd/line4/doctor" in examined(shipped, secrets, tmp_path, node="line4").says
    assert examined(shipped, secrets, tmp_path, scheme="mqtt").grade == "fail"
    wrong = tmp_path / "wrong"
    shutil.copytree(secrets, wrong)
    (wrong / "mqtt-password").write_text("another\n")
    assert "refuses the connection" in examined(shipped, wrong, tmp_path).says


def test_second_node_needs_only_a_password(shipped: Mosquitto, secrets: Path, tmp_path: Path) -> None:
    """The access list has no line for line4: it publishes as itself, and the broker refuses it as line3."""
    assert examined(shipped, secrets, tmp_path, node="line4", user="line4").grade == "ok"
    assert "refuses defectd/line3/doctor" in examined(shipped, secrets, tmp_path, node="line3", user="line4").says


class Client:
    """A client of the shipped broker that subscribes to everything, and publishes once it is subscribed."""

    def __init__(self, broker: Mosquitto, secrets: Path, user: str) -> None:
        self.received: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.username_pw_set(user, (secrets / PASSWORD_FILES[user]).read_text().strip())
        self._client.tls_set(str(secrets / "ca.crt"))
        self._client.on_connect = lambda client, *_: client.subscribe([("defectd/#", 1), ("spBv1.0/#", 1)])
        self._client.on_subscribe = lambda *_: self._answers.put(0)
        self._client.on_publish = lambda _c, _u, _mid, reason, _p: self._answers.put(reason.value)
        self._client.on_message = lambda _c, _u, message: self.received.put(message.topic)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._answers.get(timeout=10)

    def may_publish(self, topic: str) -> bool:
        """The reason code of the PUBACK: refused is not authorized, anything else is accepted."""
        self._client.publish(topic, b"x", qos=1)
        return self._answers.get(timeout=10) != 0x87

    def topics(self) -> list[str]:
        return [self.received.get_nowait() for _ in range(self.received.qsize())]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_subscribe = None
        self._client.on_publish = self._client.on_message = None


@contextmanager
def clients(broker: Mosquitto, secrets: Path) -> Iterator[dict[str, Client]]:
    made: dict[str, Client] = {}
    try:
        for user in PASSWORD_FILES:
            made[user] = Client(broker, secrets, user)
        yield made
    finally:
        for client in made.values():
            client.close()


OWN_TOPICS = [
    "defectd/{node}/status",
    "defectd/{node}/top/event",
    "defectd/{node}/cmd/ping/reply",
    "spBv1.0/defectd/NBIRTH/{node}",
    "spBv1.0/defectd/DDATA/{node}/top",
]
COMMAND_TOPICS = ["defectd/{node}/cmd/ping", "spBv1.0/defectd/NCMD/{node}", "spBv1.0/defectd/DCMD/{node}/top"]


@pytest.mark.parametrize(("node", "other"), [("line3", "line4"), ("line4", "line3")])
def test_access_list_keeps_nodes_apart(shipped: Mosquitto, secrets: Path, node: str, other: str) -> None:
    """A node publishes its own topics, not those of another node; it receives its own commands and no one else's."""
    with clients(shipped, secrets) as users:
        for topic in OWN_TOPICS:
            assert users[node].may_publish(topic.format(node=node)), topic
            assert not users[other].may_publish(topic.format(node=node)), topic
        assert not users[node].may_publish(f"defectd/{other}/cmd/ping")
        assert not users[node].may_publish(f"spBv1.0/defectd/NCMD/{other}")
        assert not users[node].may_publish("spBv1.0/STATE/host")
        assert not users[node].may_publish("elsewhere")
        sent = [topic.format(node=node) for topic in COMMAND_TOPICS] + ["spBv1.0/STATE/host"]
        assert all(users["scada"].may_publish(topic) for topic in sent)
        assert not users["scada"].may_publish(f"defectd/{node}/top/event")
        users["scada"].may_publish(f"spBv1.0/defectd/NCMD/{other}")  # the last message, for `other` alone
        until(lambda: users[node].received.qsize() == len(sent), 10, "the commands of the node")
        until(lambda: users[other].received.qsize() == 2, 10, "the command of the other node")
        assert users[node].topics() == sent
        assert users[other].topics() == ["spBv1.0/STATE/host", f"spBv1.0/defectd/NCMD/{other}"]
        expected = [topic.format(node=node) for topic in OWN_TOPICS] + sent + [f"spBv1.0/defectd/NCMD/{other}"]
        until(lambda: users["scada"].received.qsize() == len(expected), 10, "everything for SCADA")
        assert users["scada"].topics() == expected


def test_certificates_of_the_script_are_valid_for_years(shipped: Mosquitto, secrets: Path) -> None:
    """The authority is valid for ten years, and the broker's certificate for two."""
    mqtt = config.Mqtt(broker=f"mqtts://127.0.0.1:{shipped.port}", ca_file=secrets / "ca.crt")
    (authority,) = certificates.files(mqtt, SystemClock())
    (of_broker,) = certificates.of_broker(mqtt, SystemClock())
    assert (authority.grade, of_broker.grade) == ("ok", "ok")
    assert "3650 days" in authority.says or "3649 days" in authority.says
    assert "824 days" in of_broker.says or "825 days" in of_broker.says


def health(node: Node) -> tuple[int, str]:
    """Exit code and output of the image's HEALTHCHECK command."""
    command = [sys.executable, "-m", "edge.cli", "doctor", "--live", "-c", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout


def test_health_check_fails_unless_the_loops_of_a_daemon_move(tmp_path: Path, free_port: int) -> None:
    """A daemon without broker and camera is healthy; no daemon and a stopped one are unhealthy."""
    camera = {"name": "top", "source": "rtsp://127.0.0.1:9/x"}
    with Node(tmp_path / "n", 9, [camera], metrics={"listen": f"0.0.0.0:{free_port}"}) as node:
        assert health(node)[0] == 1
        node.start()
        until(lambda: health(node)[0] == 0, 30, "a healthy daemon")
        assert "loops move" in health(node)[1]
        os.kill(node.pid, 19)
        code, output = health(node)
        assert (code, "does not answer" in output) == (1, True)
        os.kill(node.pid, 18)
        until(lambda: health(node)[0] == 0, 30, "a healthy daemon again")
