"""Frames for people who look: what is shown is what was found in that very frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from fakes.inspection import TILES, Scene, ScriptedInspector

from edge.coverage.strip_position import Speed
from edge.delivery.frame_tap import FrameTap, ShownFrame
from edge.frame import Frame
from edge.host.clock import NS_PER_S
from edge.pipeline.orders import Pause
from edge.vision.decision import Detections, Region
from edge.vision.inspector import Verdict

WATCHED = {"top": 1000.0}


@dataclass
class MovingDefect(ScriptedInspector):
    """One defect, whose box starts where the second pixel of the frame says."""

    def inspect(self, frame: Any, **limits: Any) -> Verdict:
        verdict = super().inspect(frame, **limits)
        if not verdict.detections.regions:
            return verdict
        at = int(frame.pixels[0, 1])
        box = (at, 0, 100, 100)
        looks_like = (("patches", 0.4),)
        region = Region("unknown", 0.9 + at / 10_000, box, 1, box, 1.5, (at + 10, 5, 20, 30), looks_like)
        return replace(verdict, detections=Detections((region,), ()))


class Viewer:
    """A loop with a tap, and everything that is taken from it."""

    def __init__(self, **camera: Any) -> None:
        self.tap = FrameTap()
        self.scene = Scene(camera, travel={"topic": "plant/speed"}, tap=self.tap)
        (session,) = self.scene.sessions
        session.settings = replace(session.settings, inspector=MovingDefect(self.scene.clock))
        self.woken = 0
        self.scene.note(self.scene.opened())

    def watch(self, wanted: dict[str, float] = WATCHED) -> None:
        def wake() -> None:
            self.woken += 1

        self.tap.watch(wanted, wake)

    def play(self, script: int, at: int = 0) -> ShownFrame | None:
        """One frame of the camera.  Returns what is shown of it."""
        pixels = np.zeros((200, 400), np.uint8)
        pixels[0, :2] = script, at
        self.scene.cameras.give(Frame("top", self.scene.number, pixels, self.scene.clock.monotonic_ns()))
        self.scene.number += 1
        self.scene.loop.turn()
        pixels[:] = 255  # the ring takes the memory of the frame back
        self.scene.clock.advance(0.033)
        shown = self.tap.take()
        return shown[0] if shown else None


def test_while_nobody_looks_no_frame_is_copied() -> None:
    """The tap is not even asked whether one is due."""
    viewer = Viewer()
    viewer.tap.is_due = viewer.tap.put = None  # type: ignore[method-assign,assignment]
    for script in (0, 1, 2):
        assert viewer.play(script) is None


def test_every_frame_is_shown_with_its_own_boxes() -> None:
    """A defect that moves in each frame: number, pixels and box are of one frame, after the ring took it back."""
    viewer = Viewer()
    viewer.watch()
    tracks = []
    for n in range(12):
        at = 5 * n + 1
        frame = viewer.play(1, at)
        assert frame is not None
        (region,) = frame.regions
        assert (frame.number, int(frame.pixels[0, 1]), region.box_px[0]) == (n, at, at)
        assert (frame.state, region.class_name, region.anomaly) == ("defect", "unknown", 1.5)
        assert region.candidates == (("patches", 0.4),)
        assert region.confidence == pytest.approx(0.9 + at / 10_000)
        assert region.extent_px == (at + 10, 5, 20, 30)
        tracks.append(region.track_id)
    (opened,) = [event.defect for event in viewer.scene.events if event.type == "defect.opened"]
    assert opened is not None
    assert tracks[0] is None
    assert set(tracks[-5:]) == {opened.track_id}
    assert viewer.woken == 12


def test_frames_that_were_not_inspected_are_shown_without_boxes() -> None:
    """A bad picture, a pause, a frame that came too late."""
    viewer = Viewer()
    viewer.watch()
    bad = viewer.play(2)
    assert bad is not None
    assert (bad.state, bad.regions, bad.tiles.inspected) == ("bad_image", (), 0)
    viewer.scene.play(0, age_ms=500.0)
    (late,) = viewer.tap.take()
    assert late.state == "late"
    viewer.scene.order(Pause("top"))
    paused = viewer.play(1)
    assert paused is not None
    assert (paused.state, paused.regions) == ("dropped", ())


def test_tiles_position_and_length_are_stated() -> None:
    """In metres of the coil, and in millimetres along the strip."""
    viewer = Viewer(scale={"mm_per_px": 0.5}, direction="left", roi=(0, 0, 400, 100))
    viewer.watch()
    viewer.scene.loop._strip.tracker.start_coil("B1", viewer.scene.clock.monotonic_ns())
    viewer.scene.updates.append(Speed(viewer.scene.clock.monotonic_ns(), 2.0))
    viewer.play(0)
    viewer.scene.loop._strip.tracker.start_coil("B2", viewer.scene.clock.monotonic_ns())
    viewer.scene.clock.advance(0.5)
    frame = viewer.play(1, 9)
    assert frame is not None
    assert (frame.coil, frame.position_m) == ("B2", pytest.approx(1.0, abs=0.01))
    assert (frame.tiles.inspected, frame.tiles.skipped) == (TILES, 0)
    assert frame.roi_px == (0, 0, 400, 100)
    assert frame.regions[0].length_mm == 10.0


def test_frames_are_shown_at_the_rate_that_is_wanted() -> None:
    """Of a camera with 30 frames a second, 10 in a second: not each fourth because each third is a little early."""
    viewer = Viewer()
    viewer.watch({"top": 10.0, "other": 3.0})
    start_ns = viewer.scene.clock.monotonic_ns()
    shown = [frame.number for frame in (viewer.play(0) for _ in range(91)) if frame is not None]
    seconds = (viewer.scene.clock.monotonic_ns() - start_ns) / NS_PER_S
    assert len(shown) / seconds == pytest.approx(10.0, rel=0.05)
    viewer.watch({"other": 5.0})
    assert viewer.play(0) is None


def test_the_newest_frame_replaces_one_that_nobody_took() -> None:
    """One copy a camera, however slow the viewer is; a camera that is not wanted any more has none."""
    viewer = Viewer()
    viewer.watch()
    viewer.scene.play(0, 0, 0)
    (frame,) = viewer.tap.take()
    assert frame.number == 2
    viewer.scene.play(0)
    viewer.watch({"other": 5.0})
    assert viewer.tap.take() == ()


def test_the_reading_of_the_strip_is_renewed_between_reports() -> None:
    """The page shows the position as it runs; reports come each 10 s."""
    viewer = Viewer(scale={"mm_per_px": 0.5}, direction="left")
    viewer.scene.updates.append(Speed(viewer.scene.clock.monotonic_ns(), 2.0))
    viewer.play(0)
    found = []
    for _ in range(20):
        viewer.play(0)
        found.append(viewer.scene.loop.reading.position_m)
    assert 2 <= len(set(found)) <= 5
