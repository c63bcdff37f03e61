"""Inspection of recordings without a daemon: the same inspector, one verdict per frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from edge import config
from edge.camera.sources.device import Picture, Unreadable, find_images, iter_recording
from edge.config import calibration, tuning
from edge.errors import ConfigError, DefectdError, Problem
from edge.host.clock import NS_PER_MS, Clock, SystemClock
from edge.model import bundle
from edge.model.variant import choose
from edge.vision.drawing import save
from edge.vision.inspector import Inspector, Verdict


@dataclass(frozen=True, slots=True)
class Settings:
    """Which model, and which camera's region, tiles and thresholds."""

    model: config.Model
    camera: config.Camera
    state_dir: Path | None = None


def settings_of(config_path: Path | None, camera: str | None, bundle_path: str, tile_px: int | None) -> Settings:
    """The settings of a configured camera, or the defaults.  Raises ConfigError for a camera that is not there."""
    if config_path is None:
        model = config.Model(bundle=bundle_path)
        one = config.Camera(name="recording", source=SecretStr("recording"), mode="parts")
        state_dir = None
    else:
        settings = calibration.applied(config.load(config_path))
        model, state_dir = settings.model, settings.state_dir
        one = chosen(settings, camera, str(config_path))
    if tile_px is not None:
        one = one.model_copy(update={"tile_px": tile_px})
    return Settings(model, one, state_dir)


def chosen(settings: config.Config, camera: str | None, origin: str) -> config.Camera:
    """A camera by name, or the first.  Raises ConfigError when there is none of that name."""
    names = [c.name for c in settings.cameras]
    if camera is not None and camera not in names:
        remedy = f"The configuration has: {', '.join(names)}"
        raise ConfigError(origin, (Problem("--camera", camera, "no such camera", remedy),))
    return settings.cameras[names.index(camera) if camera else 0]


class Offline:
    """Judges recordings with one classifier."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        """Raises BundleError or ConfigError."""
        clock = clock or SystemClock()
        loaded, model = bundle.load(settings.model.bundle), settings.model
        if settings.state_dir is not None:
            model = tuning.fitted(model, loaded.digest, settings.state_dir)
        classifier = choose(loaded, model, clock).classifier
        self._inspector = Inspector(settings.camera, classifier, clock)

    def verdicts(self, paths: Iterable[str], pictures: Path | None = None) -> Iterator[dict[str, Any]]:
        """One dictionary per frame, or with `error` for an input that cannot be read; the others go on.

        pictures: a folder for copies of the frames with the findings drawn in.
        """
        for path in paths:
            for picture in iter_recording(path):
                if isinstance(picture, Unreadable):
                    yield {"source": picture.label, "error": str(picture.error)}
                else:
                    verdict = self._inspector.inspect_alone(picture.pixels)
                    if pictures is not None:
                        save(pictures / _file_name(picture), picture.pixels, verdict.findings)
                    yield _as_json(picture, verdict)


def _as_json(picture: Picture, verdict: Verdict) -> dict[str, Any]:
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
                **_anomaly(r.anomaly),
                "box_px": list(r.box_px),
                **({} if r.extent_px is None else {"extent_px": list(r.extent_px)}),
            }
            for r in verdict.findings.regions
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
    """Nothing without a calibration of good surface, or where the network gave no numbers."""
    return {} if value is None or not math.isfinite(value) else {"anomaly": round(value, 4)}


def _file_name(picture: Picture) -> str:
    """One flat name per frame: two folders may hold files of the same name."""
    whole = picture.label.strip("/.").replace("/", "_")
    return f"{whole}_{picture.number:06d}.png"


def count_files(paths: Iterable[str]) -> int:
    """About how many files `verdicts` will go through, for a progress bar."""
    count = 0
    for path in paths:
        try:
            count += len(find_images(path)[1])
        except DefectdError:  # told when its turn comes
            count += 1
    return count
