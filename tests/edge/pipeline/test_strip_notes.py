"""What the inspection loop notes along the strip: runs on each coil, the width, the speed; places across it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fakes.inspection import Scene

from edge import config
from edge.coverage.strip_trace import RunsNote, SpeedNote, WidthNote
from edge.pipeline.orders import CoilOrder

SCALE = config.Scale(mm_per_px=25.0)
"""A frame of 4 px shows 0.1 m."""
PLACED = {"scale": SCALE, "direction": "up"}


class NotedScene(Scene):
    """A scene that keeps its notes."""

    def __init__(self, *cameras: dict[str, Any], **rest: Any) -> None:
        self.notes: list[Any] = []
        super().__init__(*cameras, **rest)
        reporter = self.loop._reporter
        reporter._subscribers = SimpleNamespace(
            **{
                name: getattr(reporter._subscribers, name)
                for name in reporter._subscribers.__slots__
                if name != "notes"
            },
            notes=self.notes.extend,
        )

    def runs(self, camera: str = "top") -> list[tuple[str | None, float, float, str, str | None]]:
        """Coil, from, to, kind, cause; neighbours joined."""
        found: list[tuple[str | None, float, float, str, str | None]] = []
        for note in self.notes:
            if not isinstance(note, RunsNote) or note.camera != camera:
                continue
            for run in note.runs:
                last = found[-1] if found else None
                same = last is not None and (last[0], *last[3:]) == (note.coil, run.kind, run.cause)
                if last is not None and same and abs(last[2] - run.from_m) < 1e-6:
                    found[-1] = (*last[:2], run.to_m, *last[3:])
                else:
                    found.append((note.coil, run.from_m, run.to_m, run.kind, run.cause))
        return [(coil, round(a, 2), round(b, 2), kind, cause) for coil, a, b, kind, cause in found]


def test_runs_are_those_of_the_coil_to_the_resolution_of_a_frame() -> None:
    """Speeds that change, a stop, bad pictures: each camera sees the end of the coil where its offset puts it."""
    wide = {**PLACED, "scale": config.Scale(mm_per_px=50.0)}  # frames overlap by half
    scene = NotedScene({**wide, "name": "top"}, {**wide, "name": "bottom", "offset_m": 1.0}, travel={"topic": "drive"})
    for camera in ("top", "bottom"):
        scene.note(scene.opened(camera))

    def run(speed: float, frames: int, picture: int = 0) -> None:
        for _ in range(frames):
            scene.drive(speed)
            scene.play(picture, camera="top", every_s=0.0)
            scene.play(0, camera="bottom", every_s=0.1)

    run(1.0, 30)
    scene.order(CoilOrder("start", "A"))
    run(1.0, 10)
    run(1.0, 5, 2)  # dark
    run(0.0, 10)
    run(0.5, 40)
    scene.order(CoilOrder("start", "B"))
    run(1.0, 15)
    scene.order(CoilOrder("stop"))
    run(1.0, 30)
    tops = [run for run in scene.runs() if run[0] == "A"]
    assert [each[3:] for each in tops] == [("whole", None), ("missed", "bad_image"), ("whole", None)]
    assert tops[0][1] == 0.0
    assert tops[1][2] - tops[1][1] == pytest.approx(0.4, abs=0.11), "0.6 m between two good frames, which show 0.2 m"
    length = scene.details("coil.ended")[0]["length_m"]
    assert tops[-1][2] == pytest.approx(length, abs=0.02)
    (bottom,) = [run for run in scene.runs("bottom") if run[0] == "A"]
    assert bottom == ("A", 0.0, pytest.approx(length, abs=0.02), "whole", None)
    assert {run[0] for run in scene.runs("bottom")} == {None, "A", "B"}
    assert max(run[2] for run in scene.runs() if run[0] == "B") == pytest.approx(1.5, abs=0.1), "between coils: none"
    speeds = [note.m_per_s for note in scene.notes if isinstance(note, SpeedNote)]
    assert {1.0, 0.0, 0.5} <= set(speeds)
    assert len(speeds) < 12


def test_unknown_speed_gives_no_runs() -> None:
    """Nothing is guessed: what passed unknown is unknown in the record."""
    scene = NotedScene(PLACED, travel={"topic": "drive", "stale_s": 0.5})
    scene.note(scene.opened())
    scene.play(*[0] * 60, every_s=0.1)
    assert scene.notes == []


@pytest.mark.parametrize(
    ("side", "at_mm", "expected"),
    [("left", 100.0, (100.0, 200.0)), ("right", 100.0, (100.0, 200.0)), ("left", -50.0, (-50.0, 50.0))],
)
def test_defect_states_its_surface_and_its_place_across(side: str, at_mm: float, expected: Any) -> None:
    """From the operator side, whichever side of the picture that is; the defect here fills the picture."""
    keys = {"surface": "bottom", "operator_side": side, "across_at_mm": at_mm, "mode": "parts"}
    scene = Scene({**PLACED, **keys}, travel={"speed_m_per_s": 1.0})
    region = scene.inspector
    region_box = (0, 0, 4, 4)
    import fakes.inspection as fake

    verdict = fake.Verdict("defect", fake.Detections((fake.Region("scratches", 0.9, region_box, 1),), ()), fake.TILES)
    region.inspect = lambda *_a, **_k: verdict  # type: ignore[method-assign]
    scene.play(1)
    defects = [event.defect for event in scene.events if event.defect]
    assert defects
    assert {(defect.surface, defect.across_mm) for defect in defects} == {("bottom", expected)}


def test_place_across_counts_from_the_edge_that_is_seen() -> None:
    """Without `across_at_mm` the strip may wander; a lost edge makes the place unknown."""
    scene = Scene({**PLACED, "operator_side": "left", "mode": "parts"}, travel={"speed_m_per_s": 1.0})
    edge = SimpleNamespace(state="seen", middle_px=1.0, at_px=1.0, lost_frames=0)
    scene.inspector.edges = {"left": edge}  # type: ignore[misc]
    scene.play(1)
    edge.state = "lost"
    scene.play(1)
    places = [event.defect.across_mm for event in scene.events if event.type == "defect.opened" and event.defect]
    assert places == [(-25.0, 4975.0), None]


def test_width_is_noted_and_judged() -> None:
    """One sample a meter; the event names place, width and limits; the state message has the figures."""
    scene = NotedScene(
        {**PLACED, "strip_width": {"nominal_mm": 1000.0, "tolerance_mm": 30.0}}, travel={"speed_m_per_s": 1.0}
    )
    left = SimpleNamespace(state="seen", middle_px=10.0, at_px=10.0, lost_frames=0)
    right = SimpleNamespace(state="seen", middle_px=50.0, at_px=50.0, lost_frames=0)
    scene.inspector.edges = {"left": left, "right": right}  # type: ignore[misc]
    scene.note(scene.opened())
    scene.play(*[0] * 20, every_s=0.1)
    right.middle_px = 52.0
    scene.play(*[0] * 20, every_s=0.1)
    right.state = "held"
    scene.play(*[0] * 20, every_s=0.1)
    right.state, right.middle_px = "seen", 50.0
    scene.play(*[0] * 40, every_s=0.1)
    widths = [note for note in scene.notes if isinstance(note, WidthNote)]
    assert {note.median_mm for note in widths} == {1000.0, 1050.0}
    assert [note.at_m for note in widths] == sorted({note.at_m for note in widths})
    (out,) = scene.details("width.out")
    assert (out["width_mm"], out["nominal_mm"], out["coil"]) == (1050.0, 1000.0, None)
    assert out["at_m"] == pytest.approx(2.0, abs=1.0)
    (restored,) = scene.details("width.restored")
    assert restored["seconds"] > 2
    figures = scene.states[-1][1]["width"]
    assert (figures["least_mm"], figures["most_mm"], figures["out_since"]) == (1000.0, 1050.0, None)


def test_defects_and_runs_of_lanes_are_on_their_coils() -> None:
    """Each lane counts from the start of its own coil; a place across that is not known may be in each."""
    lanes = [{"name": "left", "from_mm": 0, "to_mm": 70}, {"name": "right", "from_mm": 75, "to_mm": 90}]
    keys = {"operator_side": "left", "across_at_mm": 0.0, "lanes": lanes, "mode": "parts"}
    scene = NotedScene({**PLACED, **keys}, travel={"speed_m_per_s": 1.0})
    scene.note(scene.opened())
    scene.order(CoilOrder("start", "A-1", "left"))
    scene.play(*[0] * 10, every_s=0.1)
    scene.order(CoilOrder("start", "A-2", "right"))
    scene.play(*[0] * 20, every_s=0.1)
    scene.play(1, every_s=0.1)
    scene.order(CoilOrder("stop", lane="left"))
    scene.play(*[0] * 20, every_s=0.1)
    found = {(note.lane, note.coil) for note in scene.notes if isinstance(note, RunsNote) and note.runs}
    assert found == {(None, None), ("left", "A-1"), ("right", "A-2")}
    defect = next(each.defect for each in scene.events if each.type == "defect.opened")
    assert defect is not None
    assert defect.lane == "left"
    assert [(each.lane, each.coil) for each in defect.lane_coils] == [("left", "A-1"), ("right", "A-2")]
    at = {each.lane: each.position_m for each in defect.lane_coils}
    assert at["left"] is not None
    assert at["right"] is not None
    assert at["left"] - at["right"] == pytest.approx(1.0, abs=0.11)
    assert [each["lane"] for each in scene.details("coil.started")] == ["left", "right"]
    assert scene.details("coil.ended")[0]["coil"] == "A-1"
