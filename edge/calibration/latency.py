"""The fastest settings of the network on this machine: every combination is timed in the inspection loop, in turns.

int8 must agree with fp32 before its time counts. The fastest combination wins, but fp32 or smaller batches that are
almost as fast are preferred to it: between two batches the loop can still cut a frame down to its deadline. More
threads must save much time, because they take it from the camera processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge import config
from edge.config.tuning import Capacity, Parity, Timed, Tuning
from edge.errors import BundleError, CalibrationError
from edge.frame import Gray
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock
from edge.host.interleaved_timer import interleaved
from edge.model.bundle import INT8, Bundle
from edge.model.classifier import Classifier
from edge.model.variant import GAIN, choose
from edge.pipeline.camera_load import CameraLoad, run_cameras
from edge.pipeline.frame_path import FramePath, generated_frames, summary_of
from edge.vision.decision import Detections, decide
from edge.vision.inspector import Inspector

Precision = Literal["fp32", "int8"]
THREADS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
BATCHES: Final = (1, 4, 8, 32, 128)
MAX_FRAMES: Final = 64
MIN_ROUNDS: Final = 20
CHUNK: Final = 10
"""Rounds between two checks of the time limit."""
MAX_MOVED: Final = 0.01
"""Share of the tiles that int8 may move to or from unsure; no tile may change otherwise."""
PACES_FPS: Final = (10.0, 30.0)
MAX_CAMERAS: Final = 32
MAX_TRIALS: Final = 10
"""Numbers of cameras that are tried at one pace."""
QUANTILE: Final = 0.25
"""Combinations are compared by this quantile of their times: other work on the machine slows only the rest."""
MAX_TIME: Final = 0.8
"""More threads may take at most this share of the time that fewer threads take."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """One combination: how to run the network."""

    precision: Precision
    threads: int
    batch: int

    def model(self) -> config.Model:
        """As the section `model` of a configuration."""
        return config.Model(precision=self.precision, threads=self.threads, batch=self.batch)

    def __str__(self) -> str:
        return f"{self.precision}, {self.threads} thread{'s' if self.threads > 1 else ''}, batch {self.batch}"


def combinations(precisions: Sequence[Precision], cores: int, tiles: int) -> list[RunSettings]:
    """The combinations to time: threads up to the cores, batches up to the tiles of a frame; the simplest first."""
    threads = sorted({n for n in THREADS if n < cores} | {min(cores, 64)})
    smaller = [n for n in BATCHES if n < tiles]
    batches = [*smaller, min(tiles, 512)] if tiles > 0 else []
    return [RunSettings(precision, n, batch) for n in threads for precision in precisions for batch in batches]


def parity(loaded: Bundle, camera: config.Camera, frames: Sequence[Gray], clock: Clock) -> Parity:
    """Compare int8 with fp32 on this processor: self-tests, and the verdict of every tile of the camera's frames.

    Frames of the generated strip are compared as well, because the camera's may all be free of defects.  Raises
    BundleError when fp32 fails its self-test.
    """
    fp32 = _network(loaded, RunSettings("fp32", 1, 32), clock)
    if INT8 not in loaded.networks:
        return Parity(tiles=0, defects=0, moved=0, contradicted=0, why_not="the bundle has no int8")
    try:
        int8 = _network(loaded, RunSettings("int8", 1, 32), clock)
    except BundleError as error:
        return Parity(tiles=0, defects=0, moved=0, contradicted=0, why_not=str(error)[:500])
    height, width = frames[0].shape
    kept = {
        name: getattr(camera, name)
        for name in ("name", "source", "tile_px", "overlap", "decision", "calibrated_thresholds")
    }
    plain = config.Camera.model_construct(**kept)
    strip = generated_frames(max(width, 256), max(height, 256), count=12, step=23)
    pairs = [
        pair
        for one, images in ((camera, frames), (plain, strip))
        for pair in zip(_verdicts(one, fp32, images, clock), _verdicts(one, int8, images, clock), strict=True)
    ]
    moved = sum(a != b and UNSURE in (a, b) for a, b in pairs)
    contradicted = sum(a != b and UNSURE not in (a, b) for a, b in pairs)
    why_not = None
    if contradicted or moved > MAX_MOVED * len(pairs):
        why_not = f"of {len(pairs)} tiles it contradicts fp32 on {contradicted} and moves {moved} to or from unsure"
    defects = sum(a not in (UNSURE, GOOD) for a, _ in pairs)
    return Parity(tiles=len(pairs), defects=defects, moved=moved, contradicted=contradicted, why_not=why_not)


UNSURE: Final = "unsure"
GOOD: Final = "good"


def _verdicts(camera: config.Camera, network: Classifier, images: Sequence[Gray], clock: Clock) -> Iterator[str]:
    """The verdict of every tile: a class, unsure or good."""
    inspector = Inspector(camera, network, clock)
    thresholds = inspector.thresholds
    for image in images:
        prepared = inspector.prepare(image, follow=False)
        probabilities = network.score(inspector.cut(prepared)).probabilities(inspector.temperature)
        boxes = np.array(prepared.boxes(), np.int32)
        for row in range(len(boxes)):
            one = slice(row, row + 1)
            cell = np.zeros((1, 2), np.int32)
            yield _verdict(decide(probabilities[one], boxes[one], cell, thresholds, has_good=network.card.has_good))


def _verdict(detections: Detections) -> str:
    if detections.regions:
        return detections.regions[0].class_name
    return UNSURE if detections.unsure_boxes else GOOD


def _network(loaded: Bundle, settings: RunSettings, clock: Clock) -> Classifier:
    return choose(loaded, settings.model(), clock).classifier


def simplest(loaded: Bundle, clock: Clock) -> Classifier:
    """fp32 on one thread.  Raises BundleError."""
    return _network(loaded, RunSettings("fp32", 1, 32), clock)


def measure(
    loaded: Bundle,
    camera: config.Camera,
    frames: Sequence[Gray],
    clock: Clock,
    wanted: Sequence[RunSettings],
    *,
    rounds: int,
    limit_s: float,
    on_round: Callable[[], None] = lambda: None,
) -> list[Timed]:
    """Time whole frames in the inspection loop, one frame per combination and round.

    rounds: n of each; fewer, but at least 20, when limit_s has passed.
    Raises CalibrationError when frames are bad images, BundleError.
    """
    image_quality = camera.image_quality.model_copy(
        update={"frozen": False}
    )  # the same few frames come again and again
    camera = camera.model_copy(update={"image_quality": image_quality})
    paths = [FramePath(_network(loaded, one, clock), camera, frames, clock) for one in wanted]
    times: list[list[int]] = [[] for _ in paths]
    until_ns = clock.monotonic_ns() + int(limit_s * NS_PER_S)
    while len(times[0]) < rounds and (len(times[0]) < MIN_ROUNDS or clock.monotonic_ns() < until_ns):
        chunk = min(CHUNK, rounds - len(times[0]))
        fresh = interleaved([path.turn for path in paths], chunk, clock, on_round)
        times = [[*before, *ns] for before, ns in zip(times, fresh, strict=True)]
    missed = sum(path.missed() for path in paths)
    if missed:
        raise CalibrationError(
            f"{missed} of the timed frames are bad images (dark, blurred...), which need no inference: "
            "point the camera at the surface, or give a recording with --source"
        )
    found = []
    for settings, ns in zip(wanted, times, strict=True):
        ms = summary_of(ns, NS_PER_MS)
        calm = float(np.quantile(ns, QUANTILE)) / NS_PER_MS
        found.append(
            Timed(
                precision=settings.precision,
                threads=settings.threads,
                batch=settings.batch,
                calm_ms=round(calm, 4),
                p50_ms=round(ms.p50, 4),
                p95_ms=round(ms.p95, 4),
                p99_ms=round(ms.p99, 4),
                n=ms.n,
            )
        )
    return found


def best(rows: Sequence[Timed]) -> Timed:
    """The simplest combination that is almost as fast as the fastest; more threads only where they save much time."""
    chosen: Timed | None = None
    for threads in sorted({row.threads for row in rows}):
        own = [row for row in rows if row.threads == threads]
        limit = min(row.calm_ms for row in own) / GAIN
        fast = min((row for row in own if row.calm_ms <= limit), key=lambda row: (row.precision != "fp32", row.batch))
        if chosen is None or fast.calm_ms <= MAX_TIME * chosen.calm_ms:
            chosen = fast
    if chosen is None:
        raise CalibrationError("nothing was timed")
    return chosen


def capacity_at(run: Callable[[int], CameraLoad], fps: float) -> Capacity:
    """The most cameras without a skipped tile or a missed frame.

    run: runs this many cameras.  The number is doubled until it is too large, then bisected.  A number that fails is
    tried twice, because other work on the machine may have been the cause.
    """
    first: CameraLoad | None = None
    most, too_many, count = 0, MAX_CAMERAS + 1, 1
    for _ in range(MAX_TRIALS):
        load = run(count)
        if load.verdict != "stable":
            load = run(count)
        first = first or load
        most, too_many = (count, too_many) if load.verdict == "stable" else (most, count)
        if too_many - most <= 1:
            break
        count = min(2 * most, MAX_CAMERAS) if too_many > MAX_CAMERAS else (most + too_many) // 2
    if first is None or first.stages["total"].n == 0:
        raise CalibrationError(f"no frame was inspected at {fps:g} fps: this machine is busy with other work")
    total = first.stages["total"]
    return Capacity(fps=fps, cameras=most, at_least=most == MAX_CAMERAS, p99_ms=round(total.p99, 3), n=total.n)


def load_runner(
    loaded: Bundle, chosen: Timed, like: config.Camera, size: tuple[int, int], clock: Clock, seconds: float
) -> Callable[[int, float], CameraLoad]:
    """A function that runs a number of cameras at a pace, with frames of the generated strip of this size, px."""
    model = RunSettings(chosen.precision, chosen.threads, chosen.batch).model()
    return lambda count, fps: run_cameras(loaded, model, count, fps, seconds, clock, like=like, size_px=size)


def report(tuning: Tuning, budget_ms: float) -> Iterator[str]:
    """The result for people, line by line."""
    chosen = tuning.chosen
    settings = RunSettings(chosen.precision, chosen.threads, chosen.batch)
    yield f"best on this machine: {settings}; a frame takes {chosen.p50_ms:.2f} ms"
    for one in tuning.holds:
        least = "at least " if one.at_least else ""
        cameras = f"{least}{one.cameras} camera{'' if one.cameras == 1 else 's'}"
        yield (
            f"{one.fps:g} fps: this machine keeps up with {cameras} like {tuning.camera}; with one, 99 of 100 frames "
            f"have a verdict within {one.p99_ms:.1f} ms of the grab (n = {one.n}): budget_ms {math.ceil(one.p99_ms)} "
            f"is enough, it is set to {budget_ms:g}"
        )
    if not tuning.holds:
        yield (
            f"in memory 99 of 100 frames take up to {chosen.p99_ms:.1f} ms (n = {chosen.n}), without camera and queue: "
            f"a smaller budget_ms is too small, it is set to {budget_ms:g}"
        )


MAX_BAR: Final = 6
"""Width of the chart, in medians of all rows: a longer bar runs to the border, so that it does not hide the others."""


def chart(rows: Sequence[Timed], chosen: Timed) -> npt.NDArray[np.uint8]:
    """(H, 900, 3) uint8 BGR: a bar to the median of each combination, a line to its 99th percentile."""
    left, top, step, width = 250, 40, 22, 900
    canvas = np.full((top + step * len(rows) + 40, width, 3), 250, np.uint8)
    longest = max(row.p99_ms for row in rows) or 1.0
    shown = min(longest, MAX_BAR * float(np.median([row.p50_ms for row in rows]))) or longest
    scale, right = (width - left - 130) / shown, width - 130
    _write(canvas, f"ms per frame: bar p50, line p99, n = {rows[0].n} each, in turns", (10, 24), (40, 40, 40))
    for number, row in enumerate(rows):
        y = top + step * number
        middle = y + step // 2
        is_chosen = row == chosen
        colour = (60, 160, 60) if is_chosen else (200, 150, 90) if row.precision == "fp32" else (90, 150, 220)
        ends = [min(right, left + round(value * scale)) for value in (row.p50_ms, row.p99_ms)]
        cv2.rectangle(canvas, (left, y + 3), (ends[0], y + step - 4), colour, -1)
        cv2.line(canvas, (ends[0], middle), (ends[1], middle), (90, 90, 90), 1, cv2.LINE_AA)
        if ends[1] < right:
            cv2.line(canvas, (ends[1], middle - 4), (ends[1], middle + 4), (90, 90, 90), 1, cv2.LINE_AA)
        name = f"{RunSettings(row.precision, row.threads, row.batch)}{' *' if is_chosen else ''}"
        _write(canvas, name, (10, middle + 5), (20, 110, 20) if is_chosen else (40, 40, 40))
        _write(canvas, f"{row.p50_ms:.2f} / {row.p99_ms:.2f}", (ends[1] + 8, middle + 5), (90, 90, 90))
    _write(canvas, "* chosen", (10, canvas.shape[0] - 14), (20, 110, 20))
    return canvas


def _write(canvas: npt.NDArray[np.uint8], text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
