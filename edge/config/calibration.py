"""What calibrations found, one file per camera: `state_dir/calibration/CAMERA.yaml`.

`applied` lays it under the configuration: what stands there by hand wins. A file that cannot be read refuses the start,
because inspection without it would be another one than was calibrated. Each part knows the size of the frames it was
made with, and is refused for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from edge import config
from edge.config import yaml_file
from edge.config.state_dir import StateDir
from edge.errors import CalibrationError, ConfigError, Problem

SCHEMA: Final = "defectd.calibration/1"
REMOVE: Final = "Remove the file, then calibrate again"


Side = Literal["left", "right", "top", "bottom"]


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


class _Made(_Part):
    made: Made


class Track(_Part):
    """Edges that are found in each frame, since the strip wanders.

    seen_px: from where to where each edge lay in calibration, from the left or the top.  margin_px: kept off each.
    """

    seen_px: dict[Side, tuple[float, float]] = Field(min_length=1)
    margin_px: int = Field(ge=0, le=1000)


class Region(_Made):
    """What is inspected.  edges: as they were found, for people.  track: the region follows them, or else is roi."""

    roi: config.Rectangle | config.Polygon | None
    exclude: tuple[config.Rectangle | config.Polygon, ...] = ()
    edges: dict[str, dict[str, float]] = {}
    track: Track | None = None


class Metric(_Made):
    """Millimetres.  rms_px: of the board's corners in the frame that gave the plane; None: by a known length."""

    scale: config.Scale
    rms_px: float | None = None
    views: int = 0


class Even(_Made):
    """Light.  file: the map of gains, beside this file.  before, after: unevenness, as a share."""

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    before: float
    after: float


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


class Reference(_Made):
    """What good frames looked like: the drift watch compares with it.  Made by `edge.vision.drift.reference`.

    brightness: gray levels.  sharpness: change to the next pixel over change to the fourth.  distance: of the median
    tile of a frame from the good ones.  unsure: share of the frames.
    """

    brightness: Spread
    sharpness: Spread
    distance: Spread | None = None
    features: Features | None = None
    unsure: float | None = Field(None, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _belong_together(self) -> Reference:
        if (self.distance is None) != (self.features is None):
            raise ValueError("distance and features stand together or not at all")
        return self


class ClassPoint(_Part):
    """One class at the working point, on pictures that had no say in it.

    before, level: probability; None: kept.  n: pictures; found as any defect; named right.  alarms: sound tiles.
    """

    name: str
    before: float
    level: float | None
    n: int
    found: int
    named: int
    alarms: int


class Reliability(_Part):
    """Expected calibration error in 15 bins, before and after."""

    before: float
    after: float
    n: int


class Judged(_Made):
    """Thresholds.  recall, false_alarms_per_hour: as asked.  sound: tiles.  tiles_per_hour: of the camera, if known."""

    calibrated_thresholds: config.CalibratedThresholds = Field(alias="levels")
    classes: tuple[ClassPoint, ...]
    reliability: Reliability
    sound: int
    recall: float | None = None
    false_alarms_per_hour: float | None = None
    tiles_per_hour: float | None = None


class Promised(_Part):
    """What the threshold means, in the unit of `asked`.

    expected: on average, low and high: 90 % interval.  exact: counted, not carried beyond the footage.
    shown: the most that the footage leaves possible whatever the tail, with 95 % confidence.
    """

    threshold: float
    exact: bool
    expected: float
    low: float
    high: float
    shown: float


class Surface(_Made):
    """Good surface, as one model sees it.  file: its Gaussians and the thresholds in use, beside this file.

    model: name, version and sha256 of the fp32 network.  alone: the same without confirmation over frames.
    pieces: of surface that are independent of each other, of piece_frames frames each.  left_out: frames.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: dict[str, str]
    false_alarms_per_hour: float | None = None
    false_alarm_rate: float | None = None
    promised: Promised
    alone: Promised | None = None
    doubt: float
    tiles: int
    pieces: int
    piece_frames: int
    fps: float
    confirm: tuple[int, int]
    left_out: int
    made: Made


MAX_SURFACES: Final = 4
"""Models whose view of good surface is kept: those before and after a change, and some to try."""


class Calibration(_Part):
    """All that is known of one camera."""

    schema_: str = Field(SCHEMA, alias="schema", pattern="^defectd.calibration/1$")
    roi: Region | None = None
    scale: Metric | None = None
    flatfield: Even | None = None
    reference: Reference | None = None
    thresholds: Judged | None = None
    normal: tuple[Surface, ...] = Field((), max_length=MAX_SURFACES)
    """The newest first, one for each model."""

    @property
    def files(self) -> frozenset[str]:
        """Names of the data beside the file that it refers to."""
        return frozenset(one.file for one in (*self.normal, self.flatfield) if one is not None)

    def coded(self) -> bytes:
        """As the file holds it: parts that are not there are left out, what a part leaves open is not."""
        values = self.model_dump(mode="json", by_alias=True)
        return yaml_file.coded({name: value for name, value in values.items() if value is not None and value != []})


class Fitted(config.Camera):
    """A camera of the configuration with what was calibrated, beyond the keys of the configuration.

    made_px: width and height by part, of those in use.  track: of a region that is found in each frame.
    reference: what good frames looked like.
    """

    made_px: dict[str, tuple[int, int]] = Field({})
    track: Track | None = None
    reference: Reference | None = None


COMMANDS: Final = {"roi": "roi", "scale": "scale", "flatfield": "flatfield", "reference": "normal", "normal": "normal"}
"""The calibration that makes a part."""
_EFFECTS: Final = {
    "roi": "frames are bad_image",
    "scale": "nothing is told in mm",
    "flatfield": "the light is not made even",
    "reference": "drift is not watched",
    "normal": "the classes decide, false alarms are not governed",
}
"""Of a part that is refused. Without its region a frame would be inspected elsewhere than was meant: no verdict."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A part that was made with frames of another size than the camera gives: it is not used.

    made_px, frame_px: width and height.  blocks: frames cannot be inspected without it.
    """

    camera: str
    part: str
    made_px: tuple[int, int]
    frame_px: tuple[int, int]
    blocks: bool

    @property
    def reason(self) -> str:
        """Why a frame is bad."""
        return f"{self.part} calibrated for {_size(self.made_px)} px, not for {_size(self.frame_px)}"

    @property
    def effect(self) -> str:
        if self.part == "scale" and self.blocks:
            return "tile_mm has no scale: frames are bad_image"
        return _EFFECTS.get(self.part, "it is not used")

    @property
    def remedy(self) -> str:
        return f"Run `defectd calibrate {COMMANDS.get(self.part, self.part)} --camera {self.camera}` again"

    def __str__(self) -> str:
        return (
            f"{self.part} was calibrated for frames of {_size(self.made_px)} px, the camera gives "
            f"{_size(self.frame_px)}: {self.effect}. {self.remedy}"
        )

    def as_json(self) -> dict[str, Any]:
        sizes = {"made_px": list(self.made_px), "frame_px": list(self.frame_px)}
        return {"part": self.part, **sizes, "effect": self.effect, "remedy": self.remedy}


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]}x{size_px[1]}"


def made_px(camera: config.Camera) -> Mapping[str, tuple[int, int]]:
    """Width and height of the frames that the calibrated parts in use were made with."""
    return camera.made_px if isinstance(camera, Fitted) else {}


def track(camera: config.Camera) -> Track | None:
    """How the region follows the strip; None where it is fixed."""
    return camera.track if isinstance(camera, Fitted) else None


def reference(camera: config.Camera) -> Reference | None:
    """What the watch over drift compares with; None where there is nothing, or nobody wants it."""
    return camera.reference if isinstance(camera, Fitted) and camera.drift_s else None


def misfits(camera: config.Camera, frame_px: tuple[int, int]) -> tuple[Misfit, ...]:
    """The calibrated parts that do not hold for frames of this size.  frame_px: width and height."""
    return tuple(
        Misfit(camera.name, part, made, frame_px, part == "roi" or (part == "scale" and camera.tile_mm is not None))
        for part, made in made_px(camera).items()
        if made != frame_px
    )


def load(path: Path) -> Calibration:
    """What a file says; nothing where there is none.  Raises ConfigError."""
    try:
        there = path.exists()
    except OSError as error:
        problem = Problem("file", "cannot be looked for", str(error.strerror or error), "Choose another state_dir")
        raise ConfigError(str(path), (problem,)) from None
    if not there:
        return Calibration.model_validate({"schema": SCHEMA})
    try:
        raw = yaml_file.read(path)
    except ConfigError as error:
        (found,) = error.problems
        raise ConfigError(str(path), (Problem(found.key, "damaged", found.allowed, REMOVE),)) from None
    try:
        return Calibration.model_validate(raw)
    except ValidationError as error:
        raise unusable(path, error) from None


def unusable(path: Path, error: ValidationError) -> ConfigError:
    """What is wrong with a file of a calibration, and what to do."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "file"
    return ConfigError(str(path), (Problem(where, "not usable", str(first["msg"]), REMOVE),))


def save(path: Path, beside: Mapping[str, bytes] | None = None, **parts: _Part | tuple[_Part, ...]) -> None:
    """Put parts into the file and leave the others as they are; data that nothing refers to any more is removed.

    beside: files by name, written with it, all or none.  Raises ConfigError, CalibrationError.
    """
    before = load(path)
    after = before.model_copy(update=parts)
    write(path, after.coded(), beside, idle=before.files - after.files)


def write(path: Path, content: bytes, beside: Mapping[str, bytes] | None = None, idle: Iterable[str] = ()) -> None:
    """Write a file of a calibration, with those beside it by name, all or none; then remove the idle ones.

    Raises CalibrationError.
    """
    try:
        yaml_file.place({**{path.with_name(name): data for name, data in (beside or {}).items()}, path: content})
        for name in idle:
            path.with_name(name).unlink(missing_ok=True)
    except OSError as error:
        why = f"{path} cannot be written: {error.strerror or error}"
        raise CalibrationError(f"{why}. Make room or rights there, or choose another state_dir") from error


def tiled(camera: config.Camera, path: Path) -> config.Camera:
    """The camera with `tile_px` by its `tile_mm`, where the configuration or the file has a scale.

    Raises ConfigError.
    """
    known = load(path).scale
    scale = camera.scale or (None if known is None else known.scale)
    if camera.tile_mm is None or scale is None:
        return camera
    return camera.model_copy(update={"tile_px": _tile_px(camera, scale, path)})


def applied(settings: config.Config, state_dir: Path | None = None) -> config.Config:
    """The configuration with what was calibrated where it says nothing itself.

    state_dir: of the running node, which another one in the file does not move.  Raises ConfigError.
    """
    folder = state_dir or settings.state_dir
    cameras = tuple(_applied(camera, StateDir(folder).calibration(camera.name)) for camera in settings.cameras)
    return settings.model_copy(update={"cameras": cameras})


def _applied(camera: config.Camera, path: Path) -> config.Camera:
    found, folder = load(path), path.parent
    changes: dict[str, Any] = {}
    used: dict[str, _Made] = {}
    if found.roi is not None:
        if camera.roi is None:
            changes["roi"] = found.roi.roi
        if not camera.exclude:
            changes["exclude"] = list(found.roi.exclude)
        if changes.get("roi") or changes.get("exclude"):
            used["roi"] = found.roi
    if found.scale is not None and camera.scale is None:
        changes["scale"], used["scale"] = found.scale.scale, found.scale
    if found.flatfield is not None and camera.flatfield is None:
        changes["flatfield"], used["flatfield"] = folder / found.flatfield.file, found.flatfield
    if found.reference is not None and camera.drift_s:
        used["reference"] = found.reference
    changes |= _calibrated_thresholds(found, camera)
    _put_normal(camera, found, folder, changes, used)
    if camera.tile_mm is not None and camera.enabled:
        changes["tile_px"] = _tile_px(camera, changes.get("scale", camera.scale), path)
    camera = camera.model_copy(update=changes) if changes else camera
    if not used:
        return camera
    sizes = {name: part.made.frame_px for name, part in used.items() if part.made.frame_px is not None}
    follows = found.roi.track if found.roi is not None and "roi" in changes else None
    return Fitted.model_construct(
        camera.model_fields_set, **dict(camera), made_px=sizes, track=follows, reference=found.reference
    )


def _calibrated_thresholds(found: Calibration, camera: config.Camera) -> dict[str, Any]:
    return (
        {}
        if found.thresholds is None or camera.calibrated_thresholds is not None
        else {"calibrated_thresholds": found.thresholds.calibrated_thresholds}
    )


def _put_normal(
    camera: config.Camera, found: Calibration, folder: Path, changes: dict[str, Any], used: dict[str, _Made]
) -> None:
    """Good surface as each model sees it: which one decides is found when the model is."""
    if found.normal and camera.anomaly is None:
        changes["anomaly"], used["normal"] = tuple(folder / one.file for one in found.normal), found.normal[0]


def _tile_px(camera: config.Camera, scale: config.Scale | None, path: Path) -> int:
    """Side of a tile in px, by the scale in the middle of the frame.  Raises ConfigError."""
    key, value = f"cameras.{camera.name}.tile_mm", f"{camera.tile_mm:g}"
    if scale is None:
        remedy = f"Run `defectd calibrate scale --camera {camera.name}`, or give cameras.scale, or tile_px in its place"
        raise ConfigError(str(path), (Problem(key, value, "needs a scale, and there is none", remedy),))
    side_px = round((camera.tile_mm or 0.0) / scale.mm_per_px)
    least, most = config.TILE_PX
    if not least <= side_px <= most:
        words = f"is {side_px} px by the scale of {scale.mm_per_px:g} mm per px, not {least} to {most}"
        raise ConfigError(str(path), (Problem(key, value, words, "Give another tile_mm, or check the scale"),))
    return side_px
