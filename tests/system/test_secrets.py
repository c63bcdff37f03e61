"""Passwords of every kind: real servers accept them, and they are in nothing that a node writes or shows."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import string
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from click.testing import CliRunner
from fakes.waiting import until
from mosquitto import Mosquitto, need_mosquitto
from node import Node
from rtsp_camera import RtspServer, need_gstreamer

from edge import config
from edge.camera.opening import spec_of
from edge.camera.sources.registry import open_source
from edge.cli import main
from edge.host.clock import SystemClock
from edge.host.url import SAFE_IN_LOGIN
from edge.monitoring.doctor import broker
from edge.monitoring.support_bundle import pack

pytestmark = pytest.mark.system

LETTERS = string.ascii_letters + string.digits + string.punctuation * 3 + " äß€Ж漢"
ODD = ("S3CR3T#1", "p@ss#1:/?", "[S3CR3T]", "a]b%40c", " \"both' ends ", "${S3CR3T}", "-S3CR3T\\n")


def passwords(count: int, seed: int) -> list[str]:
    """Printable texts of 8 to 24 characters, after some that have made trouble."""
    rng = random.Random(seed)
    found = list(ODD[:count])
    return found + ["".join(rng.choices(LETTERS, k=rng.randint(8, 24))) for _ in range(count - len(found))]


def seed() -> int:
    """A new one each time.  It shows when a test fails."""
    chosen = time.time_ns() % 1_000_000
    sys.stdout.write(f"seed {chosen}\n")
    return chosen


class Secrets:
    """Passwords where a configuration finds them: in turn in a file, in the environment and as a credential."""

    def __init__(self, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._environment = environment
        self.known: list[str] = []
        folder.mkdir()
        environment.setenv("CREDENTIALS_DIRECTORY", str(folder))

    def reference(self, password: str) -> str:
        number = len(self.known)
        self.known.append(password)
        (self.folder / f"s{number}").write_text(password + "\n")
        self._environment.setenv(f"LINE3_{number}", password)
        return ("${file:%s}" % (self.folder / f"s{number}"), f"${{LINE3_{number}}}", f"${{credential:s{number}}}")[
            number % 3
        ]


def hashed(user: str, password: str) -> str:
    """A line of Mosquitto's password file, as mosquitto_passwd writes it."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def closed_broker(folder: Path, users: dict[str, str]) -> Mosquitto:
    folder.mkdir()
    (folder / "passwd").write_text("".join(hashed(user, password) for user, password in users.items()))
    return Mosquitto(folder, f"password_file {folder}/passwd", anonymous=False)


@pytest.mark.parametrize("method", ["basic", "digest"])
@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_rtsp_camera_opens_with_any_password(method, count, tmp_path, free_port, monkeypatch):
    """GStreamer's server compares what FFmpeg sends with the password that the file, variable or credential holds."""
    need_gstreamer()
    users = {f"viewer{n}": password for n, password in enumerate(passwords(count, seed()))}
    secrets = Secrets(tmp_path / "secrets", monkeypatch)
    cameras = [
        {
            "name": user,
            "source": f"rtsp://{user}:{secrets.reference(password)}@127.0.0.1:{free_port}/cam",
            "open_timeout_s": 20,
            "read_timeout_s": 20,
        }
        for user, password in users.items()
    ]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"node": "n1", "cameras": cameras}))
    settings = config.load(tmp_path / "c.yaml")
    server = RtspServer(free_port, "10", "320", "240", method, users=users)
    server.start()
    try:
        for camera in settings.cameras:
            source = open_source(spec_of(camera))
            try:
                assert source.read().pixels.shape == (240, 320)
            finally:
                source.close()
    finally:
        server.kill()


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_broker_accepts_any_password(count, tmp_path, monkeypatch):
    """Mosquitto with a password file, for the broker of events and for that of Sparkplug."""
    need_mosquitto()
    users = {f"node{n}": password for n, password in enumerate(passwords(count, seed()))}
    secrets = Secrets(tmp_path / "secrets", monkeypatch)
    server = closed_broker(tmp_path / "broker", users).start()
    try:
        for number, (user, password) in enumerate(users.items()):
            reference, file = secrets.reference(password), str(secrets.folder / f"s{number}")
            for mqtt in ({"password": reference}, {"password_file": file}):
                content = {
                    "node": "n1",
                    "mqtt": {"broker": server.url, "username": user, **mqtt},
                    "sparkplug": {"broker": server.url, "username": user, "password_file": file},
                    "cameras": [{"name": "a", "source": "strip:"}],
                }
                (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
                settings = config.load(tmp_path / "c.yaml")
                found = broker.finding(settings, SystemClock())
                assert found.grade == "ok", found
                assert settings.sparkplug.connection(settings.mqtt).read_password() == password
    finally:
        server.stop()


@pytest.mark.parametrize(("count", "cameras"), [(6, 6), pytest.param(1000, 50, marks=pytest.mark.soak)])
def test_no_password_is_in_anything_that_a_node_writes_or_shows(count, cameras, tmp_path, free_port, monkeypatch):
    """Logs, events, database, state, processes, output of `check`, support bundle: none holds one, in any spelling."""
    need_mosquitto()
    chosen = passwords(count, seed())
    for start in range(0, count, cameras):
        folder = tmp_path / str(start)
        folder.mkdir()
        with monkeypatch.context() as environment:
            _run_node(folder, chosen[start : start + cameras], free_port, environment)


def _run_node(folder: Path, chosen: list[str], closed_port: int, environment: pytest.MonkeyPatch) -> None:
    """A node whose broker accepts it and whose cameras refuse the connection."""
    secrets = Secrets(folder / "secrets", environment)
    own = chosen[-1]
    server = closed_broker(folder / "broker", {"line3": own})
    forms = "rtsp://viewer:{}@{}/s", "http://viewer:{}@{}/v?size=640", "http://{1}/v?user=viewer&p={0}&size=640"
    cameras = [
        {
            "name": f"cam{n}",
            "source": forms[n % len(forms)].format(secrets.reference(password), f"127.0.0.1:{closed_port}"),
        }
        for n, password in enumerate(chosen)
    ]
    (folder / "own").write_text(own + "\n")
    mqtt = {"broker": server.url, "username": "line3", "password_file": str(folder / "own")}
    node = Node(
        folder / "node", server.port, cameras, mqtt=mqtt, state_dir=str(folder / "node/var"), metrics={"listen": None}
    )
    try:
        server.start()
        with node.start():
            seen: set[bytes] = set()
            lost_line = re.compile(r"camera (\S+) is lost: .* refused the connection")

            def lost(lines: Iterable[str]) -> set[str]:
                return {found[1] for line in lines if (found := lost_line.search(line))}

            def all_lost() -> bool:
                seen.update(_processes(node.children()))
                return lost(node.log().splitlines()) >= {camera["name"] for camera in cameras}

            until(all_lost, 120, "each camera has reported that the connection is refused")
            assert seen, "no camera process was seen"
            assert node.stop(60) == 0
        checked = CliRunner().invoke(main, ["check", "-c", str(node.config)])
        assert checked.exit_code == 0, checked.output
        pack(folder / "bundle.tar.gz", node.config, SystemClock(), [node.log_path])
    finally:
        server.stop()
    shown = {str(path): path.read_bytes() for path in (*node.folder.rglob("*"), server.log) if path.is_file()}
    shown |= {"processes": b"\n".join(seen), "check": checked.output.encode(), **_unpacked(folder / "bundle.tar.gz")}
    # A row may be cut in two by a page of the database: one whole reason shows that the file was read.
    assert b"refused the connection" in shown[str(node.folder / "var/outbox.db")]
    leaked = [
        (password, place)
        for password in secrets.known
        for place, text in shown.items()
        if any(form in text for form in _forms(password))
    ]
    assert leaked == []


def _processes(children: Iterable[int]) -> Iterator[bytes]:
    """Command line and environment of the camera processes."""
    for pid in children:
        try:
            command, variables = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue  # it has ended
        if b"edge.camera.process" in command:  # otherwise it is the daemon's own memory still, before exec
            yield command + b"\n" + variables


def _unpacked(path: Path) -> dict[str, bytes]:
    """The parts of a support bundle."""
    with tarfile.open(path) as archive:
        return {entry.name: (archive.extractfile(entry) or pytest.fail(entry.name)).read() for entry in archive}


def _forms(password: str) -> set[bytes]:
    """The spellings in which it could appear."""
    login = base64.b64encode(f"viewer:{password}".encode())
    spelled = (
        password,
        quote(password, safe=""),
        quote(password, safe=SAFE_IN_LOGIN),
        json.dumps(password)[1:-1],
        json.dumps(password, ensure_ascii=False)[1:-1],
        repr(password)[1:-1],
    )
    return {login, *(text.encode() for text in spelled)}
