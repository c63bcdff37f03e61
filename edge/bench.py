"""How fast this box is: the network by threads and batch, and whole frames through the inspector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Final

import numpy as np
from pydantic import SecretStr

from edge import config
from edge.bundle import Bundle, selftest_tiles
from edge.camera.strip import Strip
from edge.clock import NS_PER_MS, Clock, SystemClock
from edge.frame import Gray
from edge.vision.classifier import Classifier
from edge.vision.inspector import Inspector

THREADS: Final = (1, 2)
BATCHES: Final = (1, 8, 32)
FRAMES: Final = ((200, 200), (800, 400), (1600, 256), (2048, 2048))
"""Width and height: a patch, the default strip, a line-scan frame, an area frame."""
LEAST_PX: Final = 256
"""The generated strip comes no narrower."""
WARM_UP: Final = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.  tiles: how many the call judged; batch: how many at once."""

    what: str
    threads: int
    batch: int
    tiles: int
    median_ms: float
    p99_ms: float
    n: int


ROWS: Final = len(THREADS) * (len(BATCHES) + len(FRAMES))


def measure(loaded: Bundle, calls: int, clock: Clock | None = None) -> Iterator[Row]:
    """Rows as they are measured.  calls: n of each row; big frames get fewer, never under 10."""
    clock = clock or SystemClock()
    side = loaded.card.input_px
    for threads in THREADS:
        for batch in BATCHES:
            classifier = Classifier(loaded, threads=threads, batch=batch)
            tiles = selftest_tiles(1, batch, side)
            median, p99 = _time(partial(classifier.score, tiles), calls, clock)
            yield Row("network", threads, batch, batch, median, p99, calls)
    for threads in THREADS:
        classifier = Classifier(loaded, threads=threads)
        for width, height in FRAMES:
            camera = config.Camera(name="bench", source=SecretStr("strip:"), tile_px=loaded.card.tile_px)
            inspector = Inspector(camera, classifier, clock)
            strip = Strip(width=max(width, LEAST_PX), height=max(height, LEAST_PX))
            frames = [np.ascontiguousarray(strip.frame(n)[:height, :width]) for n in range(4)]
            count = inspector.inspect(frames[0]).tiles
            share = max(10, calls // max(1, count // 16))
            what = f"frame {width}x{height}, {count} tiles"
            median, p99 = _time(partial(_inspect_next, inspector, cycle(frames)), share, clock)
            yield Row(what, threads, 32, count, median, p99, share)


def _inspect_next(inspector: Inspector, frames: Iterator[Gray]) -> None:
    inspector.inspect(next(frames))


def _time(call: Callable[[], object], calls: int, clock: Clock) -> tuple[float, float]:
    """Median and 99th percentile of the call, ms, after a warm-up."""
    for _ in range(WARM_UP):
        call()
    times = np.empty(calls)
    for i in range(calls):
        started = clock.monotonic_ns()
        call()
        times[i] = clock.monotonic_ns() - started
    median, p99 = np.percentile(times, [50, 99]) / NS_PER_MS
    return float(median), float(p99)
