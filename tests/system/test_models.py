"""A real daemon under load installs, refuses, watches and rolls back models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.bundles import rebuilt
from fakes.foreign_networks import repository, rgb_network
from mosquitto import Mosquitto
from node import Node, Subscriber, running, subscriber, until

from edge.model import bundle

pytestmark = pytest.mark.system

BUILTIN = Path(bundle.__file__).parent / "builtin"
TOP = {
    "name": "top",
    "source": "strip:?width=640&height=256",
    "fps": 30,
    "budget_ms": 2000,
    "ring_frames": 64,
    "mode": "parts",
    "decision": {"confidence": 0.4, "unsure": 0.2, "classes": {"scratches": 0.5}},
}
SIDE = {**TOP, "name": "side"}


def defectd(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class Release:
    """A publisher of models: a key, and bundles signed with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "release.pem"
        self.public = defectd("model", "keygen", self.key).stdout.strip()

    def bundle(self, version: str, key: Path | None = None, **changes: Any) -> Path:
        path = rebuilt(BUILTIN, self.folder / version, version, **changes)
        done = defectd("model", "sign", path, "--key", key or self.key)
        assert done.returncode == 0, done.stderr
        return path


def inspect_more(scada: Subscriber, frames: int = 60) -> None:
    """Wait until both cameras have delivered this many more frames."""
    for name in ("top", "side"):
        topic = f"defectd/line3/{name}/coverage"
        until(lambda topic=topic: scada.latest(topic), 15, topic)
        goal = scada.latest(topic)["since_start"]["delivered"] + frames
        until(lambda topic=topic, goal=goal: scada.latest(topic)["since_start"]["delivered"] >= goal, 30, "frames")


def test_swap_under_load_loses_no_frame_and_refused_bundles_change_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    """Events carry the old and then the new hash, every frame is inspected, and every wrong bundle is refused."""
    release = Release(tmp_path)
    good = release.bundle("2.0")
    flipped = release.bundle("2.1")
    content = bytearray((flipped / "student.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (flipped / "student.onnx").write_bytes(content)
    other_key = tmp_path / "other_key.pem"
    defectd("model", "keygen", other_key)
    foreign = release.bundle("2.2", key=other_key)
    names = [f"kind{n}" for n in range(6)]
    renamed = release.bundle("2.3", classes=names)
    model = {"trusted_keys": [release.public], "precision": "fp32"}
    with (
        subscriber(broker.port) as scada,
        Node(tmp_path / "node", broker.port, [TOP, SIDE], model=model) as node,
    ):
        node.start()
        running(scada, "top", "side")
        inspect_more(scada)
        for wrong, reason in ((flipped, "damaged"), (foreign, "not in model.trusted_keys"), (renamed, "scratches")):
            done = defectd("model", "install", wrong, "-c", node.config)
            assert done.returncode != 0
            assert reason in done.stderr
            assert "Traceback" not in done.stderr
        unsigned = rebuilt(BUILTIN, tmp_path / "2.4", "2.4")
        assert "is not signed" in defectd("model", "install", unsigned, "-c", node.config).stderr
        done = defectd("model", "install", good, "-c", node.config, "--json")
        assert done.returncode == 0, done.stderr
        swap = json.loads(done.stdout)
        inspect_more(scada)
        old, new = swap["from"]["sha256"], swap["to"]["sha256"]
        assert old != new
        until(
            lambda: {e["model"]["sha256"] for e in scada.events("defect.")} == {old, new}, 30, "events of both models"
        )
        hashes = [event["model"]["sha256"] for event in sorted(scada.events(), key=lambda event: event["seq"])]
        assert hashes == sorted(hashes, key=[old, new].index), "the new hash comes after the old one"
        assert [e["detail"]["to"]["version"] for e in scada.events("model.changed")] == ["2.0"]
        listed = defectd("model", "list", "-c", node.config).stdout
        assert "canary" in listed
        assert len(scada.events("model.refused")) == 1, "only one bundle got as far as the daemon"

        done = defectd("model", "rollback", "-c", node.config)
        assert done.returncode == 0, done.stderr
        until(lambda: scada.events("model.rolled_back"), 10, "the event")
        inspect_more(scada, 30)
        assert scada.latest("defectd/line3/status")["model"]["sha256"] == old
        assert node.stop() == 0
        for name in ("top", "side"):
            last = scada.latest(f"defectd/line3/{name}/coverage")["since_start"]
            assert last["delivered"] == sum(last["frames"].values()) > 150
            assert (last["frames"]["dropped"], last["frames"]["late"], last["no_signal_s"] < 5) == (0, 0, True)
        assert [gap for gap in scada.events("coverage.gap") if gap["detail"]["frames"]] == []
        assert "Traceback" not in node.log()


def test_installed_model_survives_a_restart_and_needs_no_daemon(tmp_path: Path, broker: Mosquitto) -> None:
    """A model installed without a running daemon decides from its next start on; `defectd reload` needs no broker."""
    release = Release(tmp_path)
    good = release.bundle("3.0")
    model = {"trusted_keys": [release.public], "precision": "fp32", "canary_s": 0}
    with subscriber(broker.port) as scada, Node(tmp_path / "node", broker.port, [TOP, SIDE], model=model) as node:
        done = defectd("model", "install", good, "-c", node.config)
        assert "from the next start on" in done.stdout, done.stderr
        node.start()
        running(scada, "top", "side")
        assert scada.latest("defectd/line3/status")["model"]["version"] == "3.0"
        done = defectd("reload", "-c", node.config)
        assert (done.returncode, done.stdout.strip()) == (0, "nothing changed")
        node.config.write_text(node.config.read_text() + "unknown: 1\n")
        done = defectd("reload", "-c", node.config)
        assert done.returncode != 0
        assert "unknown key" in done.stderr
        assert until(lambda: scada.events("config.refused"), 10, "the event")
        assert node.stop() == 0
    done = defectd("reload", "-c", node.config)
    assert done.returncode != 0


def test_somebody_elses_classifier_runs_in_the_daemon(tmp_path: Path, broker: Mosquitto) -> None:
    """Imported from a folder with config.json, a network for one RGB picture at a time decides every frame."""
    names = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
    folder = repository(tmp_path / "theirs", rgb_network(side=64), img_size=64, class_names=list(names))
    out = tmp_path / "theirs.zip"
    done = defectd("model", "import", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    model = {"bundle": str(out), "precision": "auto"}
    with subscriber(broker.port) as scada, Node(tmp_path / "node", broker.port, [TOP], model=model) as node:
        node.start()
        running(scada, "top")
        topic = "defectd/line3/top/coverage"
        until(lambda: scada.latest(topic), 15, topic)
        until(lambda: scada.latest(topic)["since_start"]["delivered"] >= 20, 30, "frames")
        assert scada.latest("defectd/line3/status")["model"]["name"] == "somebody/steel"
        assert node.stop() == 0
        last = scada.latest(topic)["since_start"]
        assert (last["frames"]["dropped"], last["frames"]["bad_image"]) == (0, 0)
        assert "Traceback" not in node.log()
