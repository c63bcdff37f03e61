"""The line, played with fake cameras, a scripted network and a fake clock."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from fakes import FakeClock
from pydantic import SecretStr

from edge import config
from edge.camera.sources.device import SourceInfo
from edge.camera.supervisor import CameraEnded, CameraLost, CameraOpened, FramesLost, Notice
from edge.config.camera_calibration import CameraCalibration, Reference
from edge.coverage.strip_position import CoilNamed, PositionTracker, Speed, StripUpdate
from edge.errors import CommandError
from edge.event import Event
from edge.frame import Frame
from edge.host.clock import NS_PER_MS, NS_PER_S
from edge.pipeline.loop import (
    CameraSession,
    CoilOrder,
    InspectionLoop,
    Order,
    OrderQueue,
    Pause,
    PendingOrder,
    Resume,
    SetThresholds,
    TakeSnapshot,
)
from edge.vision.decision import Detections, Region
from edge.vision.drift import DriftDetector
from edge.vision.image_quality import Episodes, ImageCheck, ImageStats
from edge.vision.inspector import Verdict

GOOD = Verdict("ok", Detections((), ()), 8)
FLAW = Verdict("defect", Detections((Region("scratches", 0.9, (0, 0, 200, 200), 1),), ()), 8)


class FakeCameras:
    """Frames and notices as the test lays them in."""

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Frame]] = {}
        self.notices: deque[Notice] = deque()
        self.released: list[Frame] = []

    def give(self, frame: Frame) -> None:
        self.waiting.setdefault(frame.camera, deque()).append(frame)

    def wait(self, timeout_s: float) -> bool:
        return bool(self.notices or self.heads())

    def heads(self) -> tuple[tuple[str, int], ...]:
        return tuple((name, frames[0].grabbed_ns) for name, frames in self.waiting.items() if frames)

    def pop(self, name: str) -> Frame:
        return self.waiting[name].popleft()

    def release(self, frame: Frame) -> None:
        self.released.append(frame)

    def take_notices(self) -> tuple[Notice, ...]:
        taken = tuple(self.notices)
        self.notices.clear()
        return taken


class ScriptedInspector:
    """Says what the frame's first pixel stands for; 8 tiles of 0.25 ms each."""

    edges: ClassVar[dict[str, Any]] = {}
    calibrated_thresholds = None

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.episodes = Episodes()
        self.tile_ns = NS_PER_MS // 4
        self.asked: list[int | None] = []
        self.brightness = 100.0
        self.network = ""

    def sight(self, pixels: Any) -> ImageStats:
        return ImageStats(self.brightness, 0.5)

    def look(self, pixels: Any, now_ns: int) -> ImageCheck:
        return self.episodes.step((None, None, "dark", "frozen")[int(pixels[0, 0])])

    def tiles(self, pixels: Any) -> int:
        return 8

    def boxes(self, pixels: Any) -> list[Any]:
        return [(0, 0, 200, 200)]

    def inspect(
        self, pixels: Any, *, looked: bool = False, most: int | None = None, deadline_ns: int | None = None
    ) -> Verdict:
        self.asked.append(most)
        count = 8 if most is None else most
        cost_ns = count * self.tile_ns
        self.clock.advance(cost_ns / NS_PER_S)
        verdict = (GOOD, FLAW)[int(pixels[0, 0])]
        state = "unsure" if verdict.state == "ok" and count < 8 else verdict.state
        return replace(verdict, state=state, tiles=count, skipped=8 - count, inference_ns=cost_ns)


class Scene:
    """One line with its fakes."""

    def __init__(
        self,
        *cameras: dict[str, Any],
        report_s: float = 10.0,
        witness: Any = None,
        travel: dict[str, Any] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.news: deque[StripUpdate] = deque()
        self.control = OrderQueue()
        self.cameras = FakeCameras()
        self.events: list[Event] = []
        self.pictures: list[Any] = []
        self.states: list[tuple[str, dict[str, Any]]] = []
        self.coverage: list[tuple[str, dict[str, Any]]] = []
        self.sessions = [self._session(**camera) for camera in cameras or ({},)]
        self.line = InspectionLoop(
            self.sessions,
            self.cameras,
            self,
            self.clock,
            retain_state=lambda name, message: self.states.append((name, message)),
            retain_coverage=lambda name, message: self.coverage.append((name, message)),
            on_report=lambda _reports: None,
            report_s=report_s,
            witness=witness,
            control=self.control,
            travel=PositionTracker(config.Travel.model_validate(travel or {}), self.clock.monotonic_ns()),
            news=self._take_news,
            why_stale=lambda: "the last one was negative",
        )
        self.number = 0

    def _take_news(self) -> tuple[StripUpdate, ...]:
        taken = tuple(self.news)
        self.news.clear()
        return taken

    def drive(self, m_per_s: float) -> None:
        self.news.append(Speed(self.clock.monotonic_ns(), m_per_s))

    def _session(self, *, live: bool = True, **settings: Any) -> CameraSession:
        class Card:
            classes = ("scratches", "crazing")

        class Network:
            card = Card()

        camera = config.Camera(**{"name": "top", "source": SecretStr("strip:"), **settings})
        session = CameraSession(camera, Network(), self.clock, live=live)  # type: ignore[arg-type]
        session.inspector = ScriptedInspector(self.clock)  # type: ignore[assignment]
        return session

    def put(self, event: Event, picture: Any = None) -> None:
        self.events.append(event)
        self.pictures.append(picture)

    def play(self, *pictures: int, camera: str = "top", age_ms: float = 0.0, every_s: float = 0.033) -> None:
        for picture in pictures:
            grabbed = self.clock.monotonic_ns() - int(age_ms * NS_PER_MS)
            self.cameras.give(Frame(camera, self.number, np.full((4, 4), picture, np.uint8), grabbed, label="x.png"))
            self.number += 1
            self.line.turn()
            self.clock.advance(every_s)

    def note(self, *notices: Notice) -> None:
        self.cameras.notices.extend(notices)
        self.line.turn()

    def opened(self, camera: str = "top") -> CameraOpened:
        given = SourceInfo(width=800, height=400, fps=30.0, backend="strip", pixel_format="gray")
        return CameraOpened(camera, self.clock.monotonic_ns(), given)

    def kinds(self) -> list[str]:
        return [event.type for event in self.events]


def test_line_makes_two_events_of_a_defect_seen_in_many_frames() -> None:
    """One flaw over twenty frames is one opening and one closing."""
    scene = Scene()
    scene.play(0, *[1] * 20, 0, 0, 0, 0)
    assert scene.kinds() == ["defect.opened", "defect.closed"]
    opened, closed = (event.defect for event in scene.events)
    assert opened is not None
    assert closed is not None
    assert closed.track_id == opened.track_id
    assert (opened.frames, closed.frames) == (2, 20)


def test_line_in_parts_mode_gives_each_frame_its_own_events() -> None:
    """With pieces nothing is carried from frame to frame."""
    scene = Scene({"mode": "parts"})
    scene.play(1, 1, 0)
    assert scene.kinds() == ["defect.opened", "defect.closed"] * 2
    assert len({event.defect.track_id for event in scene.events if event.defect}) == 2
    assert [event.frame.number for event in scene.events if event.frame] == [0, 0, 1, 1]


def test_line_says_where_the_time_of_a_frame_went() -> None:
    """Total latency runs from grab to decision and holds the queue."""
    scene = Scene({"mode": "parts"})
    scene.play(1, age_ms=5.0)
    latency = scene.events[0].latency_ms
    assert latency is not None
    assert latency.queue == pytest.approx(5.0)
    assert latency.total == pytest.approx(7.0)


def test_line_never_inspects_a_live_frame_past_its_budget() -> None:
    """A frame that waited longer than budget_ms is late, and is not looked at."""
    scene = Scene({"budget_ms": 20})
    scene.play(1, 1, 1, age_ms=20.1)
    assert scene.sessions[0].account.report(0)["frames"]["late"] == 3
    assert scene.events == []


def test_line_lets_frames_of_a_recording_wait() -> None:
    """A recording can wait: its frames are inspected however old they are."""
    scene = Scene({"budget_ms": 20, "live": False, "mode": "parts"})
    scene.play(1, age_ms=5000)
    assert scene.kinds() == ["defect.opened", "defect.closed"]


def test_line_takes_the_earliest_deadline_first() -> None:
    """A camera with a short budget is served before one that has time, though its frame came later."""
    scene = Scene({"name": "slow", "budget_ms": 500}, {"name": "fast", "budget_ms": 10})
    now = scene.clock.monotonic_ns()
    for name, grabbed in (("slow", now - 3 * NS_PER_MS), ("fast", now)):
        scene.cameras.give(Frame(name, 0, np.zeros((4, 4), np.uint8), grabbed))
    scene.line.turn()
    assert [frame.camera for frame in scene.cameras.released] == ["fast"]


def test_line_releases_every_frame_it_took() -> None:
    """A slot of the ring comes back whatever the frame's fate."""
    scene = Scene()
    scene.play(0, 1, 2)
    scene.play(0, age_ms=1000)
    assert len(scene.cameras.released) == 4


def test_line_accounts_for_frames_that_were_lost_on_the_way() -> None:
    """Overflow is `dropped`, an unreadable file is `bad_image`; delivered is the sum of all states."""
    scene = Scene()
    scene.play(0, 1, 2)
    scene.note(FramesLost("top", 3, "overflow"), FramesLost("top", 2, "unreadable"))
    report = scene.sessions[0].account.report(scene.clock.monotonic_ns())
    assert report["frames"] == {"ok": 1, "defect": 1, "unsure": 0, "bad_image": 3, "late": 0, "dropped": 3}
    assert report["delivered"] == 8


def test_line_tells_once_that_a_camera_was_lost_and_how_long() -> None:
    """Several failed restarts are one loss; the return says for how long nothing was seen."""
    scene = Scene()
    scene.note(scene.opened())
    now = scene.clock.monotonic_ns()
    scene.note(CameraLost("top", now, "rtsp://admin:secret@cam/1 is silent"), CameraLost("top", now, "refused"))
    scene.clock.advance(4.0)
    scene.note(scene.opened())
    assert scene.kinds() == ["camera.lost", "camera.restored", "coverage.gap"]
    assert scene.events[2].detail is not None
    assert scene.events[2].detail["seconds"] == pytest.approx(4.0)
    assert scene.events[2].detail["cause"] == "no_signal"
    assert scene.events[2].detail["from"] < scene.events[2].detail["to"]
    assert [state["state"] for _, state in scene.states] == ["running", "no_signal", "no_signal", "running"]
    assert "secret" not in str(scene.states)
    report = scene.sessions[0].account.report(scene.clock.monotonic_ns())
    assert report["no_signal_s"] == pytest.approx(4.0)


def test_line_closes_what_is_open_when_the_camera_goes() -> None:
    """A defect that can no longer be followed is closed, so that no opening stays without its end."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1, 1)
    scene.note(CameraEnded("top", scene.clock.monotonic_ns(), 3))
    assert scene.kinds() == ["defect.opened", "defect.closed", "camera.ended"]


def test_line_tells_of_a_bad_picture_after_three_and_forgets_tracks_not() -> None:
    """A torn frame or two is no event; three are, and three good ones end it."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1, 2, 2, 1, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0)
    assert scene.kinds() == ["defect.opened", "image.bad", "image.restored", "defect.closed"]


def test_line_counts_frames_of_a_bad_time_as_bad_also_when_one_of_them_is_fine() -> None:
    """Between image.bad and image.restored no frame is ok; the frame that ends it is judged again."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(2, 2, 2, 0, 2, 0, 0, 0, 0)
    frames = scene.sessions[0].account.report(scene.clock.monotonic_ns())["frames"]
    assert (frames["bad_image"], frames["ok"]) == (7, 2)
    restored = scene.events[-1]
    assert restored.type == "image.restored"
    assert restored.detail is not None
    assert restored.detail["reason"] == "dark"
    assert restored.detail["seconds"] == pytest.approx(5 * 0.033, abs=0.02)


def test_line_tells_a_frozen_picture_as_a_state_of_its_own() -> None:
    """A frozen camera is `frozen` in its state, any other bad picture `bad_image`, with the reason."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(3, 3, 3, 2, 2, 2, 0, 0, 0)
    told = [(state["state"], state["reason"]) for _, state in scene.states]
    assert told == [("running", None), ("frozen", "frozen"), ("bad_image", "dark"), ("running", None)]
    reasons = [(event.type, event.detail["reason"]) for event in scene.events if event.detail]
    assert reasons == [("image.bad", "frozen"), ("image.bad", "dark"), ("image.restored", "dark")]


def test_line_looks_at_late_frames_too() -> None:
    """A frozen picture is noticed although the box is too slow to inspect it; then it is bad, not late."""
    scene = Scene({"budget_ms": 20})
    scene.play(0, 3, 3, 3, age_ms=100)
    assert scene.kinds() == ["image.bad"]
    frames = scene.sessions[0].account.report(0)["frames"]
    assert (frames["late"], frames["bad_image"]) == (1, 3)


def test_line_cuts_frames_down_before_they_are_late() -> None:
    """Tiles left out are counted and told as a gap with its time range; such a frame is unsure, never ok."""
    scene = Scene({"budget_ms": 20}, report_s=1.0)
    scene.note(scene.opened())
    scene.sessions[0].inspector.tile_ns = 4 * NS_PER_MS  # type: ignore[attr-defined]
    scene.play(*[0] * 20, every_s=0.0)
    scene.play(*[0] * 20, every_s=0.002)
    scene.clock.advance(1.0)
    scene.line.turn()
    message = scene.coverage[-1][1]["since_start"]
    assert message["delivered"] == sum(message["frames"].values()) == 40
    assert message["frames"]["ok"] == 1  # the first one: nothing was known of its cost
    assert message["frames"]["unsure"] == message["partial"] > 20
    assert message["tiles"]["inspected"] + message["tiles"]["skipped"] == 8 * (message["partial"] + 1)
    gaps = [event.detail for event in scene.events if event.type == "coverage.gap" and event.detail]
    assert {gap["cause"] for gap in gaps} == {"overload"}
    assert sum(gap.get("tiles_skipped", 0) for gap in gaps) == message["tiles"]["skipped"]
    assert all(gap["from"] <= gap["to"] for gap in gaps)


def test_line_reports_a_gap_for_frames_that_nobody_looked_at() -> None:
    """Late frames of a window are told as an event, not only counted."""
    scene = Scene(report_s=1.0)
    scene.note(scene.opened())
    scene.play(0, 0)
    scene.play(0, age_ms=100)
    scene.clock.advance(1.0)
    scene.line.turn()
    gaps = [event.detail for event in scene.events if event.type == "coverage.gap"]
    assert [gap["frames"] for gap in gaps if gap] == [{"late": 1}]
    (name, message) = scene.coverage[-1]
    assert name == "top"
    assert message["delivered"] == sum(message["frames"].values()) == 3


def test_line_thread_drains_what_the_cameras_left_before_it_ends() -> None:
    """Stopping inspects the frames that wait, closes tracks, and reports a last time."""
    scene = Scene({"live": False})
    scene.note(scene.opened())
    for number in range(5):
        pixels = np.ones((4, 4), np.uint8)
        scene.cameras.give(Frame("top", number, pixels, scene.clock.monotonic_ns()))
    scene.line.start()
    assert scene.line.stop(5.0)
    assert scene.line.failure is None
    assert scene.kinds() == ["defect.opened", "defect.closed"]
    assert scene.coverage[-1][1]["since_start"]["delivered"] == 5
    assert scene.states[-1][1]["reason"] == "stopped"


def test_line_that_breaks_says_so() -> None:
    """An error in the thread is kept for the daemon to see; it does not die in silence."""
    scene = Scene()
    scene.sessions[0].inspector = None  # type: ignore[assignment]
    scene.cameras.give(Frame("top", 0, np.zeros((4, 4), np.uint8), scene.clock.monotonic_ns()))
    scene.line.start()
    assert scene.line.stop(5.0)
    assert isinstance(scene.line.failure, AttributeError)


def test_frame_rate_in_the_state_is_measured_not_configured() -> None:
    """The state topic says what came, per second of the window."""
    scene = Scene(report_s=2.0)
    scene.note(scene.opened())
    scene.play(*[0] * 20, every_s=0.098)
    scene.clock.advance(1.0)
    scene.line.turn()
    seconds = scene.coverage[-1][1]["window_s"]
    assert scene.states[-1][1]["fps"] == pytest.approx(20 / seconds, rel=0.01)
    assert seconds < 3 * NS_PER_S


# ---- orders --------------------------------------------------------------------------------------


def ordered(scene: Scene, order: Order) -> Any:
    """The line's answer, one turn later."""
    asked = PendingOrder(order)
    scene.line._control._waiting.put(asked)
    scene.line.turn()
    return asked.wait(1)


def test_paused_camera_is_not_inspected_and_never_ok() -> None:
    """Its frames are dropped, its time is counted, its tracks are closed, and the end tells a gap."""
    scene = Scene(report_s=5.0)
    scene.note(scene.opened())
    scene.play(0, 1, 1, 1)
    done = ordered(scene, Pause("top"))
    assert (done["state"], done["paused"]) == ("paused", True)
    assert [e.type for e in scene.events[-2:]] == ["defect.closed", "camera.paused"]
    scene.play(*[1] * 30, every_s=0.1)
    assert ordered(scene, Pause("top"))["paused"]
    assert ordered(scene, Resume("top"))["state"] == "running"
    told = {e.type: e.detail for e in scene.events[-2:]}
    assert told["camera.resumed"] == {"seconds": 3.0}
    gap = {key: told["coverage.gap"][key] for key in ("cause", "seconds", "frames")}
    assert gap == {"cause": "paused", "seconds": 3.0, "frames": {"dropped": 30}}
    scene.play(0, 0)
    scene.clock.advance(5)
    scene.line.turn()
    message = scene.coverage[-1][1]
    assert message["frames"] == {"ok": 3, "defect": 3, "unsure": 0, "bad_image": 0, "late": 0, "dropped": 30}
    assert (message["paused_s"], message["paused_frames"]) == (3.0, 30)
    assert message["delivered"] == sum(message["frames"].values())
    gaps = [e.detail["cause"] for e in scene.events if e.type == "coverage.gap"]
    assert gaps == ["paused"]


def test_pause_for_a_time_ends_by_itself() -> None:
    """A camera that someone forgot is inspected again."""
    scene = Scene()
    scene.note(scene.opened())
    ordered(scene, Pause("top", 2.0))
    scene.play(1, every_s=1.0)
    assert scene.states[-1][1]["state"] == "paused"
    scene.clock.advance(1.5)
    scene.line.turn()
    assert scene.states[-1][1]["state"] == "running"
    assert scene.events[-1].type == "coverage.gap"


def test_camera_lost_in_a_pause_says_so_and_comes_back_paused() -> None:
    """A pause hides no loss, and a restart of the camera ends no pause."""
    scene = Scene()
    scene.note(scene.opened())
    ordered(scene, Pause("top"))
    scene.note(CameraLost("top", scene.clock.monotonic_ns(), "cable"))
    assert scene.states[-1][1]["state"] == "no_signal"
    scene.note(scene.opened())
    assert scene.states[-1][1]["state"] == "paused"
    assert "camera.restored" in [e.type for e in scene.events]


def test_pause_that_lasts_to_the_end_is_told() -> None:
    """A stop in a pause leaves no time unaccounted."""
    scene = Scene()
    scene.note(scene.opened())
    ordered(scene, Pause("top"))
    scene.clock.advance(3)
    scene.line._finish()
    assert ("coverage.gap", "paused") in [(e.type, (e.detail or {}).get("cause")) for e in scene.events]


def test_picture_is_the_next_one_and_a_copy() -> None:
    """Nothing of the ring's memory leaves the line; everyone who waits gets it."""
    scene = Scene()
    scene.note(scene.opened())
    waiting = [PendingOrder(TakeSnapshot("top")), PendingOrder(TakeSnapshot("top"))]
    for asked in waiting:
        scene.line._control._waiting.put(asked)
    scene.line.turn()
    scene.play(1)
    for asked in waiting:
        picture, number, label = asked.wait(1)
        assert (picture[0, 0], number, label) == (1, 0, "x.png")
        assert not np.shares_memory(picture, scene.cameras.released[0].pixels)


def test_thresholds_hold_from_the_next_frame_and_are_told() -> None:
    """In the state topic and by an event; what does not fit the model changes nothing."""
    scene = Scene()
    scene.note(scene.opened())
    judged: list[config.Decision] = []
    scene.sessions[0].inspector.judge_by = judged.append  # type: ignore[method-assign]
    decision = config.Decision(confidence=0.9)
    ordered(scene, SetThresholds("top", decision))
    assert judged == [decision]
    assert scene.states[-1][1]["thresholds"]["confidence"] == 0.9
    assert scene.events[-1].type == "thresholds.changed"


def test_order_for_a_camera_that_is_not_there_is_refused() -> None:
    """With the reason, at once."""
    answer = ordered(Scene(), Resume("side"))
    assert isinstance(answer, CommandError)
    assert answer.code == "unknown_camera"


def test_orders_are_bounded_and_void_when_nobody_waits_any_more() -> None:
    """A line that does not come round refuses; what was called off is not carried out later."""
    scene = Scene()
    scene.note(scene.opened())
    control = scene.line._control
    with pytest.raises(CommandError, match="not reached"):
        control.ask(Pause("top"), 0.01)
    scene.line.turn()
    assert scene.sessions[0].paused is None
    full = OrderQueue()
    for _ in range(8):
        full._waiting.put(PendingOrder(Resume("top")))
    with pytest.raises(CommandError, match="too many"):
        full.ask(Resume("top"), 0.01)


class FakeWitness:
    """Names a picture after its event, and notes what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None, Detections]] = []
        self.sampled: list[str] = []

    def select(self, fact: Event, camera: config.Camera, frame: Frame | None, detections: Detections) -> Any:
        self.seen.append((fact.type, None if frame is None else int(frame.pixels[0, 0]), detections))
        return fact.type

    def sample(self, frame: Frame, verdict: Verdict, boxes: Any) -> None:
        self.sampled.append(verdict.state)


def test_line_shows_the_frame_of_each_event_while_it_is_there() -> None:
    """The picture goes along with its event; opening and closing in one frame both see it, a lost camera none."""
    witness = FakeWitness()
    scene = Scene({"mode": "parts"}, witness=witness)
    scene.note(scene.opened())
    scene.play(0, 1)
    scene.note(CameraLost("top", scene.clock.monotonic_ns(), "gone"))
    assert scene.kinds() == scene.pictures == ["defect.opened", "defect.closed", "camera.lost"]
    assert witness.seen[:2] == [("defect.opened", 1, FLAW.detections), ("defect.closed", 1, FLAW.detections)]
    assert witness.seen[2][:2] == ("camera.lost", None)


def test_line_samples_inspected_frames_only() -> None:
    """Late and bad frames have no tiles that were judged."""
    witness = FakeWitness()
    scene = Scene({"budget_ms": 20}, witness=witness)
    scene.play(0, 1, 2)
    scene.play(0, age_ms=100)
    assert witness.sampled == ["ok", "defect"]


def test_line_tells_boxes_in_mm_where_the_scale_is_known() -> None:
    """The same box in both units; without a scale there is none."""
    for scale, box in ((None, None), (config.Scale(mm_per_px=0.25), (0.0, 0.0, 50.0, 50.0))):
        scene = Scene({"mode": "parts", "scale": scale})
        scene.play(1)
        assert [event.defect.box_mm for event in scene.events if event.defect] == [box, box]


def resized(scene: Scene, *sizes: tuple[int, int]) -> None:
    """Good frames of these widths and heights."""
    for width, height in sizes:
        grabbed = scene.clock.monotonic_ns()
        scene.cameras.give(Frame("top", scene.number, np.zeros((height, width), np.uint8), grabbed))
        scene.number += 1
        scene.line.turn()


def fit(scene: Scene, **made_px: tuple[int, int]) -> CameraSession:
    """Its camera with calibrated parts in use."""
    (session,) = scene.sessions
    camera = session.camera
    session.camera = camera.with_calibration(CameraCalibration(made_px=made_px))
    return session


def test_line_tells_once_of_a_calibration_that_does_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    """At the first frame or later: one event, a log line with the command, and the state."""
    scene = Scene({"scale": config.Scale(mm_per_px=0.25)})
    session = fit(scene, scale=(8, 8))
    resized(scene, (8, 8), (8, 8))
    assert scene.kinds() == []
    assert session.ruler is not None
    resized(scene, (4, 4), (4, 4), (4, 4))
    assert session.ruler is None
    assert scene.kinds() == ["calibration.refused"]
    detail = scene.events[0].detail or {}
    assert (detail["part"], detail["made_px"], detail["frame_px"]) == ("scale", [8, 8], [4, 4])
    assert "camera top" in caplog.text
    assert "`defectd calibrate scale --camera top`" in caplog.text
    told = scene.states[-1][1]["calibration"]
    assert (told["used"], [part["part"] for part in told["refused"]]) == ([], ["scale"])
    resized(scene, (8, 8))
    assert session.ruler is not None
    scene.clock.advance(10)
    scene.line.turn()
    assert scene.states[-1][1]["calibration"] == {"used": ["scale"], "refused": []}


def test_line_tells_of_sizes_that_come_and_go_a_bounded_number_of_times() -> None:
    """A stream that gives another size with each frame makes no flood."""
    scene = Scene()
    fit(scene, flatfield=(8, 8))
    resized(scene, *[(4 + n % 50, 4) for n in range(200)])
    assert scene.kinds().count("calibration.refused") == 16
    assert len(scene.cameras.released) == 200


def test_line_tells_of_drift_and_of_its_end() -> None:
    """An event with the figure and its limits, the state running with the reason, and an event when it is over."""
    made = {"time": "t", "version": "1", "source": "s", "frames": 9, "frame_px": [4, 4]}
    bright, sharp = ({"low": 0.95 * x, "middle": x, "high": 1.05 * x} for x in (100.0, 0.5))
    known = Reference.model_validate({"brightness": bright, "sharpness": sharp, "made": made})
    scene = Scene(report_s=1000)
    (session,) = scene.sessions
    session.drift = DriftDetector(known, 60)
    scene.play(*[0] * 90, every_s=1.0)
    assert scene.kinds() == []
    scene.sessions[0].inspector.brightness = 40.0  # type: ignore[attr-defined]
    scene.play(*[0] * 90, every_s=1.0)
    assert scene.kinds() == ["camera.drifted"]
    detail = scene.events[0].detail or {}
    assert (detail["began"], set(detail["figures"])) == (["brightness"], {"brightness"})
    assert detail["figures"]["brightness"]["now"] == 40
    assert detail["figures"]["brightness"]["limits"] == [pytest.approx(70), pytest.approx(130)]
    state = scene.states[-1][1]
    assert (state["state"], state["reason"]) == ("running", "drifted: brightness")
    assert state["drift"]["drifted"] == ["brightness"]
    scene.sessions[0].inspector.brightness = 100.0  # type: ignore[attr-defined]
    scene.play(*[0] * 90, every_s=1.0)
    assert scene.kinds() == ["camera.drifted", "camera.drift_cleared"]
    assert (scene.events[1].detail or {})["seconds"] == pytest.approx(60, abs=40)
    state = scene.states[-1][1]
    assert (state["state"], state["reason"], state["drift"]["since"]) == ("running", None, None)


def test_line_keeps_what_it_gathered_when_the_reference_is_the_same() -> None:
    """A reload for another reason begins no new minutes; another calibration does, and ends the drift."""
    made = {"time": "t", "version": "1", "source": "s", "frames": 9, "frame_px": [4, 4]}
    same = {"low": 95.0, "middle": 100.0, "high": 105.0}
    known = Reference.model_validate({"brightness": same, "sharpness": same, "made": made})
    scene = Scene()
    (session,) = scene.sessions
    session.drift, other = DriftDetector(known, 60), scene._session()
    session.drift_since_ns, watch = 1, session.drift
    other.drift = DriftDetector(known, 60)
    session.reconfigure(other)
    assert (session.drift, session.drift_since_ns) == (watch, 1)
    other.drift = DriftDetector(known, 120)
    session.reconfigure(other)
    assert (session.drift, session.drift_since_ns) == (other.drift, None)


# ---- where on the strip ------------------------------------------------------------------------------

PLACED = {"scale": config.Scale(mm_per_px=0.25), "direction": "up", "offset_m": -100.0}
"""Boxes of 200 px: a defect takes up 0.05 m from the edge on; the count begins 100 m up the line."""


def told(scene: Scene, kind: str) -> list[Any]:
    return [event.detail for event in scene.events if event.type == kind]


def test_line_tells_where_on_the_strip_a_defect_lies() -> None:
    """By the frame's own time, not by when it is inspected; the closing event tells the whole extent."""
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


def test_line_tells_with_the_closing_event_what_the_speed_was_meanwhile() -> None:
    """A speed that comes while a defect is in view says how far the strip had run when it was first seen."""
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
def test_line_invents_no_position(lacks: str) -> None:
    """Without a scale, a direction or a speed it is null; the line goes on as ever."""
    scene = Scene({**PLACED, lacks: None} if lacks != "speed" else PLACED, travel={"topic": "drive"})
    if lacks != "speed":
        scene.drive(2.0)
    scene.play(1, 1, 1, 0, 0, 0)
    assert [event.type for event in scene.events] == ["defect.opened", "defect.closed"]
    assert [event.defect.position_m for event in scene.events if event.defect] == [None, None]


def test_line_tells_when_the_speed_is_no_longer_known_and_again() -> None:
    """Once each, with the reason; positions are null until a coil begins."""
    scene = Scene({**PLACED, "mode": "parts"}, travel={"topic": "drive", "stale_s": 1.0})
    scene.drive(2.0)
    scene.play(1, 0, every_s=1.5)
    scene.play(0, 1)
    assert told(scene, "speed.stale") == [
        {"silent_s": pytest.approx(1.5, abs=0.1), "reason": "the last one was negative"}
    ]
    for _ in range(3):
        scene.drive(2.0)
        scene.play(1, every_s=0.5)
    assert [detail["seconds"] for detail in told(scene, "speed.restored")] == [pytest.approx(4.0, abs=0.2)]
    scene.news.append(CoilNamed(scene.clock.monotonic_ns(), "A"))
    scene.news.append(CoilNamed(scene.clock.monotonic_ns(), "B"))
    scene.play(1)
    opened = [event.defect for event in scene.events if event.type == "defect.opened" and event.defect]
    assert [defect.position_m is None for defect in opened] == [False, True, True, True, True, False]
    assert opened[-1].coil == "B"


def test_line_names_the_coil_while_the_speed_is_unknown() -> None:
    """Which coil runs does not hang on how fast it runs."""
    scene = Scene({**PLACED, "mode": "parts"}, travel={"topic": "drive", "coil_topic": "coil"})
    scene.news.append(CoilNamed(scene.clock.monotonic_ns(), "A", retained=True))
    scene.play(1)
    (opened, _) = (event.defect for event in scene.events if event.defect)
    assert opened is not None
    assert (opened.coil, opened.position_m) == ("A", None)


def test_line_tells_of_coils_by_topic_and_by_command() -> None:
    """What ended with its length, what began, and who said so; the state message shows it."""
    scene = Scene({**PLACED, "offset_m": 0.0}, travel={"topic": "drive"}, report_s=1.0)
    scene.drive(2.0)

    def order(action: Any, name: str | None = None) -> Any:
        asked = PendingOrder(CoilOrder(action, name))
        scene.control._waiting.put(asked)
        scene.line.turn()
        return asked.wait(1)

    scene.play(0, every_s=1.0)
    assert order("start", "A")["position_m"] == 0.0
    scene.play(0, every_s=1.0)
    assert order("show")["position_m"] == pytest.approx(2.0, abs=0.05)
    scene.news.append(CoilNamed(scene.clock.monotonic_ns(), "A"))
    scene.play(0, every_s=1.0)
    assert order("stop")["coil"] is None
    assert told(scene, "coil.started") == [{"coil": "A", "position_known": True, "by": "command"}]
    assert told(scene, "coil.ended") == [{"coil": "A", "length_m": pytest.approx(4.0, abs=0.1), "by": "command"}]
    scene.play(0)
    strip = scene.states[-1][1]["strip"]
    assert (strip["speed"], strip["speed_m_per_s"], strip["coil"], strip["position_m"]) == ("known", 2.0, None, None)


def test_line_tells_coverage_in_metres() -> None:
    """Late frames leave a hole in the strip; the gap says from where to where; the sums add up."""
    scene = Scene({**PLACED, "scale": config.Scale(mm_per_px=250.0)}, travel={"topic": "drive"}, report_s=2.0)
    scene.drive(1.0)
    scene.play(0, 0, 0, 0, 0, every_s=0.1)  # 4 px are 1 m
    scene.clock.advance(0.1)
    scene.play(0, 0, 0, every_s=0.1)
    scene.clock.advance(2.0)
    scene.play(0, age_ms=900)
    scene.play(0, 0)
    (gap,) = told(scene, "coverage.gap")
    assert gap["cause"] == "overload"
    assert (gap["from_m"], gap["to_m"]) == (pytest.approx(102.0, abs=0.1), pytest.approx(103.0, abs=0.1))
    strip = scene.coverage[-1][1]["strip"]
    assert strip["passed_m"] == pytest.approx(strip["inspected_m"] + strip["missed_m"])
    assert strip["unplaced_frames"] == 0
