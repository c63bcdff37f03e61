"""How the network runs best on this box: every combination through the daemon's own line, in turns.

int8 has to agree with fp32 before its time counts. The fastest wins, but what is nearly as fast with fp32 or in smaller
batches goes before it, for between two batches a frame can still be cut down to its deadline. More threads have to save
much: they are taken from the camera processes.
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
from edge.vision.decision import Findings, decide
from edge.vision.inspector import Inspector

Precision = Literal["fp32", "int8"]
THREADS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
BATCHES: Final = (1, 4, 8, 32, 128)
MAX_FRAMES: Final = 64
MIN_ROUNDS: Final = 20
CHUNK: Final = 10
"""Rounds between two looks at the clock."""
MAX_MOVED: Final = 0.01
"""Share of the tiles that int8 may move to or from unsure; none may go further."""
PACES: Final = (10.0, 30.0)
MAX_CAMERAS: Final = 32
LOOKS: Final = 10
"""Most numbers of cameras tried at one pace."""
QUANTILE: Final = 0.25
"""Of the times that are compared: calm moments; other work on the box disturbs the rest."""
SAVES: Final = 0.8
"""Of the time with fewer threads that more threads may take at most."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the network."""

    precision: Precision
    threads: int
    batch: int

    def model(self) -> config.Model:
        return config.Model(precision=self.precision, threads=self.threads, batch=self.batch)

    def __str__(self) -> str:
        return f"{self.precision}, {self.threads} thread{'s' if self.threads > 1 else ''}, batch {self.batch}"


def ways(precisions: Sequence[Precision], cores: int, tiles: int) -> list[Way]:
    """What is tried: threads up to the cores, batches up to a frame; the plainest first."""
    threads = sorted({n for n in THREADS if n < cores} | {min(cores, 64)})
    smaller = [n for n in BATCHES if n < tiles]
    batches = [*smaller, min(tiles, 512)] if tiles > 0 else []
    return [Way(precision, n, batch) for n in threads for precision in precisions for batch in batches]


def parity(loaded: Bundle, camera: config.Camera, frames: Sequence[Gray], clock: Clock) -> Parity:
    """int8 beside fp32 on this processor: self-tests, and the verdict on every tile of the camera's frames.

    Frames of the generated strip are judged too, because the camera's may all be sound.  Raises BundleError when
    fp32 fails its self-test.
    """
    fp32 = _network(loaded, Way("fp32", 1, 32), clock)
    if INT8 not in loaded.networks:
        return Parity(tiles=0, defects=0, moved=0, contradicted=0, why_not="the bundle holds no int8")
    try:
        int8 = _network(loaded, Way("int8", 1, 32), clock)
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
    """A word for every tile."""
    inspector = Inspector(camera, network, clock)
    thresholds = inspector.thresholds
    for image in images:
        prepared = inspector.prepare(image, follow=False)
        probabilities = network.score(inspector.cut(prepared)).probabilities(inspector.temperature)
        boxes = np.array(prepared.boxes(), np.int32)
        for row in range(len(boxes)):
            one = slice(row, row + 1)
            cell = np.zeros((1, 2), np.int32)
            yield _word(decide(probabilities[one], boxes[one], cell, thresholds, has_good=network.card.has_good))


def _word(findings: Findings) -> str:
    if findings.regions:
        return findings.regions[0].class_name
    return UNSURE if findings.suspects else GOOD


def _network(loaded: Bundle, way: Way, clock: Clock) -> Classifier:
    return choose(loaded, way.model(), clock).classifier


def plainest(loaded: Bundle, clock: Clock) -> Classifier:
    """fp32 on one thread.  Raises BundleError."""
    return _network(loaded, Way("fp32", 1, 32), clock)


def measure(
    loaded: Bundle,
    camera: config.Camera,
    frames: Sequence[Gray],
    clock: Clock,
    wanted: Sequence[Way],
    *,
    rounds: int,
    limit_s: float,
    on_round: Callable[[], None] = lambda: None,
) -> list[Timed]:
    """Whole frames through the line, one of each combination a round.

    rounds: n of each; fewer, never under 20, when limit_s is over.
    Raises CalibrationError when the frames are no pictures of a surface, BundleError.
    """
    image_quality = camera.image_quality.model_copy(update={"frozen": False})  # a few frames go round and round
    camera = camera.model_copy(update={"image_quality": image_quality})
    paths = [FramePath(_network(loaded, way, clock), camera, frames, clock) for way in wanted]
    times: list[list[int]] = [[] for _ in paths]
    until_ns = clock.monotonic_ns() + int(limit_s * NS_PER_S)
    while len(times[0]) < rounds and (len(times[0]) < MIN_ROUNDS or clock.monotonic_ns() < until_ns):
        chunk = min(CHUNK, rounds - len(times[0]))
        fresh = interleaved([path.turn for path in paths], chunk, clock, on_round)
        times = [[*before, *ns] for before, ns in zip(times, fresh, strict=True)]
    missed = sum(path.missed() for path in paths)
    if missed:
        raise CalibrationError(
            f"{missed} of the frames that were timed are bad pictures (dark, blurred...), which cost no inference: "
            "show the camera its surface, or give a recording with --source"
        )
    found = []
    for way, ns in zip(wanted, times, strict=True):
        ms = summary_of(ns, NS_PER_MS)
        calm = float(np.quantile(ns, QUANTILE)) / NS_PER_MS
        found.append(
            Timed(
                precision=way.precision,
                threads=way.threads,
                batch=way.batch,
                calm_ms=round(calm, 4),
                p50_ms=round(ms.p50, 4),
                p95_ms=round(ms.p95, 4),
                p99_ms=round(ms.p99, 4),
                n=ms.n,
            )
        )
    return found


def best(rows: Sequence[Timed]) -> Timed:
    """The plainest of those that take hardly longer than the fastest; more threads only where they save much."""
    chosen: Timed | None = None
    for threads in sorted({row.threads for row in rows}):
        own = [row for row in rows if row.threads == threads]
        limit = min(row.calm_ms for row in own) / GAIN
        fast = min((row for row in own if row.calm_ms <= limit), key=lambda row: (row.precision != "fp32", row.batch))
        if chosen is None or fast.calm_ms <= SAVES * chosen.calm_ms:
            chosen = fast
    if chosen is None:
        raise CalibrationError("nothing was timed")
    return chosen


def held(look: Callable[[int], CameraLoad], fps: float) -> Capacity:
    """The most cameras of which not one tile is left out and not one frame missed while they are looked at.

    look: runs so many.  Twice as many until they are too many, then halfway; what fails gets a second look, for it may
    have been something else on the box.
    """
    first: CameraLoad | None = None
    most, too_many, count = 0, MAX_CAMERAS + 1, 1
    for _ in range(LOOKS):
        load = look(count)
        if load.verdict != "stable":
            load = look(count)
        first = first or load
        most, too_many = (count, too_many) if load.verdict == "stable" else (most, count)
        if too_many - most <= 1:
            break
        count = min(2 * most, MAX_CAMERAS) if too_many > MAX_CAMERAS else (most + too_many) // 2
    if first is None or first.stages["total"].n == 0:
        raise CalibrationError(f"not one frame was judged at {fps:g} fps: this box is busy with something else")
    total = first.stages["total"]
    return Capacity(fps=fps, cameras=most, at_least=most == MAX_CAMERAS, p99_ms=round(total.p99, 3), n=total.n)


def looker(
    loaded: Bundle, chosen: Timed, like: config.Camera, size: tuple[int, int], clock: Clock, seconds: float
) -> Callable[[int, float], CameraLoad]:
    """Runs so many cameras at such a pace: real processes with the generated strip in frames of this size, px."""
    model = Way(chosen.precision, chosen.threads, chosen.batch).model()
    return lambda count, fps: run_cameras(loaded, model, count, fps, seconds, clock, like=like, size_px=size)


def said(tuning: Tuning, budget_ms: float) -> Iterator[str]:
    """What a person should know of it."""
    chosen = tuning.chosen
    yield f"best here: {Way(chosen.precision, chosen.threads, chosen.batch)}; a frame takes {chosen.p50_ms:.2f} ms"
    for one in tuning.holds:
        least = "at least " if one.at_least else ""
        cameras = f"{least}{one.cameras} camera{'' if one.cameras == 1 else 's'}"
        yield (
            f"{one.fps:g} fps: {cameras} like {tuning.camera} hold; of one, 99 of 100 frames are judged within "
            f"{one.p99_ms:.1f} ms of the grab (n = {one.n}): budget_ms {math.ceil(one.p99_ms)} holds, "
            f"it is set to {budget_ms:g}"
        )
    if not tuning.holds:
        yield (
            f"in memory 99 of 100 frames take up to {chosen.p99_ms:.1f} ms (n = {chosen.n}), without camera and queue: "
            f"less for budget_ms cannot hold, it is set to {budget_ms:g}"
        )


ROOM: Final = 6
"""Times the middle median: what is longer runs to the border, for one bad moment must not hide the rest."""


def chart(rows: Sequence[Timed], chosen: Timed) -> npt.NDArray[np.uint8]:
    """(H, 900, 3) uint8 BGR: a bar to the median of each combination, a line to its 99th percentile."""
    left, top, step, width = 250, 40, 22, 900
    canvas = np.full((top + step * len(rows) + 40, width, 3), 250, np.uint8)
    longest = max(row.p99_ms for row in rows) or 1.0
    shown = min(longest, ROOM * float(np.median([row.p50_ms for row in rows]))) or longest
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
        words = f"{Way(row.precision, row.threads, row.batch)}{' *' if is_chosen else ''}"
        _write(canvas, words, (10, middle + 5), (20, 110, 20) if is_chosen else (40, 40, 40))
        _write(canvas, f"{row.p50_ms:.2f} / {row.p99_ms:.2f}", (ends[1] + 8, middle + 5), (90, 90, 90))
    _write(canvas, "* chosen", (10, canvas.shape[0] - 14), (20, 110, 20))
    return canvas


def _write(canvas: npt.NDArray[np.uint8], words: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
