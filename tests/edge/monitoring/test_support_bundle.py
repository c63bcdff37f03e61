"""The support bundle: what it contains, and that it contains no secret."""

from __future__ import annotations

import http.server
import json
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from fakes.clock import FakeClock

from edge.cli import main
from edge.delivery.outbox.rows import Draft
from edge.delivery.outbox.store import Outbox
from edge.host.clock import SystemClock
from edge.monitoring import support_bundle
from edge.monitoring.support_bundle import Masker, pack, secrets_of, without_secrets

SECRETS = {
    "mqtt": "hunter2-Mqtt!",
    "env": "s3cret-from-env",
    "camera_file": "c4mera-p%40ss%2Fword",
    "camera_url": "pl%40inUrlPass",
    "camera_user": "admin-user-7",
    "token": "tok3n-in-query",
    "default": "def4ult-of-reference",
    "sparkplug": "sp4rk-file-secret",
    "key": "MHcCAQEEIPlantedPrivateKeyLine",
    "comment": "p4ss-in-a-comment",
}


class Page(http.server.BaseHTTPRequestHandler):
    """A metrics page that gives a secret away."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'defectd_x{{url="rtsp://u:{SECRETS["camera_file"]}"}} 1\n'.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metrics_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def site(tmp_path: Path, metrics_port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with a secret in every place that can hold one.  Returns its configuration."""
    monkeypatch.setenv("PLANT_CAMERA", SECRETS["env"])
    (tmp_path / "camera-password").write_text(SECRETS["camera_file"] + "\n")
    (tmp_path / "sparkplug-password").write_text(SECRETS["sparkplug"] + "\n")
    pem = f"-----BEGIN EC PRIVATE KEY-----\n{SECRETS['key']}\n-----END EC PRIVATE KEY-----\n"
    for name in ("node.key", "node.crt"):
        (tmp_path / name).write_text(pem)
    state = tmp_path / "state"
    clock = SystemClock()
    outbox = Outbox(
        state / "outbox.db", max_rows=1000, max_bytes=1 << 20, keep_delivered=10, durability="normal", clock=clock
    )
    outbox.append([Draft("defectd/n1/a/event", {"text": SECRETS["mqtt"]}, "id-1")])
    outbox.append([Draft("defectd/n1/a/event", {"text": "more"}, "id-2")])
    outbox.refuse(1, 0x87, f"not authorised: {SECRETS['mqtt']}")
    outbox.close()
    (state / "coverage.json").write_text(json.dumps({"schema": "x", "note": SECRETS["env"]}))
    log = [
        "opening rtsp://viewer:" + SECRETS["camera_file"] + "@10.0.0.5/stream",
        "opening " + SECRETS["camera_url"] + " and decoded pl@inUrlPass",
        "GET http://10.0.0.6/v?token=" + SECRETS["token"],
        '{"password": "' + "never-seen-before" + '"}',
        pem,
        "a good line that helps",
    ]
    (tmp_path / "own.log").write_text("\n".join(log))
    cameras = [
        {"name": "a", "source": "rtsp://viewer:${file:camera-password}@127.0.0.1:9/x"},
        {"name": "b", "source": f"rtsp://{SECRETS['camera_user']}:{SECRETS['camera_url']}@127.0.0.1:9/y"},
        {"name": "c", "source": f"http://127.0.0.1:9/v?token={SECRETS['token']}&size=640"},
        {"name": "d", "source": "rtsp://u:${PLANT_CAMERA}@127.0.0.1:9/z"},
        {"name": "e", "source": f"rtsp://u:${{NOT_SET:-{SECRETS['default']}}}@127.0.0.1:9/z"},
    ]
    content = {
        "node": "n1",
        "state_dir": "state",
        "mqtt": {
            "broker": "mqtts://127.0.0.1:9",
            "username": "line3",
            "password": SECRETS["mqtt"],
            "cert_file": "node.crt",
            "key_file": "node.key",
        },
        "sparkplug": {"username": "sp", "password_file": "sparkplug-password"},
        "metrics": {"listen": f"127.0.0.1:{metrics_port}"},
        "cameras": cameras,
    }
    config = tmp_path / "plant.yaml"
    config.write_text(f"# old password: {SECRETS['comment']}\n" + yaml.safe_dump(content))
    return config


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            entry.name.partition("/")[2]: (archive.extractfile(entry) or pytest.fail(entry.name)).read().decode()
            for entry in archive
        }


def test_no_secret_is_in_the_bundle(site: Path) -> None:
    """Passwords, credentials in URLs, tokens, keys, environment and comments appear in no part and in no spelling."""
    archive = site.parent / "bundle.tar.gz"
    outcome = pack(archive, site, SystemClock(), [site.parent / "own.log"])
    parts = unpacked(archive)
    leaked = {part: secret for part, text in parts.items() for secret in SECRETS.values() if secret in text}
    assert leaked == {}
    everything = "".join(parts.values())
    assert "pl@inUrlPass" not in everything
    assert "never-seen-before" not in everything
    assert "a good line that helps" in parts["logs/0-own.log"]
    assert outcome["logs/0-own.log"] == ""


def test_planted_secrets_are_found_without_the_masker(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: each planted secret that a part can contain is in the bundle when nothing is masked."""
    monkeypatch.setattr(support_bundle.Masker, "__call__", lambda _self, text: text)
    pack(site.parent / "bundle.tar.gz", site, SystemClock(), [site.parent / "own.log"])
    everything = "".join(unpacked(site.parent / "bundle.tar.gz").values())
    assert {name for name, secret in SECRETS.items() if secret in everything} >= {
        "mqtt",
        "env",
        "camera_file",
        "camera_url",
        "token",
        "key",
    }


def test_bundle_contains_what_support_needs(site: Path) -> None:
    """Versions, configuration, findings, outbox, metrics and state; its owner alone can read it; gaps are named."""
    archive = site.parent / "bundle.tar.gz"
    outcome = pack(archive, site, SystemClock())
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    parts = unpacked(archive)
    assert json.loads(parts["versions.json"])["packages"]["numpy"]
    shown_config = json.loads(parts["config.json"])
    assert shown_config["mqtt"]["password"] == "***"
    assert shown_config["mqtt"]["username"] == "line3"
    assert shown_config["cameras"][1]["source"] == "rtsp://127.0.0.1:9/y"
    statistics = json.loads(parts["outbox.json"])
    assert (statistics["statistics"]["last_seq"], statistics["statistics"]["waiting"]) == (2, 1)
    assert statistics["dead_letters"][0][2] == "0x87"
    assert {"model", "disk", "broker"} <= {finding["about"] for finding in json.loads(parts["doctor.json"])}
    assert "defectd_x" in parts["metrics.txt"]
    assert "outbox.db" in parts["state/files.json"]
    assert json.loads(parts["contents.json"])["parts"] == outcome
    assert outcome["state/thresholds.json"].startswith("missing")


def test_bundle_of_a_refused_configuration_contains_the_reason_alone(site: Path) -> None:
    """An unknown key may have any value: values stay out, and the other parts are packed all the same."""
    text = site.read_text().replace("mqtt:", "mqtt:\n  passphrase: unkn0wn-Key-Secret", 1)
    site.write_text(text)
    pack(site.parent / "bundle.tar.gz", site, SystemClock(), [site.parent / "own.log"])
    parts = unpacked(site.parent / "bundle.tar.gz")
    assert "unknown key" in parts["config.json"]
    assert "versions.json" in parts
    everything = "".join(parts.values())
    assert "unkn0wn-Key-Secret" not in everything
    assert not [secret for secret in SECRETS.values() if secret in everything]


@pytest.mark.parametrize("text", ["", "a: [", "just words", None])
def test_bundle_without_a_usable_configuration_is_made(tmp_path: Path, text: str | None) -> None:
    """No file, invalid YAML, no mapping: then help is needed most."""
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    pack(tmp_path / "b.tar.gz", path, FakeClock())
    assert "c.yaml" in unpacked(tmp_path / "b.tar.gz")["config.json"]


def test_bundle_is_bounded_and_keeps_the_end(site: Path) -> None:
    """A long log is cut to its last part, and the contents name the cut; what does not fit at all is left out."""
    log = site.parent / "big.log"
    log.write_text("x" * 70_000 + " the last words")
    limits = {"max_bytes": 50_000, "max_part_bytes": 20_000}
    outcome = pack(site.parent / "b.tar.gz", site, SystemClock(), [log] * 4, **limits)
    parts = unpacked(site.parent / "b.tar.gz")
    assert parts["logs/0-big.log"].endswith("the last words")
    assert len(parts["logs/0-big.log"]) == 20_000
    assert sum(len(text) for name, text in parts.items() if name != "contents.json") <= 50_000
    assert outcome["logs/3-big.log"].startswith("cut: its last 0 ")


def test_bundle_never_overwrites_a_file(site: Path) -> None:
    """The file that exists stays as it is."""
    (site.parent / "b.tar.gz").write_text("mine")
    with pytest.raises(FileExistsError):
        pack(site.parent / "b.tar.gz", site, SystemClock())
    assert (site.parent / "b.tar.gz").read_text() == "mine"


def test_command_prints_the_path_and_the_parts(site: Path) -> None:
    """The path alone goes to stdout, for scripts; an existing file is an error."""
    output = site.parent / "x.tar.gz"
    ran = CliRunner().invoke(main, ["support-bundle", "-c", str(site), "-o", str(output)])
    assert (ran.exit_code, ran.stdout.strip()) == (0, str(output))
    assert "doctor.json" in ran.stderr
    again = CliRunner().invoke(main, ["support-bundle", "-c", str(site), "-o", str(output)])
    assert again.exit_code == 1
    assert "exists" in again.output


@pytest.mark.parametrize(
    ("raw", "secret"),
    [
        ({"password": "alpha-beta"}, "alpha-beta"),
        ({"password": 123456}, "123456"),
        ({"password": "${PW}"}, "from-env"),
        ({"password": "${credential:pw}"}, "from-a-credential"),
        ({"password_file": "credential:pw"}, "from-a-credential"),
        ({"password": "a${PW}z"}, "afrom-envz"),
        ({"cameras": [{"source": "rtsp://u:${PW}@h/x"}]}, "from-env"),
        ({"source": "rtsp://u:a%2Fb%20c@h/x"}, "a/b c"),
        ({"source": "http://h/x?k=abcdef"}, "abcdef"),
        ({"api_token": "xyz-1"}, "xyz-1"),
    ],
)
def test_secret_is_known_in_every_form(tmp_path: Path, raw: Any, secret: str) -> None:
    """As written, as filled in, and as a URL encodes it."""
    (tmp_path / "pw").write_text("from-a-credential\n")
    assert secret in secrets_of(raw, tmp_path, {"PW": "from-env"})


def test_other_text_stays_readable() -> None:
    """References outside of secrets, host names and short texts: a bundle with everything masked is of no use."""
    raw = {"node": "${NODE}", "cameras": [{"fps": "${FPS:-30}", "source": "rtsp://u:ab@cam7/x"}]}
    found = secrets_of(raw, Path("/"), {"NODE": "line3"})
    text = "line3 cam7 30 fps, a tablet; password_file: /etc/x"
    assert Masker(found)(text) == text
    assert without_secrets(raw)["cameras"][0]["fps"] == "${FPS:-***}"


def test_environment_of_the_process_is_not_in_the_bundle(site: Path) -> None:
    """It often holds secrets of other programs."""
    pack(site.parent / "b.tar.gz", site, SystemClock())
    everything = "".join(unpacked(site.parent / "b.tar.gz").values())
    values = {value for name, value in os.environ.items() if len(value) > 30 and "/" not in value}
    assert not [value for value in values if value in everything]


def test_unit_is_packed_without_its_environment(tmp_path: Path) -> None:
    """A value that continues on the next line is removed, too."""
    unit = tmp_path / "etc/systemd/system/defectd.service"
    unit.parent.mkdir(parents=True)
    unit.write_text('[Service]\nEnvironment=A=1 \\\n  "PW=planted"\nMemoryMax=1G\n')
    packed = support_bundle._unit(tmp_path).decode()
    assert "planted" not in packed
    assert "Environment=***\nMemoryMax=1G" in packed
