"""Inspects recordings without a daemon: the daemon's inspector, one verdict per frame."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from edge import config
from edge.camera.recordings import iter_recording
from edge.camera.sources.contract import Picture, Unreadable
from edge.camera.sources.files import find_images
from edge.camera.sources.registry import RECORDING, find
from edge.errors import DefectdError
from edge.host.clock import NS_PER_MS, Clock
from edge.model.classifier import Classifier
from edge.vision.drawing import save
from edge.vision.inspector import Inspector, Verdict

MAX_NAME_BYTES: Final = 200
"""Of a file name without the number of the frame: file systems take 255."""


class Offline:
    """Inspects recordings as one camera's frames, with one classifier."""

    def __init__(self, camera: config.Camera, classifier: Classifier, clock: Clock) -> None:
        """camera: with all that applies to it, calibrations and overrides included.  Raises ConfigError."""
        self._inspector = Inspector(camera, classifier, clock)
        self._tile_px = camera.tile_px

    def verdicts(self, paths: Iterable[str], pictures: Path | None = None) -> Iterator[dict[str, Any]]:
        """One dictionary per frame, or with `error` for an input that cannot be read; the others go on.

        pictures: a folder for copies of the frames with the detections drawn in.
        """
        taught = self._inspector.taught
        for path in paths:
            for picture in iter_recording(path):
                if isinstance(picture, Unreadable):
                    yield {"source": picture.label, "error": str(picture.error)}
                else:
                    verdict = self._inspector.inspect_alone(picture.pixels)
                    if pictures is not None:
                        save(pictures / _file_name(picture), picture.pixels, verdict.detections, self._tile_px)
                    yield _as_json(picture, verdict, None if taught is None else taught.sha256[:12])


def _as_json(picture: Picture, verdict: Verdict, taught: str | None) -> dict[str, Any]:
    inspect_ns = verdict.preprocess_ns + verdict.inference_ns + verdict.decide_ns
    return {
        "source": picture.label,
        "frame": picture.number,
        "state": verdict.state,
        **({"reason": verdict.reason} if verdict.reason else {}),
        "size_px": [int(picture.pixels.shape[1]), int(picture.pixels.shape[0])],
        "tiles": verdict.tiles,
        **_anomaly(verdict.anomaly),
        "regions": [
            {
                "class": r.class_name,
                "confidence": round(r.confidence, 4),
                **({"taught": taught} if taught else {}),
                **_anomaly(r.anomaly),
                "box_px": list(r.box_px),
                **({} if r.extent_px is None else {"extent_px": list(r.extent_px)}),
            }
            for r in verdict.detections.regions
        ],
        "latency_ms": {
            "decode": round(picture.decode_us / 1000, 3),
            "preprocess": round(verdict.preprocess_ns / NS_PER_MS, 3),
            "inference": round(verdict.inference_ns / NS_PER_MS, 3),
            "decide": round(verdict.decide_ns / NS_PER_MS, 3),
            "total": round(inspect_ns / NS_PER_MS, 3),
        },
    }


def _anomaly(value: float | None) -> dict[str, float]:
    """The anomaly score; left out without an anomaly calibration, or where the network gave no numbers."""
    return {} if value is None or not math.isfinite(value) else {"anomaly": round(value, 4)}


def _file_name(picture: Picture) -> str:
    """One flat name per frame: two folders may hold files of the same name."""
    whole = picture.label.strip("/.").replace("/", "_")
    if len(whole.encode()) > MAX_NAME_BYTES:
        mark = hashlib.sha256(whole.encode()).hexdigest()[:16]
        whole = f"{mark}_{whole.encode()[-MAX_NAME_BYTES + len(mark) :].decode('utf-8', 'ignore')}"
    return f"{whole}_{picture.number:06d}.png"


def count_files(paths: Iterable[str]) -> int:
    """About how many files `verdicts` will go through, for a progress bar."""
    count = 0
    for path in paths:
        if find(path) is not RECORDING:  # `verdicts` reports it
            count += 1
            continue
        try:
            count += len(find_images(path)[1])
        except DefectdError:  # `verdicts` reports it
            count += 1
    return count
