"""The rows of `defectd bench`: latency of the networks alone and of whole frames on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from edge import config
from edge.host.clock import NS_PER_MS, Clock, SystemClock
from edge.host.interleaved_timer import interleaved
from edge.model.bundle import Bundle, selftest_tiles
from edge.model.classifier import Classifier
from edge.model.variant import NETWORKS, choose
from edge.pipeline.frame_path import FramePath, default_camera, generated_frames, networks_of, summary_of
from edge.pipeline.histogram import Summary

THREADS: Final = (1, 2)
BATCHES: Final = (1, 8, 32)
FRAMES_PX: Final = ((200, 200), (800, 400), (1600, 256), (2048, 2048))
"""Width and height: a patch, the default strip, a line-scan frame, an area frame."""
FRAME_BATCH: Final = 32
MIN_CALLS: Final = 10
"""n of a frame with many tiles."""
TILES_PER_CALL: Final = 16
"""A frame with this many times more tiles is measured that many times less often."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured call.  network: fp32 or int8.  tiles: tiles in the call.  batch: tiles per run of the network."""

    what: str
    network: str
    threads: int
    batch: int
    tiles: int
    ms: Summary


def row_count(loaded: Bundle) -> int:
    """Number of rows that `measure` yields."""
    return len(THREADS) * (len(loaded.networks) * len(BATCHES) + len(FRAMES_PX))


def measure(loaded: Bundle, model: config.Model, calls: int, clock: Clock | None = None) -> Iterator[Row]:
    """Yield each row when it is measured: every network alone, then frames with the network that `model` chooses.

    calls: n of each row; frames with many tiles get fewer calls, at least 10.  Raises BundleError.
    """
    clock = clock or SystemClock()
    side_px = loaded.card.input_px
    for network, file in networks_of(loaded).items():
        for threads in THREADS:
            for batch in BATCHES:
                classifier = Classifier(loaded, threads=threads, batch=batch, network=file)
                score = partial(classifier.score, selftest_tiles(1, batch, side_px))
                yield Row("network", network, threads, batch, batch, _time_ms(score, calls, clock))
    file = choose(loaded, model, clock).classifier.network
    for threads in THREADS:
        classifier = Classifier(loaded, threads=threads, network=file)
        for width, height in FRAMES_PX:
            path = FramePath(classifier, default_camera(loaded), generated_frames(width, height), clock)
            fewer = max(MIN_CALLS, calls // max(1, path.tiles // TILES_PER_CALL))
            what = f"frame {width}x{height}, {path.tiles} tiles"
            yield Row(what, NETWORKS[file], threads, FRAME_BATCH, path.tiles, _time_ms(path.turn, fewer, clock))


def _time_ms(call: Callable[[], object], calls: int, clock: Clock) -> Summary:
    (times_ns,) = interleaved([call], calls, clock)
    return summary_of(times_ns, NS_PER_MS)
