"""The pieces of the composition that run without an engine: secrets, Mosquitto as shipped, the health check."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto import Mosquitto, need_mosquitto
from node import Node, until
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
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    make_secrets(folder, "plant.example", "10.0.0.7")
    return folder


def test_secrets_are_made_once_and_kept(secrets: Path) -> None:
    """A second run changes no password and no certificate; other users of the host do not get in."""
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
    """Mosquitto with the configuration that Compose mounts: only its folders and its port are others."""
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


def looked_at(broker: Mosquitto, secrets: Path, folder: Path, node: str = "line3", scheme: str = "mqtts") -> Finding:
    """What the doctor says with the settings of deploy/defectd.yaml."""
    mqtt = config.Mqtt(
        broker=f"{scheme}://127.0.0.1:{broker.port}",
        username="line3",
        password_file=secrets / "mqtt-password",
        ca_file=secrets / "ca.crt" if scheme == "mqtts" else None,
    )
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return broker_of.finding(config.Config(node=node, state_dir=folder, mqtt=mqtt, cameras=(camera,)), SystemClock())


def test_shipped_mosquitto_takes_the_node_and_nobody_else(shipped: Mosquitto, secrets: Path, tmp_path: Path) -> None:
    """Its certificate, password and access list fit together; no TLS, other passwords and other nodes are refused."""
    assert looked_at(shipped, secrets, tmp_path).grade == "good"
    assert "refuses defectd/line4/doctor" in looked_at(shipped, secrets, tmp_path, node="line4").says
    assert looked_at(shipped, secrets, tmp_path, scheme="mqtt").grade == "bad"
    wrong = tmp_path / "wrong"
    shutil.copytree(secrets, wrong)
    (wrong / "mqtt-password").write_text("another\n")
    assert "refuses the connection" in looked_at(shipped, wrong, tmp_path).says


def test_made_certificates_last(shipped: Mosquitto, secrets: Path) -> None:
    """The doctor finds the authority good for ten years, and the broker's own for two."""
    mqtt = config.Mqtt(broker=f"mqtts://127.0.0.1:{shipped.port}", ca_file=secrets / "ca.crt")
    (authority,) = certificates.files(mqtt, SystemClock())
    (own,) = certificates.of_broker(mqtt, SystemClock())
    assert (authority.grade, own.grade) == ("good", "good")
    assert "3650 days" in authority.says or "3649 days" in authority.says
    assert "824 days" in own.says or "825 days" in own.says


def health(node: Node) -> tuple[int, str]:
    """The command of the image's HEALTHCHECK."""
    command = [sys.executable, "-m", "edge.cli", "doctor", "--live", "-c", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout


def test_health_check_tells_a_daemon_that_lives_from_one_that_does_not(tmp_path: Path, free_port: int) -> None:
    """Healthy with the broker and the camera away; unhealthy when none runs, and when it stands still."""
    camera = {"name": "top", "source": "rtsp://127.0.0.1:9/x"}
    with Node(tmp_path / "n", 9, [camera], metrics={"listen": f"0.0.0.0:{free_port}"}) as node:
        assert health(node)[0] == 1
        node.start()
        until(lambda: health(node)[0] == 0, 30, "a healthy daemon")
        assert "loops move" in health(node)[1]
        os.kill(node.pid, 19)
        code, said = health(node)
        assert (code, "do not answer" in said) == (1, True)
        os.kill(node.pid, 18)
        until(lambda: health(node)[0] == 0, 30, "a healthy daemon again")
