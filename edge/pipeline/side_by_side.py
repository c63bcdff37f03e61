"""The daemon's frame path beside other ways to inspect the same tiles, measured in turns.

Times hold for one machine and one hour. Ratios of times that were measured side by side hold beyond them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.errors import BundleError
from edge.host.clock import Clock, SystemClock
from edge.host.interleaved_timer import BURST, interleaved
from edge.model.bundle import Bundle
from edge.model.classifier import Classifier, foreign
from edge.pipeline.frame_path import (
    LINE_SCAN_PX,
    FramePath,
    default_camera,
    generated_frames,
    networks_of,
    summary_of,
)
from edge.pipeline.histogram import Summary

DAEMON: Final = "daemon: image check, tiles, network, decision, coverage"
ALONE: Final = "of it, the network alone"
NAIVE: Final = "naive: cv2.resize and one run per tile, same student"
REFERENCE: Final = "reference: PIL, 224 px, normalise, its network"
REFERENCE_NETWORK: Final = "its own"
REFERENCE_PX: Final = 224
REFERENCE_MEAN: Final = (0.485, 0.456, 0.406)
REFERENCE_STD: Final = (0.229, 0.224, 0.225)
NS_PER_US: Final = 1e3


@dataclass(frozen=True, slots=True)
class Side:
    """One of the paths that were measured side by side.

    us: per tile.  ratios: its median over the median of the daemon's frame path, by network of the daemon.
    """

    what: str
    network: str
    tiles: int
    us: Summary
    ratios: dict[str, float]


def side_by_side(loaded: Bundle, calls: int, reference: Path | None, clock: Clock | None = None) -> list[Side]:
    """Time every path with each network of the bundle: one thread, BURST frames per turn.

    reference: an ONNX file that takes (1, 3, 224, 224) float32; None leaves that path out.  Raises BundleError.
    """
    clock = clock or SystemClock()
    paths: list[tuple[str, str, int, Callable[[], object]]] = []
    for network, file in networks_of(loaded).items():
        classifier = Classifier(loaded, network=file)
        path = FramePath(classifier, default_camera(loaded), generated_frames(*LINE_SCAN_PX), clock)
        paths += [
            (DAEMON, network, path.tiles, path.turn),
            (ALONE, network, path.tiles, partial(classifier.score, path.cut())),
            (NAIVE, network, path.tiles, partial(_naive, path)),
        ]
    if reference is not None:
        paths.append((REFERENCE, REFERENCE_NETWORK, 1, _recipe_of_reference(path, reference)))
    times = interleaved([call for *_, call in paths], -(-calls // BURST), clock, burst=BURST)
    measured = [
        (what, network, tiles, summary_of(times_ns, NS_PER_US * tiles))
        for (what, network, tiles, _), times_ns in zip(paths, times, strict=True)
    ]
    daemon_us = {network: us.p50 for what, network, _, us in measured if what == DAEMON}
    return [
        Side(what, network, tiles, us, {own: us.p50 / p50 if p50 else 0.0 for own, p50 in daemon_us.items()})
        for what, network, tiles, us in measured
    ]


def overheads(sides: Sequence[Side]) -> dict[str, float]:
    """Time of the frame path beyond its network, as a share of the network's time, by network."""
    alone_us = {side.network: side.us.p50 for side in sides if side.what == ALONE}
    return {
        side.network: (side.us.p50 - alone_us[side.network]) / alone_us[side.network]
        for side in sides
        if side.what == DAEMON and alone_us[side.network]
    }


def _naive(path: FramePath) -> None:
    """The loop of a first script: crop, resize, run and softmax for each tile."""
    image, side_px = next(path.images), path.classifier.card.input_px
    for x, y, w, h in path.prepare(image).boxes():
        tile = cv2.resize(image[y : y + h, x : x + w], (side_px, side_px), interpolation=cv2.INTER_AREA)
        path.classifier.score(np.asarray(tile, np.uint8)[None]).probabilities(1.0).max()


def _recipe_of_reference(path: FramePath, onnx_file: Path) -> Callable[[], object]:
    """The published recipe for one tile.  Raises BundleError without PIL or for a file that does not load."""
    try:
        from PIL import Image  # noqa: PLC0415 (an extra; only the comparison needs it)
    except ImportError as error:
        raise BundleError("the reference's recipe needs PIL: pip install pillow") from error
    run = foreign(onnx_file)
    mean = np.array(REFERENCE_MEAN, np.float32)[:, None, None]
    std = np.array(REFERENCE_STD, np.float32)[:, None, None]
    x, y, w, h = path.prepare(path.first).boxes()[0]
    tile = np.ascontiguousarray(path.first[y : y + h, x : x + w])

    def infer() -> object:
        picture = Image.fromarray(tile).convert("RGB")
        picture = picture.resize((REFERENCE_PX, REFERENCE_PX), Image.Resampling.BILINEAR)
        planes = np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(255)
        return run(np.ascontiguousarray((planes - mean) / std)[None])

    return infer
