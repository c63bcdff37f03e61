"""This version continues with a state directory of version 0.1.1 and loses nothing.

`states/state-0.1.1.tar.xz` was written by that version on a generated strip and ended by `kill -9`: events waiting for
a broker that never came, a coil running, an installed model as canary, all calibrations, thresholds set by a command,
evidence, the Sparkplug cursor. `truth.json` in it is what that daemon itself reported at its end.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.waiting import until
from node import Node, subscriber

from edge.host.clock import SystemClock, stamp

pytestmark = pytest.mark.system

ARCHIVE = Path(__file__).parent / "states" / "state-0.1.1.tar.xz"


class OldNode(Node):
    """The node of the archive, with its configuration in the words of this version."""

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir()
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        self.truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
        raw = yaml.safe_load((folder / "config.yaml").read_text())
        raw["state_dir"] = str(folder / "var")
        raw["mqtt"]["broker"] = f"mqtt://127.0.0.1:{port}"
        raw["model"]["canary_s"] = raw["model"].pop("watch_s")
        super().__init__(folder, port, raw.pop("cameras"), **raw)
        self._was_running_a_moment_ago()

    def _was_running_a_moment_ago(self) -> None:
        """A coil continues only if the node was away for less than an hour."""
        totals = self.folder / "var" / "coverage.json"
        content = json.loads(totals.read_text())
        content["runs"][-1]["to"] = stamp(SystemClock().wall_ns())
        totals.write_text(json.dumps(content))


def test_state_of_the_previous_version_is_read_and_nothing_is_lost(broker: Any, tmp_path: Path) -> None:
    """The node continues with events, numbers, coil, canary model, calibrations, thresholds, totals and evidence."""
    with subscriber(broker.port, topics=("defectd/#",)) as client, OldNode(tmp_path / "node", broker.port) as node:
        truth = node.truth
        old_totals = json.loads((node.folder / "var" / "coverage.json").read_text())["ever"]["top"]["delivered"]
        pictures = sorted((node.folder / "var" / "evidence").rglob("*.jpg"))
        node.start()
        until(lambda: "node.started" in [e["type"] for e in client.events()], 30, "the first event of this version")
        until(lambda: (client.latest("defectd/old/top/state") or {}).get("state") == "running", 30, "the camera")
        assert node.stop() == 0, node.log()

        events = client.events()
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        waiting = [event_id for _, event_id, _ in truth["waiting"]]
        assert [e["event_id"] for e in events[: len(waiting)]] == waiting
        assert events[len(waiting)]["seq"] == truth["last_seq"] + 1
        assert "events.dropped" not in [e["type"] for e in events]

        state = next(m for _, topic, m in client.all() if topic == "defectd/old/top/state" and m["state"] == "running")
        assert state["thresholds"]["confidence"] == 0.83
        before = truth["state"]["cameras"]["top"]
        assert state["calibration"]["used"] == before["calibration"]["used"]
        assert state["calibrated_thresholds"] == before["levels"]
        assert state["strip"]["coil"] == truth["coil"]["coil"] == "C-4711"

        new = [e for e in events if e["seq"] > truth["last_seq"]]
        assert {e["model"]["sha256"] for e in new} == {truth["model"]["model"]["sha256"]}
        assert json.loads((node.folder / "var" / "models" / "standing.json").read_text())["on_trial"] is True
        assert not [e for e in new if e["type"] in ("coil.ended", "model.rolled_back", "calibration.refused")]
        totals = json.loads((node.folder / "var" / "coverage.json").read_text())
        assert totals["ever"]["top"]["delivered"] >= old_totals
        assert [path for path in pictures if not path.exists()] == []
        assert all((node.folder / "var" / "evidence" / e["evidence"]["path"]).exists() for e in events if e["evidence"])
