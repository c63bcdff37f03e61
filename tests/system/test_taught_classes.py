"""A node is taught a class while it runs: the next such defect has its name, and `--undo` takes it back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from mosquitto import Mosquitto
from node import Node, running, subscriber, until

from edge.camera.sources.simulator import Strip

pytestmark = pytest.mark.system

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "edge/schema/event-1.json").read_text())
SPEED_PX = 40
EVERY = 30
"""Frames between two defects."""


def write_frames(folder: Path) -> None:
    """Moving steel with a class of its own: a weave, which no class of the model is."""
    folder.mkdir()
    strip = Strip(width=600, height=400, classes=("scratches",), spacing_px=1_000_000, speed_px=SPEED_PX)
    y, x = np.mgrid[0:110, 0:110]
    weave = (np.where((x // 5 + y // 5) % 2, 45, -45) * (np.hypot(x - 55, y - 55) < 55)).astype(np.int16)
    for n in range(2 * EVERY):
        frame, top = strip.frame(n + 200).astype(np.int16), 400 - SPEED_PX * (n % EVERY)
        left = 150 + 170 * (n // EVERY)
        seen = slice(max(0, top), max(0, min(400, top + 110)))
        frame[seen, left : left + 110] += weave[seen.start - top : seen.stop - top]
        cv2.imwrite(str(folder / f"{n:03d}.png"), np.clip(frame, 0, 255).astype(np.uint8))


def command(node: Node, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", *words, "-c", str(node.config)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith("{") else {}


def test_taught_class_names_the_next_defect_without_a_restart(tmp_path: Path, broker: Mosquitto) -> None:
    """Five confirmed tiles from the node's own evidence are enough; the event names what taught it, and validates."""
    write_frames(tmp_path / "frames")
    camera = {"name": "top", "source": str(tmp_path / "frames"), "loop": True, "fps": 20, "budget_ms": 5000}
    with (
        subscriber(broker.port) as scada,
        Node(tmp_path / "node", broker.port, [{**camera, "live": True}], evidence={"per_minute": 1000}) as node,
    ):
        node.start()
        running(scada, "top")
        tiles, exported = tmp_path / "tiles", tmp_path / "exported"
        until(lambda: len(scada.events("defect.closed")) >= 6, 60, "six defects")
        assert all(event["defect"]["class"] != "weave" for event in scada.events("defect"))
        assert all(event["defect"]["taught"] is None for event in scada.events("defect"))
        command(node, "evidence", "export", "--kind", "defect", "--out", str(exported))
        (tiles / "weave").mkdir(parents=True)
        pictures = [p for p in sorted(exported.glob("*/*.png")) if cv2.imread(str(p), 0).shape == (200, 200)]
        for picture in pictures[:5]:
            shutil.copy(picture, tiles / "weave")
        assert len(pictures) >= 5
        made = command(node, "calibrate", "classes", "--labelled", str(tiles), "--other-classes", "keep", "--json")
        assert (made["taught"][0]["name"], made["taught"][0]["n"]) == ("weave", 5)

        node.process.send_signal(signal.SIGHUP)
        until(lambda: scada.events("config.changed"), 15, "the reload")
        seq = scada.events("config.changed")[0]["seq"]
        after = lambda kind: [e for e in scada.events(kind) if e["seq"] > seq]  # noqa: E731
        until(lambda: [e for e in after("defect.opened") if e["defect"]["class"] == "weave"], 30, "a weave")
        named = next(e for e in after("defect.opened") if e["defect"]["class"] == "weave")
        assert named["defect"]["taught"] == scada.latest("defectd/line3/top/state")["taught"]["sha256"]
        for event in scada.events():
            jsonschema.validate(event, SCHEMA)

        command(node, "calibrate", "classes", "--undo", "--json")
        node.process.send_signal(signal.SIGHUP)
        until(lambda: len(scada.events("config.changed")) == 2, 15, "the second reload")
        seq = scada.events("config.changed")[1]["seq"]
        until(lambda: len(after("defect.opened")) >= 3, 30, "three defects")
        assert all(e["defect"]["taught"] is None and e["defect"]["class"] != "weave" for e in after("defect.opened"))
        assert node.stop() == 0
        assert "Traceback" not in node.log()
