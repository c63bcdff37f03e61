"""A coil of the generated strip through the real inspection, with known truth: what passed, and what was found.

Two cameras of the top surface overlap, one of the bottom follows wandering, tapering edges. The line threads, speeds
up, slows down, stands still and goes on. A roll marks the top. One camera is dark for some meters, another
gives no frames. The clock is a fake: frames come at exact times, and the load of the machine leaves out none.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from edge import config
from edge.camera.notices import CameraOpened
from edge.camera.simulator_defaults import described
from edge.camera.sources.contract import SourceInfo
from edge.camera.sources.simulator import Strip, StripDefect
from edge.config import parse
from edge.config.camera_calibration import CameraCalibration, Track
from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_judge import CoilJudge, JudgeRules
from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_record import CoilRecord
from edge.coverage.strip_position import PositionTracker, Speed, StripUpdate
from edge.coverage.strip_trace import StripTrace
from edge.delivery.coils.output import CoilsOutput
from edge.delivery.outbox.rows import Draft
from edge.delivery.output import OutputContext
from edge.event import EVENT_TYPES, Event, Origin, as_json
from edge.frame import Frame
from edge.model import bundle
from edge.model.variant import choose
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.fixed_periods import fixed_periods_m
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import CoilOrder, OrderQueue, PendingOrder
from edge.pipeline.reporting import Subscribers
from edge.pipeline.strip_monitor import StripInput
from fakes.clock import FakeClock
from fakes.inspection import FakeCameras
from fakes.outbox import open_reporting

MM_PER_PX = 0.5
FPS = 20.0
TOP_PX, BOTTOM_PX = 1500, 1280
"""Width of the strip at the cameras of the top, and of the picture at that of the bottom."""
PERIOD_M, MARK_AT_PX = 0.9, 1150
COIL = "A4711"
ORIGIN = Origin("line3", "boot-1", {"name": "builtin", "version": "1", "sha256": "ab" * 32}, "cd" * 32)
SPEEDS = ((0.0, 0.3), (4.0, 1.2), (20.0, 1.2), (23.0, 0.4), (26.0, 0.4), (28.0, 0.0), (32.0, 0.0), (35.0, 1.2))
"""Seconds, m/s; between them the speed changes evenly, afterwards it stays."""
PRODUCTS = [
    {
        "product": "sheet",
        "severity": [{"severity": "major", "min_length_mm": 60.0}],
        "max_missed_share": 0.5,
        "grades": [
            {"grade": "A", "minor": 5, "roll_marks": 0, "missed_share": 0.01},
            {"grade": "B", "minor": 100_000, "roll_marks": 1, "missed_share": 0.5},
        ],
    }
]


@dataclass(frozen=True, slots=True)
class Hole:
    """Meters of the coil in which one camera does not inspect.  is_dark: its pictures are black; else none come."""

    camera: str
    from_m: float
    to_m: float
    is_dark: bool


class CoilRun:
    """One coil from its start to its grade.  Use it as a context manager; `run` does all."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        length_m: float,
        *,
        holes: tuple[Hole, ...] = (),
        missing: float = 0.2,
        clean: bool = False,
    ) -> None:
        """missing: share of the turns of the roll that leave no mark.  clean: no defect, and no mark."""
        self.length_m, self.holes = length_m, holes
        mark = f"&mark_px={PERIOD_M * 1000 / MM_PER_PX}&mark_x_px={MARK_AT_PX}&mark_class=scratches"
        mark += f"&mark_jitter_px=2&mark_missing={missing}"
        spacing_px = 1_000_000 if clean else 1400
        mark = "" if clean else mark
        side = f"strip:?height=400&mm_per_px={MM_PER_PX}&seed={seed}&spacing_px={spacing_px}"
        sources = {
            "left": f"{side}&width=800&strip_px={TOP_PX}&x_px=0{mark}",
            "right": f"{side}&width=800&strip_px={TOP_PX}&x_px=700{mark}",
            "below": f"{side}&width={BOTTOM_PX}&border_px=120&wander_px=50&taper_px=60",
        }
        cameras: list[dict[str, Any]] = [
            {"name": name, "source": source, "fps": FPS, "live": False} for name, source in sources.items()
        ]
        cameras[2] |= {"surface": "bottom", "roi": [200, 0, BOTTOM_PX - 400, 400]}
        raw = {"node": "line3", "state_dir": "state", "cameras": cameras, "grading": PRODUCTS}
        self.settings = described(parse(raw, origin="test", base=folder, env={}))
        self.settings = self.settings.model_copy(update={"travel": config.Travel(topic="drive")})
        self.settings.state_dir.mkdir(parents=True)
        self.strips = {name: Strip.from_url(source) for name, source in sources.items()}
        self.clock = FakeClock()
        self.box = open_reporting(self.settings.state_dir, max_rows=100_000, keep_delivered=100_000)
        self.events: list[Event] = []
        self.updates: deque[StripUpdate] = deque()
        self.orders = OrderQueue()
        self.fake_cameras = FakeCameras()
        trace = StripTrace()
        classifier = choose(bundle.load("builtin"), config.Model(precision="int8"), self.clock).classifier
        sessions = [
            CameraSession.of(_placed(camera), classifier, self.clock, live=False) for camera in self.settings.cameras
        ]
        self.loop = InspectionLoop(
            sessions,
            self.fake_cameras,
            Subscribers(self, notes=trace.put),
            self.clock,
            report_s=1.0,
            orders=self.orders,
            strip=StripInput(PositionTracker(self.settings.travel, self.clock.monotonic_ns()), self._take_updates),
        )
        context = OutputContext(self.settings, self.box, self.clock, self.box.last_seq + 1, trace=trace)
        self.output = CoilsOutput(context, trace)
        self.judge = CoilJudge(
            self.settings.state.coils,
            JudgeRules.of(self.settings.products, []),
            self,
            self.clock,
            lambda: fixed_periods_m(self.loop.sessions, self.loop.reading.m_per_s),
        )
        self.start_m = 0.0
        """Where the coil starts on the strip, m."""
        self.seen: dict[str, list[tuple[int, int]]] = {name: [] for name in self.strips}
        """The rows of the strip in the good frames of each camera."""
        self.number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.output._book.close()
        self.box.close()

    # ---- sinks -----------------------------------------------------------------------------------------

    def put(self, event: Event, _picture: Any = None) -> None:
        self.events.append(event)
        draft = Draft("n/event", as_json(event, ORIGIN), event.event_id, EVENT_TYPES[event.type])
        self.box.append([draft])

    def _take_updates(self) -> tuple[StripUpdate, ...]:
        taken = tuple(self.updates)
        self.updates.clear()
        return taken

    # ---- the run ---------------------------------------------------------------------------------------

    def run(self) -> tuple[CoilRecord, CoilJudgement]:
        """The record and the judgement of the coil."""
        for name in self.strips:
            info = SourceInfo("strip", self.strips[name].width, 400, FPS, "GREY")
            self.fake_cameras.notices.append(CameraOpened(name, self.clock.monotonic_ns(), info))
        s, has_started, has_ended, after = 0.0, False, False, 0
        while after < 40 * FPS:
            at_m = travelled_m(s)
            self.updates.append(Speed(self.clock.monotonic_ns(), speed_m_per_s(s)))
            if not has_started and at_m >= 1.0:
                self.start_m, has_started = at_m, True
                self._order(CoilOrder("start", COIL))
            elif not has_ended and has_started and at_m - self.start_m >= self.length_m:
                self.length_m, has_ended = at_m - self.start_m, True
                self._order(CoilOrder("stop"))
            if after < 2 * FPS:
                self._frames(at_m)
            else:
                self.loop.turn()
            after += has_ended
            if self.number % int(FPS) == 0:
                self._write()
            self.number += 1
            s += 1 / FPS
            self.clock.advance(1 / FPS)
        for _ in range(20):
            self.clock.advance(60.0)
            self._write()
        path = coil_record.find(self.settings.state.coils, COIL)
        assert path is not None
        judgement = coil_judgement.load(self.settings.state.coils, coil_record.record_id(path))
        assert judgement is not None
        return coil_record.read(path), judgement

    def _frames(self, at_m: float) -> None:
        top = round(at_m * 1000 / MM_PER_PX)
        for name, strip in self.strips.items():
            hole = self._hole(name, at_m - self.start_m)
            if hole is None or hole.is_dark:
                pixels = np.zeros((400, strip.width), np.uint8) if hole else strip.view(top, self.number)
                self.fake_cameras.give(Frame(name, self.number, pixels, self.clock.monotonic_ns()))
                if hole is None:
                    self.seen[name].append((top, top + 400))
        self.loop.turn()
        while self.fake_cameras.heads():
            self.loop.turn()

    def _hole(self, camera: str, on_coil_m: float) -> Hole | None:
        found = (hole for hole in self.holes if hole.camera == camera and hole.from_m <= on_coil_m < hole.to_m)
        return next(found, None)

    def _write(self) -> None:
        while self.output.turn():
            pass
        self.judge.turn()

    def _order(self, order: CoilOrder) -> None:
        self.loop.turn()
        pending = PendingOrder(order)
        self.orders._waiting.put(pending)
        self.loop.turn()
        pending.wait(1)

    # ---- the truth -------------------------------------------------------------------------------------

    def on_coil_m(self, row: float) -> float:
        return row * MM_PER_PX / 1000 - self.start_m

    def truth(self, camera: str) -> list[StripDefect]:
        """The defects that lie wholly on the coil, and in this camera's picture with at least half of their width."""
        strip, found = self.strips[camera], []
        first, end = (round((self.start_m + m) * 1000 / MM_PER_PX) for m in (0.0, self.length_m))
        for defect in strip.defects(first, end):
            x, y, w, h = defect.box
            shown = min(x + w, strip.x_px + strip.width) - max(x, strip.x_px)
            if first <= y and y + h <= end and 2 * shown >= w:
                found.append(defect)
        return found

    def all_near(self, camera: str) -> list[StripDefect]:
        """Everything that may show a part on the coil."""
        first, end = (round((self.start_m + m) * 1000 / MM_PER_PX) for m in (0.0, self.length_m))
        return self.strips[camera].defects(first, end)

    def shows(self, camera: str, defect: StripDefect) -> bool:
        """Whether a good frame of this camera has it whole."""
        _, y, _, h = defect.box
        return any(first <= y and y + h <= last for first, last in self.seen[camera])

    def holes_m(self, camera: str) -> list[tuple[float, float]]:
        """What no good frame of this camera shows, on the coil."""
        found, at_m = [], 0.0
        for first, last in self.seen[camera]:
            start, end = self.on_coil_m(first), self.on_coil_m(last)
            if start > at_m + 1e-6 and start <= self.length_m:
                found.append((at_m, start))
            at_m = max(at_m, end)
        return found


def _placed(camera: config.Camera) -> config.Camera:
    """The camera of the bottom follows both edges, and counts from the one that it sees."""
    if camera.name != "below":
        return camera
    track = Track(seen_px={"left": (60.0, 220.0), "right": (BOTTOM_PX - 220.0, BOTTOM_PX - 60.0)}, margin_px=4)
    return camera.model_copy(update={"across_at_mm": None}).with_calibration(CameraCalibration(track=track))


def speed_m_per_s(s: float) -> float:
    return float(np.interp(s, [at for at, _ in SPEEDS], [speed for _, speed in SPEEDS]))


def travelled_m(s: float) -> float:
    """The integral of the speed."""
    knots = sorted({0.0, s, *(at for at, _ in SPEEDS if at < s)})
    return sum((b - a) * (speed_m_per_s(a) + speed_m_per_s(b)) / 2 for a, b in itertools.pairwise(knots))
