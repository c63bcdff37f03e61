"""How the network runs fastest on this machine: `state_dir/calibration/node.yaml`, by `defectd calibrate latency`.

The file applies to one processor, one onnxruntime and one bundle. Otherwise, and where it cannot be used, the network
runs untuned, and the log says so: that costs time, never a verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge import config
from edge.config import yaml_file
from edge.config.calibration import unusable, write
from edge.config.camera_calibration import Made
from edge.config.state_dir import StateDir
from edge.errors import ConfigError
from edge.host import machine

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.tuning/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class HostFingerprint(_Part):
    """What a measurement of time applies to.  bundle: its digest."""

    processor: str
    cores: int
    onnxruntime: str
    bundle: str


class Timed(_Part):
    """One way to run the network, timed with the camera's frames through the daemon's inspection loop, ms.

    calm_ms: the lower quartile, by which the ways are compared.
    """

    precision: Literal["fp32", "int8"]
    threads: int = Field(ge=1, le=64)
    batch: int = Field(ge=1, le=512)
    calm_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    n: int


class Parity(_Part):
    """int8 compared with fp32 on this machine.  tiles: inspected by both.

    moved: verdicts that changed to or from unsure.  contradicted: all other changed verdicts.
    """

    tiles: int
    defects: int
    """Defects among the tiles, by fp32."""
    moved: int
    contradicted: int
    why_not: str | None = None
    """Why int8 may not be used; None: it may."""


class Capacity(_Part):
    """How many cameras this machine can inspect at a frame rate: every tile of every frame.

    at_least: more were not tried.  p99_ms: of one camera, from grab to verdict.
    """

    fps: float
    cameras: int
    at_least: bool = False
    p99_ms: float
    n: int


class Tuning(_Part):
    """All measurements.  chosen: one of `rows`."""

    schema_: str = Field(SCHEMA, alias="schema", pattern="^defectd.tuning/1$")
    place: HostFingerprint
    camera: str
    tiles: int
    """Tiles of one frame."""
    chosen: Timed
    rows: tuple[Timed, ...]
    parity: Parity
    holds: tuple[Capacity, ...] = ()
    made: Made


def here(digest: str) -> HostFingerprint:
    """What a measurement made now applies to."""
    return HostFingerprint(
        processor=machine.processor(), cores=machine.cores(), onnxruntime=metadata.version("onnxruntime"), bundle=digest
    )


def load(path: Path) -> Tuning | None:
    """The measurements; None where there are none.  Raises ConfigError for a file that cannot be used."""
    return _validated(path, yaml_file.read(path)) if yaml_file.exists(path) else None


def parsed(path: Path, content: bytes) -> Tuning:
    """The content of a file that is not written yet.  path: where it will be.  Raises ConfigError."""
    return _validated(path, yaml_file.parsed(content, str(path)))


def _validated(path: Path, raw: object) -> Tuning:
    try:
        return Tuning.model_validate(raw)
    except ValidationError as error:
        raise unusable(path, error) from None


def coded(tuning: Tuning) -> bytes:
    """The content of the file."""
    return yaml_file.coded(tuning.model_dump(mode="json", by_alias=True))


def save(path: Path, tuning: Tuning, beside: Mapping[str, bytes] | None = None) -> None:
    """Write the measurements.  beside: files by name, written with them, all or none.

    Raises CalibrationError; the files are then unchanged.
    """
    write(path, coded(tuning), beside)


def fitted(model: config.Model, digest: str, state_dir: Path) -> config.Model:
    """The section `model`, with what was measured here for this bundle in the keys that it leaves open."""
    path = StateDir(state_dir).tuning
    try:
        found = load(path)
    except (ConfigError, OSError) as error:
        log.warning("%s is not used: %s", path, error)
        return model
    if found is None:
        return model
    other = differences(found.place, here(digest))
    if other:
        log.warning("%s is not used: measured %s. Run `defectd calibrate latency` again", path, "; ".join(other))
        return model
    changes: dict[str, Any] = {}
    if model.precision == "auto":
        changes["precision"] = found.chosen.precision
    if model.threads is None:
        changes["threads"] = found.chosen.threads
    if model.batch is None:
        changes["batch"] = found.chosen.batch
    if changes:
        log.info("%s: the network runs with %s", path, ", ".join(f"{key} {value}" for key, value in changes.items()))
    return model.model_copy(update=changes)


def differences(measured: HostFingerprint, now: HostFingerprint) -> list[str]:
    """In words, what differs from the measurement."""
    names = {"processor": "on the processor", "cores": "with cores", "onnxruntime": "with onnxruntime"}
    found = [
        f"{words} {getattr(measured, key)}, this is {getattr(now, key)}"
        for key, words in names.items()
        if getattr(measured, key) != getattr(now, key)
    ]
    if measured.bundle != now.bundle:
        found.append(f"for the bundle {measured.bundle[:12]}, this is {now.bundle[:12]}")
    return found
