"""SIGTERM ends the daemon in the order of the flow, whatever is in flight."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.waiting import until
from node import Node

pytestmark = pytest.mark.system

STOP_S = 20.0
"""TimeoutStopSec of the unit."""
CAMERA = {"fps": 30, "ring_frames": 64, "overlap": 0.5, "tile_px": 50, "budget_ms": 60_000}
"""Every frame is inspected, and each takes seconds: the loop falls behind."""


def stored_events(node: Node) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "edge.cli", "events", "-c", str(node.config), "-n", "100000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=os.environ)
    return [json.loads(line) for line in done.stdout.splitlines()]


def last_run(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((node.folder / "state" / "coverage.json").read_text())["runs"][-1]
    return found


def state_of(folder: Path) -> dict[str, Any]:
    return {"state_dir": str(folder / "state"), "evidence": {"enabled": False}}


def assert_stopped_in_order(node: Node) -> None:
    """Every opened defect is closed, and no event names a frame that the coverage does not count."""
    events, run = stored_events(node), last_run(node)
    assert run["ended"]
    opened = {event["defect"]["track_id"] for event in events if event["type"] == "defect.opened"}
    closed = {event["defect"]["track_id"] for event in events if event["type"] == "defect.closed"}
    assert opened == closed
    assert [event["type"] for event in events][-1] == "node.stopped"
    for camera, tally in run["cameras"].items():
        numbers = [e["frame"]["number"] for e in events if e["camera"] == camera and e.get("frame")]
        assert max(numbers, default=-1) < tally["delivered"]


def test_sigterm_counts_every_frame_and_closes_every_defect_while_the_loop_is_behind(tmp_path: Path) -> None:
    """Two cameras deliver more than the loop can inspect: what is left at the stop is dropped, not lost."""
    source = "strip:?width=1600&height=1600&seed={}"
    cameras = [{"name": name, "source": source.format(seed), **CAMERA} for seed, name in enumerate(("a", "b"))]
    with Node(tmp_path / "node", 9, cameras, **state_of(tmp_path / "node")) as node:
        node.start()
        until(lambda: re.search(r"a: .* dropped [\d]+.*; [1-9]\d* open", node.log()), 60, "the loop falls behind")
        assert node.stop(STOP_S) == 0, node.log()[-3000:]
        assert_stopped_in_order(node)
        assert "left behind" not in node.log()


def signals_at_random_moments(folder: Path, seed: int, count: int) -> None:
    """Reloads asked for at random moments, then a stop: the daemon ends in time, with its accounts right."""
    chance = random.Random(seed)
    cameras = [{"name": "a", "source": f"strip:?width=256&height=256&seed={seed % 1000}", "fps": 60, "budget_ms": 1000}]
    with Node(folder, 9, cameras, **state_of(folder), log={"format": "plain", "level": "warning"}) as node:
        node.start()
        until((node.folder / "state" / "console").exists, 60, "the daemon handles signals")
        assert node.process is not None
        for _ in range(count):
            node.process.send_signal(signal.SIGHUP)
            until_ns = time.monotonic_ns() + int(chance.expovariate(200) * 1e9)
            while time.monotonic_ns() < until_ns:
                pass  # a moment, not a wait for something
        assert node.stop(STOP_S) == 0, f"seed {seed}: {node.log()[-3000:]}"
        assert_stopped_in_order(node)


def test_signals_at_random_moments_do_not_lock_the_daemon_up(tmp_path: Path) -> None:
    """200 reloads and a stop; the seed changes with each run."""
    signals_at_random_moments(tmp_path / "node", random.randrange(1 << 32), 200)


@pytest.mark.soak
def test_five_thousand_signals_do_not_lock_the_daemon_up(tmp_path: Path) -> None:
    """20 runs of 250 reloads, each with a stop at a random moment."""
    for seed in range(20):
        signals_at_random_moments(tmp_path / f"node{seed}", seed, 250)
