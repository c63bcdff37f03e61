"""The inspection loop, played with fake cameras, a scripted inspector and a fake clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.inspection import DEFECT, Scene, ScriptedInspector

from edge import config
from edge.camera.notices import CameraLost
from edge.event import Defect, Event
from edge.frame import Frame
from edge.host.clock import NS_PER_MS
from edge.vision.decision import Detections
from edge.vision.inspector import Verdict

PLACED = {"scale": config.Scale(mm_per_px=0.25), "direction": "up", "offset_m": -100.0}
"""Boxes of 200 px: a defect takes up 0.05 m from the edge on; the position is 100 m further than the encoder counts."""


class FakeSelector:
    """Names a picture after its event, and records what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None, Detections]] = []
        self.sampled: list[str] = []
        self.followed: list[tuple[int, list[int]]] = []

    def select(self, fact: Event, camera: config.Camera, frame: Frame | None, detections: Detections) -> Any:
        self.seen.append((fact.type, None if frame is None else int(frame.pixels[0, 0]), detections))
        return fact.type

    def follow(self, camera: config.Camera, frame: Frame, defects: Sequence[Defect], detections: Detections) -> None:
        self.followed.append((frame.number, [defect.frames for defect in defects]))

    def dispute(self, frame: Frame, ours: Verdict, theirs: Verdict, shadow: Any, place: Any) -> None:
        pass

    def sample(self, frame: Frame, verdict: Verdict, boxes: Any, place: Any) -> None:
        assert boxes() == [(0, 0, 200, 200)]
        self.sampled.append(verdict.state)


def test_defect_in_many_frames_makes_two_events() -> None:
    """One defect over twenty frames is one opening and one closing."""
    scene = Scene()
    scene.play(0, *[1] * 20, 0, 0, 0, 0)
    assert scene.kinds() == ["defect.opened", "defect.closed"]
    opened, closed = (event.defect for event in scene.events)
    assert opened is not None
    assert closed is not None
    assert closed.track_id == opened.track_id
    assert (opened.frames, closed.frames) == (2, 20)


def test_evidence_sees_every_frame_that_shows_an_open_defect() -> None:
    """A later frame may show more of it than the first one; frames without it are not offered."""
    selector = FakeSelector()
    scene = Scene(evidence=selector)
    scene.play(0, 1, 1, 1, 0, 1, 0, 0, 0)
    assert scene.kinds() == ["defect.opened", "defect.closed"]
    assert selector.followed == [(2, [2]), (3, [3]), (5, [4])]


def test_parts_mode_gives_each_frame_its_own_events() -> None:
    """In parts mode nothing is carried from frame to frame."""
    scene = Scene({"mode": "parts"})
    scene.play(1, 1, 0)
    assert scene.kinds() == ["defect.opened", "defect.closed"] * 2
    assert len({event.defect.track_id for event in scene.events if event.defect}) == 2
    assert [event.frame.number for event in scene.events if event.frame] == [0, 0, 1, 1]


def test_event_names_the_time_of_each_stage() -> None:
    """The total latency runs from grab to verdict and includes the queue."""
    scene = Scene({"mode": "parts"})
    scene.play(1, age_ms=5.0)
    latency = scene.events[0].latency_ms
    assert latency is not None
    assert latency.queue == pytest.approx(5.0)
    assert latency.total == pytest.approx(7.0)


def test_live_frame_past_its_budget_is_late() -> None:
    """A frame that waited longer than budget_ms is late and is not inspected."""
    scene = Scene({"budget_ms": 20})
    scene.play(1, 1, 1, age_ms=20.1)
    assert scene.sessions[0].counters.account.report(0)["frames"]["late"] == 3
    assert scene.events == []


def test_frames_of_a_recording_can_wait() -> None:
    """A frame of a recording has no deadline: it is inspected however old it is."""
    scene = Scene({"budget_ms": 20, "live": False, "mode": "parts"})
    scene.play(1, age_ms=5000)
    assert scene.kinds() == ["defect.opened", "defect.closed"]


def test_inspector_gets_the_deadline_of_the_frame() -> None:
    """Grab time plus budget, for a live camera; a frame of a recording has none."""
    scene = Scene({"budget_ms": 20})
    grabbed_ns = scene.clock.monotonic_ns()
    scene.play(0)
    assert scene.inspector.asked == [(8, grabbed_ns + 20 * NS_PER_MS)]
    assert scene.cameras.released[0].deadline_ns == grabbed_ns + 20 * NS_PER_MS
    scene = Scene({"budget_ms": 20, "live": False})
    scene.play(0)
    assert scene.inspector.asked == [(8, None)]


def test_frame_with_the_earliest_deadline_is_taken_first() -> None:
    """The frame of a camera with a short budget is inspected first, though it arrived later."""
    scene = Scene({"name": "slow", "budget_ms": 500}, {"name": "fast", "budget_ms": 10})
    now = scene.clock.monotonic_ns()
    for name, grabbed in (("slow", now - 3 * NS_PER_MS), ("fast", now)):
        scene.cameras.give(Frame(name, 0, np.zeros((4, 4), np.uint8), grabbed))
    scene.loop.turn()
    assert [frame.camera for frame in scene.cameras.released] == ["fast"]


def test_every_frame_is_released() -> None:
    """A slot of the ring comes back whatever state the frame ended in."""
    scene = Scene()
    scene.play(0, 1, 2)
    scene.play(0, age_ms=1000)
    assert len(scene.cameras.released) == 4


def test_late_frame_is_checked_too() -> None:
    """A frozen picture is found although there is no time to inspect it; then it is bad, not late."""
    scene = Scene({"budget_ms": 20})
    scene.play(0, 3, 3, 3, age_ms=100)
    assert scene.kinds() == ["image.bad"]
    frames = scene.sessions[0].counters.account.report(0)["frames"]
    assert (frames["late"], frames["bad_image"]) == (1, 3)


def test_overload_skips_tiles_before_frames_are_late() -> None:
    """Skipped tiles are counted and reported as a gap with its time; such a frame is unsure, never ok."""
    scene = Scene({"budget_ms": 20}, report_s=1.0)
    scene.note(scene.opened())
    scene.inspector.tile_ns = 4 * NS_PER_MS
    scene.play(*[0] * 20, every_s=0.0)
    scene.play(*[0] * 20, every_s=0.002)
    scene.clock.advance(1.0)
    scene.loop.turn()
    message = scene.coverage[-1][1]["since_start"]
    assert message["delivered"] == sum(message["frames"].values()) == 40
    assert message["frames"]["ok"] == 1  # the first one: nothing was known of its cost
    assert message["frames"]["unsure"] == message["partial"] > 20
    assert message["tiles"]["inspected"] + message["tiles"]["skipped"] == 8 * (message["partial"] + 1)
    gaps = [event.detail for event in scene.events if event.type == "coverage.gap" and event.detail]
    assert {gap["cause"] for gap in gaps} == {"overload"}
    assert sum(gap.get("tiles_skipped", 0) for gap in gaps) == message["tiles"]["skipped"]
    assert all(gap["from"] <= gap["to"] for gap in gaps)


def test_stopped_loop_inspects_what_the_cameras_left() -> None:
    """Stopping inspects the frames that wait, closes defects, and reports a last time."""
    scene = Scene({"live": False})
    scene.note(scene.opened())
    for number in range(5):
        pixels = np.ones((4, 4), np.uint8)
        scene.cameras.give(Frame("top", number, pixels, scene.clock.monotonic_ns()))
    scene.loop.start()
    assert scene.loop.stop(5.0)
    assert scene.loop.failure is None
    assert scene.kinds() == ["defect.opened", "defect.closed"]
    assert scene.coverage[-1][1]["since_start"]["delivered"] == 5
    assert scene.states[-1][1]["reason"] == "stopped"


def test_error_in_the_thread_is_kept() -> None:
    """The daemon sees the error that ended the thread."""
    scene = Scene()
    scene.inspector.failure = AttributeError("no network")
    scene.cameras.give(Frame("top", 0, np.zeros((4, 4), np.uint8), scene.clock.monotonic_ns()))
    scene.loop.start()
    assert scene.loop.stop(5.0)
    assert isinstance(scene.loop.failure, AttributeError)


def test_frames_that_a_stop_leaves_no_time_for_are_dropped() -> None:
    """When the time to drain is over, each waiting frame is counted, and open defects are closed."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1)
    for number in range(2, 7):
        scene.cameras.give(Frame("top", number, np.ones((4, 4), np.uint8), scene.clock.monotonic_ns()))
    scene.loop.stop(0.0, drain_s=0.0)
    scene.loop.start()
    assert scene.loop.stop(5.0)
    assert scene.loop.failure is None
    assert scene.kinds() == ["defect.opened", "defect.closed", "coverage.gap"]
    frames = scene.coverage[-1][1]["since_start"]["frames"]
    assert (frames["defect"], frames["dropped"], sum(frames.values())) == (2, 5, 7)
    assert scene.sessions[0].counters.losses == {("dropped", "stopped"): 5}
    assert len(scene.cameras.released) == 7


def test_stop_cuts_the_frame_in_hand_short() -> None:
    """The inspector is asked to leave out the other tiles once the time to drain is over."""
    scene = Scene()
    seen: list[bool] = []

    class Slow(ScriptedInspector):
        def inspect(self, frame: Any, *, is_over: Any, **limits: Any) -> Verdict:
            seen.append(is_over())
            scene.loop.stop(0.0, drain_s=0.0)  # SIGTERM while the network runs
            seen.append(is_over())
            return super().inspect(frame, is_over=is_over, **limits)

    (session,) = scene.sessions
    session.settings = replace(session.settings, inspector=Slow(scene.clock))
    scene.play(0)
    assert seen == [False, True]


def test_frames_after_a_failed_round_are_counted_until_the_stop() -> None:
    """Inspection has ended, but the frame in hand and those that still come have a state, and defects are closed."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1)
    scene.inspector.failure = MemoryError()
    for number in range(2, 5):
        scene.cameras.give(Frame("top", number, np.ones((4, 4), np.uint8), scene.clock.monotonic_ns()))
    scene.loop.start()
    assert scene.loop.stop(5.0)
    assert isinstance(scene.loop.failure, MemoryError)
    assert not scene.loop.alive
    frames = scene.coverage[-1][1]["since_start"]["frames"]
    assert (frames["defect"], frames["dropped"], sum(frames.values())) == (2, 3, 5)
    assert scene.kinds().count("defect.opened") == scene.kinds().count("defect.closed") == 1


def test_selector_sees_the_frame_of_each_event() -> None:
    """The picture goes with its event; opening and closing in one frame both have it, a lost camera has none."""
    selector = FakeSelector()
    scene = Scene({"mode": "parts"}, evidence=selector)
    scene.note(scene.opened())
    scene.play(0, 1)
    scene.note(CameraLost("top", scene.clock.monotonic_ns(), "gone"))
    assert scene.kinds() == scene.pictures == ["defect.opened", "defect.closed", "camera.lost"]
    assert selector.seen[:2] == [("defect.opened", 1, DEFECT.detections), ("defect.closed", 1, DEFECT.detections)]
    assert selector.seen[2][:2] == ("camera.lost", None)


def test_only_inspected_frames_are_sampled() -> None:
    """Late and bad frames have no inspected tiles."""
    selector = FakeSelector()
    scene = Scene({"budget_ms": 20}, evidence=selector)
    scene.play(0, 1, 2)
    scene.play(0, age_ms=100)
    assert selector.sampled == ["ok", "defect"]


def test_defect_has_its_box_in_mm_where_the_scale_is_known() -> None:
    """The same box in both units; without a scale there is none."""
    for scale, box in ((None, None), (config.Scale(mm_per_px=0.25), (0.0, 0.0, 50.0, 50.0))):
        scene = Scene({"mode": "parts", "scale": scale})
        scene.play(1)
        assert [event.defect.box_mm for event in scene.events if event.defect] == [box, box]


def test_defect_has_its_position_on_the_strip() -> None:
    """By the time of the grab, not of the inspection; the closing event has the whole extent."""
    scene = Scene(PLACED, travel={"topic": "drive"})
    scene.drive(2.0)
    scene.play(0, 1, 1, 1, 0, 0, 0, every_s=0.1, age_ms=10)
    opened, closed = (event.defect for event in scene.events if event.defect)
    assert opened is not None
    assert closed is not None
    assert opened.position_m == closed.position_m == pytest.approx(100 + 2 * 0.1 - 2 * 0.01, abs=0.01)
    assert opened.length_mm == pytest.approx(50 + 200, abs=10)
    assert closed.length_mm == pytest.approx(50 + 400, abs=10)
    assert (opened.box_mm, opened.coil) == ((0.0, 0.0, 50.0, 50.0), None)


def test_closing_event_uses_speeds_that_arrived_later() -> None:
    """A speed that arrives while a defect is in view corrects where it was first seen."""
    scene = Scene(PLACED, travel={"topic": "drive"})
    scene.drive(1.0)
    scene.play(0, 1, 1, every_s=0.1)
    scene.drive(3.0)
    scene.play(0, 0, 0)
    opened, closed = (event.defect for event in scene.events if event.defect)
    assert opened is not None
    assert closed is not None
    assert opened.position_m == pytest.approx(100.1, abs=0.005)
    assert closed.position_m == pytest.approx(100.1 + (3.0 - 1.0) / 0.3 * 0.1**2 / 2, abs=0.005)


@pytest.mark.parametrize("lacks", ["scale", "direction", "speed"])
def test_no_position_is_invented(lacks: str) -> None:
    """Without a scale, a direction or a speed the position is null; inspection goes on."""
    scene = Scene({**PLACED, lacks: None} if lacks != "speed" else PLACED, travel={"topic": "drive"})
    if lacks != "speed":
        scene.drive(2.0)
    scene.play(1, 1, 1, 0, 0, 0)
    assert [event.type for event in scene.events] == ["defect.opened", "defect.closed"]
    assert [event.defect.position_m for event in scene.events if event.defect] == [None, None]
