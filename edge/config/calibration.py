"""Results of calibrations, one file per camera: `state_dir/calibration/CAMERA.yaml`.

`applied` fills the keys that the configuration leaves open. An unreadable file refuses the start: never inspect
uncalibrated by accident. Each part records the size of the frames that it was made with, and is refused for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from edge import config
from edge.config import yaml_file
from edge.config.camera_calibration import CameraCalibration, Made, Part, PartMade, Reference, Track
from edge.config.state_dir import StateDir
from edge.errors import CalibrationError, ConfigError, Problem
from edge.host import rights

SCHEMA: Final = "defectd.calibration/1"
REMOVE: Final = "Remove the file, then calibrate again"


class RegionPart(PartMade):
    """The region that is inspected.  edges: as they were found, for people.

    track: the region follows the edges; None: it is `roi`.  tile_px: side of a tile; None: that of the configuration.
    """

    roi: config.Rectangle | config.Polygon | None
    exclude: tuple[config.Rectangle | config.Polygon, ...] = Field((), max_length=config.MAX_ZONES)
    edges: dict[str, dict[str, float]] = Field(default_factory=dict)
    track: Track | None = None
    tile_px: int | None = Field(None, ge=config.TILE_PX[0], le=config.TILE_PX[1])

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Earlier versions do not know `tile_px`, and must still read files in which none was chosen."""
        values: dict[str, Any] = serialize(self)
        return values if self.tile_px is not None else {key: one for key, one in values.items() if key != "tile_px"}


class ScalePart(PartMade):
    """Millimetres per pixel.  rms_px: error of the board's corners in the frame that gave the plane.

    rms_px None: the scale comes from a known length.
    """

    scale: config.Scale
    rms_px: float | None = None
    views: int = 0


class FlatfieldPart(PartMade):
    """Even light.  file: the map of gains, beside this file.  before, after: unevenness of the light, as a share."""

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    before: float
    after: float


class ClassPoint(Part):
    """One class at its new threshold, on pictures that the threshold was not made from.

    before, level: threshold before and after; level None: it stays.  n: pictures of the class; found: those found as
    any defect; named: those named right.  alarms: defect-free tiles above the threshold.
    """

    name: str
    before: float
    level: float | None
    n: int
    found: int
    named: int
    alarms: int


class Reliability(Part):
    """Expected calibration error in 15 bins, before and after the temperature."""

    before: float
    after: float
    n: int


class ThresholdsPart(PartMade):
    """Thresholds.  recall, false_alarms_per_hour: what was asked for.  sound: defect-free tiles that were used.

    tiles_per_hour: of the camera, if known.
    """

    calibrated_thresholds: config.CalibratedThresholds = Field(alias="levels")
    classes: tuple[ClassPoint, ...]
    reliability: Reliability
    sound: int
    recall: float | None = None
    false_alarms_per_hour: float | None = None
    tiles_per_hour: float | None = None


class FalseAlarms(Part):
    """The false alarms that a threshold leads to, in the unit that was asked for.

    expected: on average; low, high: its 90 % interval.  exact: counted, not extrapolated beyond the footage.
    shown: upper limit by the footage alone, whatever the tail looks like, with 95 % confidence.
    """

    threshold: float
    exact: bool
    expected: float
    low: float
    high: float
    shown: float


class AnomalyPart(PartMade):
    """The anomaly model for one network.  file: its Gaussians and its thresholds, beside this file.

    model: name, version and sha256 of the fp32 network.  alone: `promised` without confirmation over frames.
    pieces: independent pieces of surface, of piece_frames frames each.  left_out: frames that were not used.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: dict[str, str]
    false_alarms_per_hour: float | None = None
    false_alarm_rate: float | None = None
    promised: FalseAlarms
    alone: FalseAlarms | None = None
    doubt: float
    tiles: int
    pieces: int
    piece_frames: int
    fps: float
    confirm: tuple[int, int]
    left_out: int
    made: Made


class TaughtClass(Part):
    """One taught class, on pictures that it was not taught from.

    n: its tiles.  named: those named right.  low, high: the exact 95 % interval of the share.
    confidence: median of the tiles that were named right.  taken_for: other names, by count.
    more: pictures in all that would be needed for nine of ten; None: not known, or too many.
    """

    name: str
    n: int
    named: int
    low: float
    high: float
    confidence: float | None = None
    taken_for: dict[str, int] = Field(default_factory=dict)
    more: int | None = None


class ClassesPart(PartMade):
    """Classes that were taught with one network.  file: the layer, beside this file.

    model: name, version and sha256 of the fp32 network.  classes: all names, in the order of the layer.
    kept: names of the model that stayed without a picture of their own.  macro, low, high: mean recall of the taught
    classes and its 95 % interval.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: dict[str, str]
    tile_px: int
    classes: tuple[str, ...]
    kept: tuple[str, ...] = ()
    taught: tuple[TaughtClass, ...]
    macro: float
    low: float
    high: float


MAX_TAUGHT: Final = 4
"""Taught classes that are kept: the newest of a model is used, `--undo` goes back to the one before."""
MAX_ANOMALY_MODELS: Final = 4
"""Anomaly models that are kept: those for the networks before and after a change, and some to try."""


class Calibration(Part):
    """All calibrations of one camera."""

    schema_: str = Field(SCHEMA, alias="schema", pattern="^defectd.calibration/1$")
    roi: RegionPart | None = None
    scale: ScalePart | None = None
    flatfield: FlatfieldPart | None = None
    reference: Reference | None = None
    thresholds: ThresholdsPart | None = None
    normal: tuple[AnomalyPart, ...] = Field((), max_length=MAX_ANOMALY_MODELS)
    """The newest first, one for each model."""
    classes: tuple[ClassesPart, ...] = Field((), max_length=MAX_TAUGHT)
    """The newest first."""

    @property
    def files(self) -> frozenset[str]:
        """Names of the data files beside this one that it refers to."""
        return frozenset(one.file for one in (*self.normal, *self.classes, self.flatfield) if one is not None)

    def coded(self) -> bytes:
        """The content of the file.  Absent parts are omitted; nulls inside a part are kept."""
        values = self.model_dump(mode="json", by_alias=True)
        return yaml_file.coded({name: value for name, value in values.items() if value is not None and value != []})


COMMANDS: Final = {"roi": "roi", "scale": "scale", "flatfield": "flatfield", "reference": "normal", "normal": "normal"}
"""The calibration that makes a part."""
_EFFECTS: Final = {
    "roi": "frames are bad_image",
    "scale": "nothing is reported in mm",
    "flatfield": "the light is not evened out",
    "reference": "drift is not watched",
    "normal": "the classes decide, the false alarm rate is not controlled",
}
"""What follows when a part is refused. Without its region a frame would be inspected at the wrong place: no verdict."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A part that was made with frames of another size than the camera delivers: it is not used.

    made_px, frame_px: width and height.  blocks: frames cannot be inspected without it.
    """

    camera: str
    part: str
    made_px: tuple[int, int]
    frame_px: tuple[int, int]
    blocks: bool

    @property
    def reason(self) -> str:
        """Why a frame is bad, where the part blocks its inspection."""
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
            f"{self.part} was calibrated for frames of {_size(self.made_px)} px, the camera delivers "
            f"{_size(self.frame_px)}: {self.effect}. {self.remedy}"
        )

    def as_json(self) -> dict[str, Any]:
        sizes = {"made_px": list(self.made_px), "frame_px": list(self.frame_px)}
        return {"part": self.part, **sizes, "effect": self.effect, "remedy": self.remedy}


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]}x{size_px[1]}"


def made_px(camera: config.Camera) -> Mapping[str, tuple[int, int]]:
    """Width and height of the frames that the calibrated parts in use were made with."""
    return camera.calibration.made_px


def track(camera: config.Camera) -> Track | None:
    """How the region follows the strip; None where it is fixed."""
    return camera.calibration.track


def reference(camera: config.Camera) -> Reference | None:
    """What the drift watch compares with; None without a calibration, or where the watch is switched off."""
    return camera.calibration.reference if camera.drift_s else None


def misfits(camera: config.Camera, frame_px: tuple[int, int]) -> tuple[Misfit, ...]:
    """The calibrated parts that do not apply to frames of this size.  frame_px: width and height."""
    return tuple(
        Misfit(camera.name, part, made, frame_px, part == "roi" or (part == "scale" and camera.tile_mm is not None))
        for part, made in made_px(camera).items()
        if made != frame_px
    )


def load(path: Path) -> Calibration:
    """Read a file; an empty calibration where there is none.  Raises ConfigError."""
    if not yaml_file.exists(path):
        return Calibration.model_validate({"schema": SCHEMA})
    try:
        raw = yaml_file.read(path)
    except ConfigError as error:
        (found,) = error.problems
        raise ConfigError(str(path), (Problem(found.key, "damaged", found.allowed, REMOVE),)) from None
    return _validated(path, raw)


def parsed(path: Path, content: bytes) -> Calibration:
    """The content of a file that is not written yet.  path: where it will be.  Raises ConfigError."""
    return _validated(path, yaml_file.parsed(content, str(path)))


def _validated(path: Path, raw: object) -> Calibration:
    try:
        return Calibration.model_validate(raw)
    except ValidationError as error:
        raise unusable(path, error) from None


def unusable(path: Path, error: ValidationError) -> ConfigError:
    """The error for a calibration file with a wrong value, with the remedy."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "file"
    return ConfigError(str(path), (Problem(where, "not usable", str(first["msg"]), REMOVE),))


def save(path: Path, beside: Mapping[str, bytes] | None = None, **parts: Part | tuple[Part, ...]) -> None:
    """Put parts into the file and leave the others as they are; data files that are no longer referred to are deleted.

    beside: data files by name, written with it, all or none.  Raises ConfigError, CalibrationError.
    """
    replace(path, load(path).model_copy(update=parts).coded(), beside)


def previous(path: Path) -> Path:
    """The calibration before the last change, for `undo`.  No camera's own file can have this name."""
    return path.with_name(f"{path.name}~")


def previous_tuning(path: Path) -> Path:
    """The tuning of the machine before the last change of a camera, where that change wrote it too; empty: none was."""
    return path.with_name(f"{path.name}~node")


def replace(path: Path, content: bytes, beside: Mapping[str, bytes] | None = None) -> None:
    """Write a camera's file and keep the one before, with the data files of both; older data files are deleted.

    beside: data files by name, written with it, all or none.  Raises ConfigError, CalibrationError.
    """
    before, after, older = load(path), parsed(path, content), _load_or_empty(previous(path))
    kept = path.read_bytes() if yaml_file.exists(path) else before.coded()
    placed = {**(beside or {}), previous(path).name: kept}
    idle = {*(older.files - before.files), previous_tuning(path).name} - after.files - placed.keys()
    write(path, content, placed, idle=idle)


def _load_or_empty(path: Path) -> Calibration:
    """The same as `load`; an empty calibration for a file that cannot be used."""
    try:
        return load(path)
    except ConfigError:
        return Calibration.model_validate({"schema": SCHEMA})


def write(path: Path, content: bytes, beside: Mapping[str, bytes] | None = None, idle: Iterable[str] = ()) -> None:
    """Write a calibration file, with the data files beside it by name, all or none; then delete the idle ones.

    Raises CalibrationError.
    """
    try:
        yaml_file.place({**{path.with_name(name): data for name, data in (beside or {}).items()}, path: content})
        for name in idle:
            path.with_name(name).unlink(missing_ok=True)
    except OSError as error:
        reason = f"{path} cannot be written: {error.strerror or error}"
        remedy = (
            rights.REMEDY if isinstance(error, PermissionError) else "Free space there, or choose another state_dir"
        )
        raise CalibrationError(f"{reason}. {remedy}") from error


def tiled(camera: config.Camera, path: Path) -> config.Camera:
    """The camera with `tile_px` by its `tile_mm`, where the configuration or the file has a scale, or as calibrated.

    Raises ConfigError.
    """
    known = load(path)
    scale = camera.scale or (None if known.scale is None else known.scale.scale)
    if has_open_tile(camera) and known.roi is not None and known.roi.tile_px is not None:
        return camera.model_copy(update={"tile_px": known.roi.tile_px})
    if camera.tile_mm is None or scale is None:
        return camera
    return camera.model_copy(update={"tile_px": _tile_px(camera, scale, path)})


def has_open_tile(camera: config.Camera) -> bool:
    """Whether the configuration leaves the size of the tiles to the calibration."""
    return camera.tile_mm is None and camera.tile_px == type(camera).model_fields["tile_px"].default


def applied(settings: config.Config, state_dir: Path | None = None) -> config.Config:
    """The configuration, with calibrations for the keys that it leaves open.

    state_dir: where the calibrations are; None: the one that the configuration names.  Raises ConfigError.
    """
    folder = state_dir or settings.state_dir
    cameras = tuple(_applied(camera, StateDir(folder).calibration(camera.name)) for camera in settings.cameras)
    return settings.model_copy(update={"cameras": cameras})


def _applied(camera: config.Camera, path: Path) -> config.Camera:
    found = load(path)
    changes, used = _geometry_and_light(camera, found, path.parent)
    if found.thresholds is not None and camera.calibrated_thresholds is None:
        changes["calibrated_thresholds"] = found.thresholds.calibrated_thresholds
    if found.reference is not None and camera.drift_s:
        used["reference"] = found.reference
    if found.normal and camera.anomaly is None:  # all of them: which network decides is not known yet
        changes["anomaly"], used["normal"] = tuple(path.parent / one.file for one in found.normal), found.normal[0]
    if camera.tile_mm is not None and camera.enabled:
        changes["tile_px"] = _tile_px(camera, changes.get("scale", camera.scale), path)
    in_use = CameraCalibration(
        made_px={name: part.made.frame_px for name, part in used.items() if part.made.frame_px is not None},
        track=found.roi.track if found.roi is not None and "roi" in changes else None,
        reference=found.reference,
        overruled={
            one.model["sha256"]: one.made.overruled for one in found.normal if "normal" in used and one.made.overruled
        },
        taught=tuple(path.parent / one.file for one in found.classes),
    )
    changed = camera.model_copy(update=changes)
    return changed.with_calibration(in_use) if used or found.classes else changed


def _geometry_and_light(
    camera: config.Camera, found: Calibration, folder: Path
) -> tuple[dict[str, Any], dict[str, PartMade]]:
    """Values for the keys that the camera leaves open, and the parts that they come from."""
    changes: dict[str, Any] = {}
    used: dict[str, PartMade] = {}
    if found.roi is not None:
        if camera.roi is None:
            changes["roi"] = found.roi.roi
        if not camera.exclude:
            changes["exclude"] = list(found.roi.exclude)
        if has_open_tile(camera) and found.roi.tile_px is not None:
            changes["tile_px"] = found.roi.tile_px
        if changes.get("roi") or changes.get("exclude"):
            used["roi"] = found.roi
    if found.scale is not None and camera.scale is None:
        changes["scale"], used["scale"] = found.scale.scale, found.scale
    if found.flatfield is not None and camera.flatfield is None:
        changes["flatfield"], used["flatfield"] = folder / found.flatfield.file, found.flatfield
    return changes, used


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
