"""What calibrations found, one file per camera: `state_dir/calibration/CAMERA.yaml`.

`applied` lays it under the configuration: what stands there by hand wins. A file that cannot be read refuses the start,
because inspection without it would be another one than was calibrated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from edge import config, document
from edge.errors import CalibrationError, ConfigError, Problem

SCHEMA: Final = "defectd.calibration/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Made(_Part):
    """Where a part comes from."""

    time: str
    version: str
    source: str
    """Of the frames, or `by hand`; without credentials."""
    frames: int = Field(ge=0)
    frame_px: tuple[int, int] | None
    """Width and height."""


class Region(_Part):
    """What is inspected.  edges: as they were found, for people."""

    roi: config.Rectangle | config.Polygon | None
    exclude: tuple[config.Rectangle | config.Polygon, ...] = ()
    edges: dict[str, dict[str, float]] = {}
    made: Made


class Metric(_Part):
    """Millimetres.  rms_px: of the board's corners in the frame that gave the plane; None: by a known length."""

    scale: config.Scale
    rms_px: float | None = None
    views: int = 0
    made: Made


class Even(_Part):
    """Light.  file: the map of gains, beside this file.  before, after: unevenness, as a share."""

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    before: float
    after: float
    made: Made


class Spread(_Part):
    """Quantiles over frames: one in a hundred is below `low`, half below `middle`, 99 in a hundred below `high`."""

    low: float
    middle: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Spread:
        if not self.low <= self.middle <= self.high:
            raise ValueError("low, middle and high do not rise")
        return self


class Features(_Part):
    """Mean and scale of each of the network's features over good tiles.

    network: sha256 of the bundle's fp32 network, whichever of its networks runs.
    """

    network: str = Field(pattern="^[0-9a-f]{64}$")
    mean: tuple[float, ...] = Field(min_length=1, max_length=4096)
    scale: tuple[PositiveFloat, ...] = Field(min_length=1, max_length=4096)

    @model_validator(mode="after")
    def _as_many(self) -> Features:
        if len(self.mean) != len(self.scale):
            raise ValueError(f"{len(self.mean)} means and {len(self.scale)} scales")
        return self


class Reference(_Part):
    """What good frames looked like: the drift watch compares with it.  Made by `edge.vision.drift.reference`.

    brightness: gray levels.  sharpness: change to the next pixel over change to the fourth.  distance: of the median
    tile of a frame from the good ones.  unsure: share of the frames.
    """

    brightness: Spread
    sharpness: Spread
    distance: Spread | None = None
    features: Features | None = None
    unsure: float | None = Field(None, ge=0.0, le=1.0)
    made: Made

    @model_validator(mode="after")
    def _belong_together(self) -> Reference:
        if (self.distance is None) != (self.features is None):
            raise ValueError("distance and features stand together or not at all")
        return self


class Calibration(_Part):
    """All that is known of one camera."""

    schema_: str = Field(SCHEMA, alias="schema", pattern="^defectd.calibration/1$")
    roi: Region | None = None
    scale: Metric | None = None
    flatfield: Even | None = None
    reference: Reference | None = None


def path_of(state_dir: Path, camera: str) -> Path:
    return state_dir / "calibration" / f"{camera}.yaml"


def load(path: Path) -> Calibration:
    """What a file says; nothing where there is none.  Raises ConfigError."""
    try:
        there = path.exists()
    except OSError as error:
        problem = Problem("file", "cannot be looked for", str(error.strerror or error), "Choose another state_dir")
        raise ConfigError(str(path), (problem,)) from None
    if not there:
        return Calibration.model_validate({"schema": SCHEMA})
    raw = document.read(path)
    try:
        return Calibration.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        remedy = "Calibrate again, or remove the file"
        raise ConfigError(str(path), (Problem(where, "not usable", str(first["msg"]), remedy),)) from None


def save(path: Path, **parts: _Part) -> None:
    """Put parts into the file and leave the others as they are.  Raises ConfigError, CalibrationError."""
    known = load(path).model_dump(mode="json", by_alias=True, exclude_none=True)
    fresh: dict[str, Any] = {name: part.model_dump(mode="json") for name, part in parts.items()}
    try:
        document.write(path, {**known, **fresh})
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error.strerror or error}") from error


def applied(settings: config.Config, state_dir: Path | None = None) -> config.Config:
    """The configuration with what was calibrated where it says nothing itself.

    state_dir: of the running node, which another one in the file does not move.  Raises ConfigError.
    """
    folder = state_dir or settings.state_dir
    cameras = tuple(_applied(camera, path_of(folder, camera.name)) for camera in settings.cameras)
    return settings.model_copy(update={"cameras": cameras})


def _applied(camera: config.Camera, path: Path) -> config.Camera:
    found, folder = load(path), path.parent
    changes: dict[str, Any] = {}
    if found.roi is not None:
        if camera.roi is None:
            changes["roi"] = found.roi.roi
        if not camera.exclude:
            changes["exclude"] = list(found.roi.exclude)
    if found.scale is not None and camera.scale is None:
        changes["scale"] = found.scale.scale
    if found.flatfield is not None and camera.flatfield is None:
        changes["flatfield"] = folder / found.flatfield.file
    return camera.model_copy(update=changes) if changes else camera
