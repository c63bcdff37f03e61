"""What the page shows of the whole node, from counters that others keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import monitoring
from fakes.inspection import GOOD

from edge.coverage.strip_position import StripPosition, StripReading
from edge.monitoring.node_status import NodeStatusReader

MODEL = {"name": "student", "version": "1", "sha256": "ab", "classes": ["scratches"], "canary": None, "shadow": None}


class Scene:
    """A reader of the node that metrics are tested with."""

    def __init__(self, folder: Path) -> None:
        self.node = monitoring.Scene()
        self.strip = StripReading("off")
        monitored = replace(self.node.monitored, strip=lambda: self.strip)
        outputs: Callable[[], Any] = lambda: {"page": {"state": "running"}}  # noqa: E731
        self.reader = NodeStatusReader(
            monitored, lambda: 4, lambda: MODEL, outputs, folder, 1000, self.node.clock, since="2026-11-29T00:00:00Z"
        )

    def run(self, coil: str | None, from_m: float, to_m: float) -> Any:
        """The strip runs past the camera, inspected all the way.  Returns the meters of the camera."""
        account = self.node.session.counters.account
        account.locate_frame(StripPosition(0, from_m))
        account.add_inspected(StripPosition(0, from_m), to_m - from_m, whole=True)
        account.locate_frame(StripPosition(0, to_m))
        self.strip = StripReading("known", 1.0, coil, to_m)
        return self.reader.read().cameras["top"].strip_m


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_status_has_what_the_parts_have_counted(scene: Scene) -> None:
    """Delivery, model, evidence, the machine; the figures of each camera."""
    scene.node.session.count_verdict(GOOD, 0, None)
    scene.node.session.tracking.frame_px = (800, 400)
    status = scene.reader.read()
    assert status.delivery == {"connected": True, "queued": 6, "dead_letters": 4}
    assert status.evidence == {"files": 5, "bytes": 500, "max_bytes": 1000}
    assert status.model == MODEL
    assert status.machine["rss_mb"] > 1
    assert status.machine["disk_free_mb"] > 0
    camera = status.cameras["top"]
    assert (camera.frames["ok"], camera.tiles["inspected"], camera.size_px) == (1, 8, (800, 400))
    assert (camera.budget_ms, camera.mm_per_px, camera.strip_m) == (20.0, None, None)


def test_meters_are_those_of_the_coil_that_runs(scene: Scene) -> None:
    """Each coil starts at none, also one of the same name as the last."""
    assert scene.run(None, 0.0, 5.0)["inspected_m"] == 5.0
    assert scene.run("B1", 5.0, 6.0)["inspected_m"] == 0.0
    assert scene.run("B1", 6.0, 9.0)["inspected_m"] == 3.0
    scene.strip = StripReading("known", 1.0, "B1", 0.0)
    assert scene.reader.read().cameras["top"].strip_m == {
        "passed_m": 0.0,
        "inspected_m": 0.0,
        "partial_m": 0.0,
        "missed_m": 0.0,
        "unplaced_frames": 0,
    }


def test_status_is_read_twice_a_second_at_most(scene: Scene) -> None:
    """Whoever asks more often gets nothing."""
    assert scene.reader.read_if_due() is not None
    assert scene.reader.read_if_due() is None
    scene.node.clock.advance(0.5)
    assert scene.reader.read_if_due() is not None
