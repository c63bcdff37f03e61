"""An inspection loop with fake cameras, a scripted inspector and a fake clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from pydantic import SecretStr

from edge import config
from edge.camera.notices import CameraOpened, Notice
from edge.camera.sources.contract import SourceInfo
from edge.coverage.severity import Severities
from edge.coverage.strip_position import PositionTracker, Speed, StripUpdate
from edge.delivery.frame_tap import FrameTap
from edge.event import Event
from edge.frame import Box, Frame, Gray
from edge.host.clock import NS_PER_MS, NS_PER_S
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.orders import Order, OrderQueue, PendingOrder
from edge.pipeline.reporting import Report, Subscribers
from edge.pipeline.strip_monitor import StripInput
from edge.vision.decision import Detections, Region
from edge.vision.domain import Suspect
from edge.vision.image_quality import Episodes, ImageStats
from edge.vision.inspector import PreparedFrame, Verdict
from fakes.clock import FakeClock

TILES = 8
GOOD = Verdict("ok", Detections((), ()), TILES)
DEFECT = Verdict("defect", Detections((Region("scratches", 0.9, (0, 0, 200, 200), 1),), ()), TILES)


class FakeCameras:
    """Frames and notices that the test puts in."""

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


@dataclass(frozen=True, slots=True, eq=False)
class EightTiles(PreparedFrame):
    """A frame of any size with eight tiles."""

    @property
    def tiles(self) -> int:
        return TILES

    def boxes(self) -> list[Box]:
        return [(0, 0, 200, 200)]


@dataclass
class ScriptedInspector:
    """The first pixel is the script: 0 good, 1 a defect, 2 dark, 3 frozen.  Eight tiles of 0.25 ms each."""

    clock: FakeClock
    episodes: Episodes = field(default_factory=Episodes)
    tile_ns: int = NS_PER_MS // 4
    brightness: float = 100.0
    failure: Exception | None = None
    broken: int = 0
    asked: list[tuple[int | None, int | None]] = field(default_factory=list)
    """Tiles and deadline of each inspection."""
    made: list[tuple[Any, config.Decision | None]] = field(default_factory=list)
    """Models and thresholds of the inspectors that were made from this one."""
    edges: ClassVar[dict[str, Any]] = {}
    calibrated_thresholds: ClassVar[config.CalibratedThresholds | None] = None
    network: ClassVar[str] = ""
    taught: ClassVar[Any] = None
    surface: Any = None
    """What `suspects` are compared with: any object, or None."""
    distances: Sequence[float] = ()
    """Of the suspect tiles of each frame."""
    names_known: bool = True

    def suspects(self, verdict: Verdict) -> list[Suspect]:
        return [Suspect(0, distance) for distance in self.distances]

    def check(self, image: Gray, now_ns: int) -> PreparedFrame:
        fault = (None, None, "dark", "frozen")[int(image[0, 0])]
        return EightTiles(image, None, self.episodes.step(fault))

    def prepare(self, image: Gray, *, follow: bool) -> PreparedFrame:
        return EightTiles(image, None)

    def stats(self, frame: PreparedFrame) -> ImageStats:
        return ImageStats(self.brightness, 0.5)

    def inspect(
        self,
        frame: PreparedFrame,
        *,
        max_tiles: int | None,
        deadline_ns: int | None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Verdict:
        self.asked.append((max_tiles, deadline_ns))
        if self.failure is not None:
            raise self.failure
        count = TILES if max_tiles is None else max_tiles
        cost_ns = count * self.tile_ns
        self.clock.advance(cost_ns / NS_PER_S)
        verdict = (GOOD, DEFECT)[int(frame.pixels[0, 0])]
        state = "unsure" if verdict.state == "ok" and count < TILES else verdict.state
        skipped = TILES - count
        return replace(verdict, state=state, tiles=count, skipped=skipped, inference_ns=cost_ns, broken=self.broken)

    def fitted(self, classifier: Any = None, decision: config.Decision | None = None) -> ScriptedInspector:
        self.made.append((classifier, decision))
        return replace(self, failure=None, broken=0)


class Network:
    """As much of a classifier as a session needs before its inspector is replaced."""

    card = SimpleNamespace(classes=("scratches", "crazing"))


class Scene:
    """One inspection loop with its fakes.  Nothing runs: each `play` and `note` is a turn."""

    def __init__(
        self,
        *cameras: dict[str, Any],
        report_s: float = 10.0,
        evidence: Any = None,
        travel: dict[str, Any] | None = None,
        tap: FrameTap | None = None,
        severities: Severities | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.updates: deque[StripUpdate] = deque()
        self.orders = OrderQueue()
        self.cameras = FakeCameras()
        self.events: list[Event] = []
        self.pictures: list[Any] = []
        self.states: list[tuple[str, dict[str, Any]]] = []
        self.coverage: list[tuple[str, dict[str, Any]]] = []
        self.reports: list[Report] = []
        self.removed: list[str] = []
        self.sessions = [self.session(**camera) for camera in cameras or ({},)]
        self.loop = InspectionLoop(
            self.sessions,
            self.cameras,
            Subscribers(
                self,
                state=lambda name, message: self.states.append((name, message)),
                coverage=lambda name, message: self.coverage.append((name, message)),
                reports=self.reports.extend,
                removed=self.removed.append,
                evidence=evidence,
            ),
            self.clock,
            report_s=report_s,
            orders=self.orders,
            strip=StripInput(
                PositionTracker(config.Travel.model_validate(travel or {}), self.clock.monotonic_ns()),
                self._take_updates,
                lambda: "the last one was negative",
            ),
            tap=tap,
            severities=severities,
        )
        self.number = 0

    def _take_updates(self) -> tuple[StripUpdate, ...]:
        taken = tuple(self.updates)
        self.updates.clear()
        return taken

    def session(self, *, live: bool = True, **settings: Any) -> CameraSession:
        network: Any = Network()
        camera = config.Camera(**{"name": "top", "source": SecretStr("strip:"), **settings})
        session = CameraSession.of(camera, network, self.clock, live=live)
        session.settings = replace(session.settings, inspector=ScriptedInspector(self.clock))
        return session

    @property
    def inspector(self) -> ScriptedInspector:
        """Of the only camera."""
        (session,) = self.loop.sessions
        assert isinstance(session.inspector, ScriptedInspector)
        return session.inspector

    def put(self, event: Event, picture: Any = None) -> None:
        self.events.append(event)
        self.pictures.append(picture)

    def play(self, *pictures: int, camera: str = "top", age_ms: float = 0.0, every_s: float = 0.033) -> None:
        """Frames of a camera, one a turn.  age_ms: since they were grabbed."""
        for picture in pictures:
            grabbed = self.clock.monotonic_ns() - int(age_ms * NS_PER_MS)
            self.cameras.give(Frame(camera, self.number, np.full((4, 4), picture, np.uint8), grabbed, label="x.png"))
            self.number += 1
            self.loop.turn()
            self.clock.advance(every_s)

    def play_sizes(self, *sizes: tuple[int, int]) -> None:
        """Good frames of these widths and heights."""
        for width, height in sizes:
            pixels = np.zeros((height, width), np.uint8)
            self.cameras.give(Frame("top", self.number, pixels, self.clock.monotonic_ns()))
            self.number += 1
            self.loop.turn()

    def note(self, *notices: Notice) -> None:
        self.cameras.notices.extend(notices)
        self.loop.turn()

    def opened(self, camera: str = "top") -> CameraOpened:
        actual = SourceInfo(width=800, height=400, fps=30.0, backend="strip", pixel_format="gray")
        return CameraOpened(camera, self.clock.monotonic_ns(), actual)

    def order(self, order: Order) -> Any:
        """The loop's answer, one turn later."""
        pending = self.send(order)
        self.loop.turn()
        return pending.wait(1)

    def send(self, order: Order) -> PendingOrder:
        """Put an order into the queue."""
        pending = PendingOrder(order)
        self.orders._waiting.put(pending)
        return pending

    def drive(self, m_per_s: float) -> None:
        self.updates.append(Speed(self.clock.monotonic_ns(), m_per_s))

    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def details(self, kind: str) -> list[Any]:
        return [event.detail for event in self.events if event.type == kind]
