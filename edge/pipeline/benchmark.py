"""How fast this box is: the network alone, whole frames beside the loops of others, and how many cameras it holds.

Only ratios of figures that were measured side by side mean anything beyond this box and this hour: the paths that are
compared take turns, frame by frame.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from pydantic import SecretStr

from edge import config, event
from edge.camera.sources.simulator import Strip
from edge.camera.supervisor import Notice, Supervisor
from edge.errors import BundleError
from edge.frame import Frame, Gray
from edge.host import machine
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock, SystemClock
from edge.host.interleaved_timer import BURST, interleaved
from edge.model.bundle import Bundle, selftest_tiles
from edge.model.classifier import Classifier, foreign
from edge.model.variant import NETWORKS, choose
from edge.pipeline.camera_session import STAGES, CameraSession
from edge.pipeline.histogram import Counts, Histogram, Summary
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.reporting import Picture, Subscribers
from edge.pipeline.scheduler import Head
from edge.vision.inspector import Inspector, PreparedFrame

THREADS: Final = (1, 2)
BATCHES: Final = (1, 8, 32)
FRAMES: Final = ((200, 200), (800, 400), (1600, 256), (2048, 2048))
"""Width and height: a patch, the default strip, a line-scan frame, an area frame."""
MIN_PX: Final = 256
"""The generated strip comes no narrower."""
SIDE_BY_SIDE: Final = (1600, 256)
DAEMON: Final = "daemon: health, tiles, network, decision, accounts"
ALONE: Final = "of it, the network alone"
NAIVE: Final = "naive: cv2.resize and one run per tile, same student"
REFERENCE: Final = "reference: PIL, 224 px, normalise, its network"
REFERENCE_PX: Final = 224
REFERENCE_MEAN: Final = (0.485, 0.456, 0.406)
REFERENCE_STD: Final = (0.229, 0.224, 0.225)
PACES: Final = (10, 30)
MAX_CAMERAS: Final = 32
SETTLE_S: Final = 2.0
"""Cameras start, and the scheduler learns what they cost."""
LOOK_S: Final = 0.05
LOST: Final = 0.01
"""Share of the frames that a box may miss and still count as degrading, not as failing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured call.  network: fp32 or int8.  tiles: how many the call judged; batch: how many at once."""

    what: str
    network: str
    threads: int
    batch: int
    tiles: int
    ms: Summary


@dataclass(frozen=True, slots=True)
class Side:
    """One of the paths that were measured side by side.

    us: per tile.  ratios: of its median to that of the daemon's frame path, by the network that the daemon runs.
    """

    what: str
    network: str
    tiles: int
    us: Summary
    ratios: dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """So many cameras at such a pace, and what became of their frames."""

    cameras: int
    fps: float
    network: str
    verdict: str
    """stable: every tile of every frame.  degrading: tiles left out, or up to 1 % missed.  failing: more than that."""
    stages: dict[str, Summary]
    """`line.STAGES` of the inspected frames; total is from grab to verdict."""
    partial: float
    """Share of the frames inspected in part."""
    missed: float
    """Share of the frames late or dropped."""
    daemon_cpu: float
    camera_cpu: float
    """Cores: of this process, and of each camera process."""
    daemon_bytes: int
    camera_bytes: int


def rows(loaded: Bundle) -> int:
    """How many `measure` gives."""
    return len(THREADS) * (len(loaded.networks) * len(BATCHES) + len(FRAMES))


def measure(loaded: Bundle, model: config.Model, calls: int, clock: Clock | None = None) -> Iterator[Row]:
    """Rows as they are measured: every network, and frames with the one that `model` asks for.

    calls: n of each row; big frames get fewer, never under 10.  Raises BundleError.
    """
    clock = clock or SystemClock()
    side = loaded.card.input_px
    for network, file in _networks(loaded).items():
        for threads in THREADS:
            for batch in BATCHES:
                classifier = Classifier(loaded, threads=threads, batch=batch, network=file)
                tiles = selftest_tiles(1, batch, side)
                yield Row(
                    "network", network, threads, batch, batch, _time(partial(classifier.score, tiles), calls, clock)
                )
    chosen = choose(loaded, model, clock).classifier.network
    for threads in THREADS:
        classifier = Classifier(loaded, threads=threads, network=chosen)
        for width, height in FRAMES:
            path = FramePath(classifier, _camera(loaded), generated(width, height), clock)
            share = max(10, calls // max(1, path.tiles // 16))
            what = f"frame {width}x{height}, {path.tiles} tiles"
            yield Row(what, NETWORKS[chosen], threads, 32, path.tiles, _time(path.turn, share, clock))


def side_by_side(loaded: Bundle, calls: int, reference: Path | None, clock: Clock | None = None) -> list[Side]:
    """The daemon's frame path, and the same tiles as others would judge them: one thread, BURST frames in turns.

    Each network of the bundle in each path.  reference: an ONNX file that takes (1, 3, 224, 224) float32; left out
    when None.  Raises BundleError.
    """
    clock = clock or SystemClock()
    paths: list[tuple[str, str, int, Callable[[], object]]] = []
    for network, file in _networks(loaded).items():
        classifier = Classifier(loaded, network=file)
        path = FramePath(classifier, _camera(loaded), generated(*SIDE_BY_SIDE), clock)
        paths += [
            (DAEMON, network, path.tiles, path.turn),
            (ALONE, network, path.tiles, partial(classifier.score, path.cut())),
            (NAIVE, network, path.tiles, path.naive),
        ]
    if reference is not None:
        paths.append((REFERENCE, "its own", 1, path.reference(reference)))
    times = interleaved([call for *_, call in paths], -(-calls // BURST), clock, burst=BURST)
    sides = [
        (what, network, tiles, summary(ns, 1e3 * tiles))
        for (what, network, tiles, _), ns in zip(paths, times, strict=True)
    ]
    daemon = {network: us.p50 for what, network, _, us in sides if what == DAEMON}
    return [
        Side(what, network, tiles, us, {own: us.p50 / p50 if p50 else 0.0 for own, p50 in daemon.items()})
        for what, network, tiles, us in sides
    ]


def around(sides: Sequence[Side]) -> dict[str, float]:
    """What the frame path costs beside the network, as a share of the network's time, by network."""
    alone = {side.network: side.us.p50 for side in sides if side.what == ALONE}
    return {
        side.network: (side.us.p50 - alone[side.network]) / alone[side.network]
        for side in sides
        if side.what == DAEMON and alone[side.network]
    }


def _networks(loaded: Bundle) -> dict[str, str]:
    return {name: file for file, name in NETWORKS.items() if file in loaded.networks}


def summary(ns: Sequence[int], unit: float) -> Summary:
    """Quantiles of measured durations, in this many ns."""
    p50, p95, p99, p999 = (float(value) / unit for value in np.percentile(ns, [50, 95, 99, 99.9]))
    return Summary(len(ns), p50, p95, p99, p999, max(ns) / unit)


def generated(width: int, height: int, *, count: int = 8, step: int = 1) -> list[Gray]:
    """Frames of the generated strip, (height, width) uint8.  step: of their numbers."""
    strip = Strip(width=max(width, MIN_PX), height=max(height, MIN_PX))
    return [np.ascontiguousarray(strip.frame(n * step)[:height, :width]) for n in range(count)]


def _camera(loaded: Bundle) -> config.Camera:
    return config.Camera(name="bench", source=SecretStr("strip:"), tile_px=loaded.card.tile_px)


class FramePath:
    """The line as the daemon runs it, with frames from memory; and the same frames for other loops."""

    def __init__(self, classifier: Classifier, camera: config.Camera, frames: Sequence[Gray], clock: Clock) -> None:
        self._frames = list(frames)
        self._name = camera.name
        self._session = CameraSession.of(camera, classifier, clock, live=False)
        self._classifier = classifier
        self._clock = clock
        self._number = 0
        self._next = cycle(self._frames)
        self._line = InspectionLoop([self._session], self, Subscribers(_Nowhere()), clock, report_s=3600.0)
        self._inspector = Inspector(camera, classifier, clock)
        self.tiles = self._prepared(self._frames[0]).tiles

    def turn(self) -> None:
        """One frame through the line."""
        self._line.turn()

    def cut(self) -> Gray:
        """The tiles of one frame."""
        return self._inspector.cut(self._prepared(self._frames[0])).copy()

    def _prepared(self, image: Gray) -> PreparedFrame:
        return self._inspector.prepare(image, follow=False)

    def missed(self) -> int:
        """Frames that were not judged: bad pictures."""
        frames: dict[str, int] = self._session.counters.account.total()["frames"]
        return sum(frames.values()) - frames["ok"] - frames["defect"] - frames["unsure"]

    def naive(self) -> None:
        """What one writes in an afternoon: crop, resize, run, softmax, for each tile."""
        image, side = next(self._next), self._classifier.card.input_px
        for x, y, w, h in self._prepared(image).boxes():
            tile = cv2.resize(image[y : y + h, x : x + w], (side, side), interpolation=cv2.INTER_AREA)
            self._classifier.score(np.asarray(tile, np.uint8)[None]).probabilities(1.0).max()

    def reference(self, onnx_file: Path) -> Callable[[], object]:
        """The published recipe for one tile.  Raises BundleError without PIL or for a file that does not load."""
        try:
            from PIL import Image  # noqa: PLC0415 (an extra; only the comparison needs it)
        except ImportError as error:
            raise BundleError("the reference's recipe needs PIL: pip install pillow") from error
        run = foreign(onnx_file)
        mean = np.array(REFERENCE_MEAN, np.float32)[:, None, None]
        std = np.array(REFERENCE_STD, np.float32)[:, None, None]
        x, y, w, h = self._prepared(self._frames[0]).boxes()[0]
        tile = np.ascontiguousarray(self._frames[0][y : y + h, x : x + w])

        def judge() -> object:
            picture = Image.fromarray(tile).convert("RGB")
            picture = picture.resize((REFERENCE_PX, REFERENCE_PX), Image.Resampling.BILINEAR)
            planes = np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(255)
            return run(np.ascontiguousarray((planes - mean) / std)[None])

        return judge

    # The line's cameras: always one frame, which has just come.

    def wait(self, timeout_s: float) -> bool:  # noqa: ARG002 (there is always one)
        return True

    def heads(self) -> tuple[Head, ...]:
        return ((self._name, self._clock.monotonic_ns()),)

    def pop(self, name: str) -> Frame:
        self._number += 1
        return Frame(name, self._number, next(self._next), self._clock.monotonic_ns())

    def release(self, frame: Frame) -> None:
        """It is nobody's."""

    def take_notices(self) -> tuple[Notice, ...]:
        return ()


class _Nowhere:
    """Takes the events of a benchmark."""

    def put(self, event: event.Event, picture: Picture | None = None) -> None:
        """Forgotten."""


def loads(loaded: Bundle, model: config.Model, seconds: float, clock: Clock | None = None) -> Iterator[Load]:
    """For each pace more and more cameras, real processes with the generated strip, until the box fails."""
    clock = clock or SystemClock()
    for fps in PACES:
        count = 1
        while count <= MAX_CAMERAS:
            load = hold(loaded, model, count, fps, seconds, clock)
            yield load
            if load.verdict == "failing":
                break
            count *= 2


def hold(
    loaded: Bundle,
    model: config.Model,
    count: int,
    fps: float,
    seconds: float,
    clock: Clock | None = None,
    *,
    like: config.Camera | None = None,
    size: tuple[int, int] = SIDE_BY_SIDE,
) -> Load:
    """Run so many cameras for a while: real processes with the generated strip, the line in a thread, no broker.

    like: whose tiles and budget they have.  size: width and height of a frame, px.
    """
    clock = clock or SystemClock()
    width, height = (max(MIN_PX, side) for side in size)
    opened = {"source": SecretStr(f"strip:?width={width}&height={height}"), "fps": fps, "live": True, "loop": False}
    like = (like or _camera(loaded)).model_copy(update={**opened, "width": None, "height": None})
    cameras = [like.model_copy(update={"name": f"c{n}"}) for n in range(count)]
    classifier = choose(loaded, model, clock).classifier
    sessions = [CameraSession.of(camera, classifier, clock, live=True) for camera in cameras]
    supervisor = Supervisor(cameras, clock)
    line = InspectionLoop(sessions, supervisor, Subscribers(_Nowhere()), clock, report_s=3600.0)
    line.start()
    supervisor.start()
    try:
        _wait(clock, supervisor, SETTLE_S, count)
        before, used = _accounts(sessions), _used(supervisor)
        begun = clock.monotonic_ns()
        _wait(clock, supervisor, seconds, 0)
        elapsed_s = (clock.monotonic_ns() - begun) / NS_PER_S
        after, spent = _accounts(sessions), _used(supervisor)
        pids = [status.pid for status in supervisor.snapshot().values() if status.pid is not None]
        held = [bytes_ for pid in pids if (bytes_ := machine.resident_bytes(pid)) is not None]
        own_bytes = machine.resident_bytes(os.getpid()) or 0
    finally:
        supervisor.stop(2.0)
        line.stop(2.0)
        supervisor.close()
    frames = max(1, after.frames - before.frames)
    partial_share = (after.partial - before.partial) / frames
    # What never arrived is missed too: a camera process that cannot keep its pace.
    missed_share = max((after.missed - before.missed) / frames, 1 - frames / (count * fps * elapsed_s) - LOST)
    whole = partial_share <= 0 and missed_share <= 0
    return Load(
        count,
        fps,
        NETWORKS[classifier.network],
        "failing" if missed_share > LOST else "stable" if whole else "degrading",
        {stage: counts.since(before.stages[stage]).summary() for stage, counts in after.stages.items()},
        partial_share,
        max(0.0, missed_share),
        (spent[0] - used[0]) / elapsed_s,
        (spent[1] - used[1]) / elapsed_s / count,
        own_bytes,
        sum(held) // max(1, len(held)),
    )


@dataclass(frozen=True, slots=True)
class _Sum:
    frames: int
    partial: int
    missed: int
    stages: dict[str, Counts]


def _accounts(sessions: Sequence[CameraSession]) -> _Sum:
    sums = [session.counters.account.total() for session in sessions]
    stages = {stage: Histogram() for stage in STAGES}
    for session in sessions:
        for stage, histogram in stages.items():
            histogram.take(session.counters.stages[stage].counts())
    return _Sum(
        sum(s["delivered"] for s in sums),
        sum(s["partial"] for s in sums),
        sum(s["frames"]["late"] + s["frames"]["dropped"] for s in sums),
        {stage: histogram.counts() for stage, histogram in stages.items()},
    )


def _used(supervisor: Supervisor) -> tuple[float, float]:
    """Processor seconds of this process and of all cameras."""
    pids = [status.pid for status in supervisor.snapshot().values() if status.pid is not None]
    return machine.cpu_seconds(os.getpid()) or 0.0, sum(machine.cpu_seconds(pid) or 0.0 for pid in pids)


def _wait(clock: Clock, supervisor: Supervisor, seconds: float, running: int) -> None:
    """Until so many cameras run and the time has passed.  The line thread does the work meanwhile."""
    until_ns = clock.monotonic_ns() + int(seconds * NS_PER_S)
    pause = threading.Event()
    patience_ns = until_ns + 60 * NS_PER_S
    while True:
        now_ns = clock.monotonic_ns()
        started = sum(status.delivered > 0 for status in supervisor.snapshot().values())
        if now_ns >= until_ns and (started >= running or now_ns >= patience_ns):
            return
        pause.wait(LOOK_S)


def _time(call: Callable[[], object], calls: int, clock: Clock) -> Summary:
    """The call, ms, after a warm-up."""
    (times,) = interleaved([call], calls, clock)
    return summary(times, NS_PER_MS)
