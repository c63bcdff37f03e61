"""Calibration of a camera that a daemon inspects: frames come from the daemon, the camera stays where it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.page import PageClient, add_users
from fakes.ports import free_port
from node import Node, running, subscriber, until

from edge.config import calibration

pytestmark = pytest.mark.system

CAMERA = {"name": "top", "source": "strip:?seed=1&width=800&height=400", "fps": 20, "budget_ms": 500}
DRAWN = [[40, 20], [780, 20], [780, 380], [40, 380]]


def cli(config: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge.cli", "calibrate", *words, "-c", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_region_drawn_on_the_page_is_used_by_the_running_daemon(broker: Any, tmp_path: Path) -> None:
    """Preview and command line take live frames; what is applied is inspected at once; undo goes back."""
    port, folder = free_port(), tmp_path / "node"
    more = {"web": {"listen": f"127.0.0.1:{port}"}, "state_dir": str(folder / "var")}
    add_users(folder / "var")
    with subscriber(broker.port) as client, Node(folder, broker.port, [CAMERA], **more) as node:
        node.start()
        running(client, "top")
        edda = PageClient(port)

        def logged_in() -> bool:
            try:
                return edda.login("edda").status == 200
            except OSError:
                return False

        until(logged_in, 30, "the page")
        config = next(folder.glob("*.yaml"))
        live = cli(config, "roi", "--source", "live:", "--dry-run", "--shape", "0,0,800,400", "--frames", "3")
        assert (live["frame_px"], live["change"]["after"]["made"]["frames"]) == ([800, 400], 3)

        started = edda.post("/api/v1/calibration/top/roi", {"shape": DRAWN, "exclude": [[300, 0, 220, 400]]}).json
        deadline = time.monotonic() + 30
        while (job := edda.get(f"/api/v1/jobs/{started['id']}").json)["state"] in ("waiting", "running"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert job["state"] == "done", job
        assert not (folder / "var/calibration").exists()
        change = job["result"]["change"]
        plate = edda.get(f"/api/v1/calibration/plates/{job['id']}/top.roi.png")
        assert plate.body.startswith(b"\x89PNG")

        fields = {"job": job["id"], "before_sha256": change["before_sha256"]}
        done = edda.post("/api/v1/calibration/top/apply", fields)
        assert (done.status, done.json["problem"]) == (200, None), done.body
        kept = calibration.load(folder / "var/calibration/top.yaml").roi
        assert kept is not None
        assert [list(corner) for corner in kept.roi] == DRAWN  # type: ignore[union-attr]

        def shown() -> dict[str, Any]:
            found: dict[str, Any] = edda.get("/api/v1/state").json["cameras"][0]
            return found

        until(lambda: shown()["roi_px"] == DRAWN, 20, "the region in the state")
        assert edda.post("/api/v1/calibration/top/apply", fields).code == "stale"
        undone = edda.post("/api/v1/calibration/top/undo", {"before_sha256": change["after_sha256"]})
        assert undone.status == 200, undone.body
        until(lambda: shown()["roi_px"] is None, 20, "no region in the state")
        acted = edda.get("/api/v1/events?type=operator.acted").json["events"]
        verbs = [(one["detail"]["who"], one["detail"]["verb"]) for one in acted]
        assert {("edda", "calibration.roi"), ("edda", "calibration.undo"), ("edda", "reload")} <= set(verbs)
        assert node.stop(15) == 0, node.log()
    assert yaml.safe_load(config.read_text())["cameras"][0]["name"] == "top"


def test_one_command_calibrates_a_camera_of_the_running_daemon(broker: Any, tmp_path: Path) -> None:
    """Frames come from the daemon by themselves, and it uses the result at once; undo and reload go back."""
    folder = tmp_path / "node"
    source = "strip:?width=400&height=200&border_px=40&defects=0&speed_px=48"
    camera = {"name": "top", "source": source, "fps": 30, "budget_ms": 500, "tile_px": 100}
    web = {"web": {"listen": f"127.0.0.1:{free_port()}"}, "state_dir": str(folder / "var")}
    with subscriber(broker.port) as client, Node(folder, broker.port, [camera], **web) as node:
        node.start()
        running(client, "top")
        config = next(folder.glob("*.yaml"))
        options = ("--minutes", "0.1", "--false-alarms-per-hour", "20000", "--yes")
        found = cli(config, "auto", "--camera", "top", *options)
        states = {step["name"]: step["state"] for step in found["steps"]}
        assert states == {
            "roi": "done",
            "flatfield": "done",
            "scale": "skipped",
            "normal": "done",
            "latency": "skipped",
        }
        assert (found["applied"], found["reload"]["looked_at"]) == (True, ["top"])
        assert calibration.load(folder / "var/calibration/top.yaml").normal
        cli(config, "undo", "--camera", "top")
        assert not calibration.load(folder / "var/calibration/top.yaml").normal
        assert node.stop(15) == 0, node.log()
