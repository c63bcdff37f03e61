"""A real daemon reads its configuration again while frames arrive."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from mosquitto import Mosquitto
from node import Node, running, subscriber, until

pytestmark = pytest.mark.system

KEPT = {"name": "kept", "source": "strip:?width=640&height=256", "fps": 30, "budget_ms": 2000, "ring_frames": 64}
OTHER = {**KEPT, "name": "other"}


def rewrite(node: Node, **changes: Any) -> None:
    content = yaml.safe_load(node.config.read_text()) | changes
    fresh = node.config.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(content))
    fresh.replace(node.config)


def test_reload_under_load_costs_an_unchanged_camera_no_frame(tmp_path: Path, broker: Mosquitto) -> None:
    """One camera is reopened, one added, one removed; the fourth has neither a gap nor a lost frame."""
    with (
        subscriber(broker.port) as scada,
        Node(tmp_path / "node", broker.port, [KEPT, OTHER, {**OTHER, "name": "gone"}]) as node,
    ):
        node.start()
        state = "defectd/line3/{}/state"
        running(scada, "kept", "other", "gone")
        pids = set(node.children())
        rewrite(node, cameras=[KEPT, {**OTHER, "source": "strip:?width=320&height=256"}, {**OTHER, "name": "new"}])
        node.process.send_signal(signal.SIGHUP)
        changed = until(lambda: scada.events("config.changed"), 15, "the event")[0]
        keys = ("added", "removed", "reopened", "looked_at", "needs_restart")
        changes = {key: changed["detail"][key] for key in keys}
        assert changes == {
            "added": ["new"],
            "removed": ["gone"],
            "reopened": ["other"],
            "looked_at": [],
            "needs_restart": [],
        }
        running(scada, "new")
        until(lambda: [e for e in scada.events("camera.restored") if e["camera"] == "other"], 30, "the changed camera")
        until(lambda: scada.latest(state.format("gone")) is None, 15, "nothing retained of the camera that is gone")
        until(lambda: len(node.children()) == 3 and len(pids & set(node.children())) == 1, 15, "two ended processes")

        rewrite(node, cameras=[{**KEPT, "decision": {"confidence": 0.2}}])
        node.process.send_signal(signal.SIGHUP)
        refused = until(lambda: scada.events("config.refused"), 15, "the refusal")[0]
        assert "unsure (0.35) is above confidence (0.2)" in str(refused["detail"])
        assert refused["config_sha256"] == changed["config_sha256"] != changed["detail"]["config_sha256_before"]
        assert scada.latest("defectd/line3/status")["cameras"] == ["kept", "other", "new"]
        coverage = "defectd/line3/kept/coverage"
        until(lambda: scada.latest(coverage), 15, "the first coverage message")
        until(lambda: scada.latest(coverage)["since_start"]["delivered"] > 60, 15, "60 frames")
        assert node.stop() == 0
        last = scada.latest("defectd/line3/kept/coverage")["since_start"]
        assert last["delivered"] == sum(last["frames"].values()) > 60
        assert (last["frames"]["dropped"], last["frames"]["late"]) == (0, 0)
        assert [
            e for e in scada.events() if e["camera"] == "kept" and e["type"] in ("camera.lost", "coverage.gap")
        ] == []
        assert "Traceback" not in node.log()
