"""Strips side by side: each lane's coil has a record of its own, beside that of the whole strip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.coils import RecordScene

from edge.coverage import coil_record
from edge.coverage.strip_trace import RunsNote
from edge.event import LaneCoil

LANES = (("left", 0.0, 600.0), ("right", 610.0, 1200.0))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[RecordScene]:
    made = RecordScene(tmp_path, lanes=LANES)
    yield made
    made.output._book.close()
    made.box.close()


def on(*coils: tuple[str, str, float | None]) -> tuple[LaneCoil, ...]:
    return tuple(LaneCoil(*each) for each in coils)


def both(scene: RecordScene) -> None:
    """A coil on each lane; the second one starts 5 m later."""
    scene.start_coil("A-1", lane="left")
    scene.turn()
    scene.start_coil("A-2", lane="right")
    scene.runs((0.0, 30.0, "whole"), coil=None)
    scene.runs((0.0, 30.0, "whole"), coil="A-1", lane="left")
    scene.runs((0.0, 20.0, "whole"), (20.0, 25.0, "partial"), coil="A-2", lane="right")
    scene.defect(12.0, coil=None, lane="left", lane_coils=on(("left", "A-1", 12.0)))
    scene.defect(14.0, coil=None, lane="right", lane_coils=on(("left", "A-1", 14.0), ("right", "A-2", 9.0)))
    scene.defect(15.0, coil=None, across_mm=None, lane_coils=on(("left", "A-1", 15.0), ("right", "A-2", 10.0)))
    scene.turn()


def places(scene: RecordScene, coil: str) -> list[float | None]:
    return [defect.from_m for defect in scene.record(coil).defects]


def test_each_lane_has_its_record_and_the_strip_has_everything(scene: RecordScene) -> None:
    """A defect counts on each lane that it touches, one with an unknown place across on all."""
    both(scene)
    assert places(scene, "A-1") == [12.0, 14.0, 15.0]
    assert places(scene, "A-2") == [9.0, 10.0]
    strip = coil_record.current(scene.coils)
    assert strip is not None
    assert [(each.from_m, each.lane) for each in coil_record.read(strip).defects] == [
        (12.0, "left"),
        (14.0, "right"),
        (15.0, None),
    ]
    left, right = scene.record("A-1"), scene.record("A-2")
    assert (left.header.lane, left.header.lane_mm, left.summary.lane) == ("left", (0.0, 600.0), "left")
    assert right.summary.meters["top"] == coil_record.CameraMeters(20.0, 5.0, 0.0, 0.0)
    assert left.summary.is_complete
    assert right.summary.is_complete
    assert coil_record.current(scene.coils, "right") == coil_record.find(scene.coils, "A-2")


def test_lane_that_ends_leaves_the_others(scene: RecordScene) -> None:
    """Its record is packed when its cameras are past it; the coil beside it goes on."""
    both(scene)
    scene.put("coil.ended", detail={"coil": "A-1", "length_m": 30.0, "by": "command", "lane": "left"})
    scene.turn()
    scene.note(RunsNote("top", "A-2", (), "right"))
    scene.settle()
    assert not list(scene.coils.glob("*-A-1.jsonl.gz")), "the camera has not passed the end of that lane"
    scene.note(RunsNote("top", None, (), "left"))
    scene.settle()
    assert list(scene.coils.glob("*-A-1.jsonl.gz"))
    assert scene.record("A-1").summary.length_m == 30.0
    scene.start_coil("B-1", lane="left")
    scene.defect(31.0, coil=None, lane="right", lane_coils=on(("right", "A-2", 26.0)))
    scene.turn()
    assert places(scene, "A-2") == [9.0, 10.0, 26.0]
    assert places(scene, "B-1") == []
    assert scene.record("B-1").summary.is_complete


@pytest.mark.parametrize("turns", [0, 1])
def test_kill_costs_no_lane_an_event(scene: RecordScene, turns: int) -> None:
    """Whatever was written: each record has each of its events once, and no coil starts twice."""
    both(scene)
    scene.start_coil("B-1", lane="left")
    scene.defect(40.0, coil=None, lane="left", lane_coils=on(("left", "B-1", 1.0)))
    for _ in range(turns):
        scene.turn()
    scene.kill()
    scene.turn()
    scene.turn()
    assert places(scene, "A-1") == [12.0, 14.0, 15.0]
    assert places(scene, "A-2") == [9.0, 10.0]
    assert places(scene, "B-1") == [1.0]
    assert all(scene.record(coil).summary.seq.is_complete for coil in ("A-1", "A-2", "B-1"))
    named = [each.coil for each in coil_record.summaries(scene.coils) if each.coil is not None]
    assert sorted(named) == ["A-1", "A-2", "B-1"]


def test_lane_record_that_alone_reached_the_disk_is_no_second_start(scene: RecordScene) -> None:
    """Killed between two writes: the strip's record reads the start of the coil again, and it is known."""
    both(scene)
    scene.start_coil("B-1", lane="left")
    book = scene.output._book
    for row in scene.box.after(book.cursor, 100):
        book.take_event(row)
    fresh = book._newest("left")
    assert fresh is not None
    fresh.write()
    scene.kill()
    scene.turn()
    named = [each.coil for each in coil_record.summaries(scene.coils) if each.coil is not None]
    assert sorted(named) == ["A-1", "A-2", "B-1"]
