"""How the network runs best on this box: `state_dir/calibration/node.yaml`, by `defectd calibrate latency`.

It holds for one processor, one onnxruntime and one bundle; elsewhere, and where the file cannot be used, the box runs
as if nothing had been measured, and says so: that costs time, never a verdict.
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
    """What a measurement of time holds for.  bundle: its digest."""

    processor: str
    cores: int
    onnxruntime: str
    bundle: str


class Timed(_Part):
    """One way to run the network.  Frames of the camera through the daemon's line, ms.

    calm_ms: the quarter that was quickest took no longer; by this they are compared.
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
    """int8 beside fp32 on this box.  tiles: judged by both.  moved: to or from unsure.  contradicted: all else."""

    tiles: int
    defects: int
    """Of the tiles, by fp32."""
    moved: int
    contradicted: int
    why_not: str | None = None
    """What forbids int8; None: nothing does."""


class Capacity(_Part):
    """How many cameras the box holds at a pace: every tile of every frame.  p99_ms: of one camera, grab to verdict.

    at_least: more were not tried.
    """

    fps: float
    cameras: int
    at_least: bool = False
    p99_ms: float
    n: int


class Tuning(_Part):
    """All that was measured.  chosen is one of rows."""

    schema_: str = Field(SCHEMA, alias="schema", pattern="^defectd.tuning/1$")
    place: HostFingerprint
    camera: str
    tiles: int
    """Of a frame."""
    chosen: Timed
    rows: tuple[Timed, ...]
    parity: Parity
    holds: tuple[Capacity, ...] = ()
    made: Made


def here(digest: str) -> HostFingerprint:
    """Where a measurement of this moment holds."""
    return HostFingerprint(
        processor=machine.processor(), cores=machine.cores(), onnxruntime=metadata.version("onnxruntime"), bundle=digest
    )


def load(path: Path) -> Tuning | None:
    """What was measured; None where nothing was.  Raises ConfigError for a file that cannot be used."""
    if not path.exists():
        return None
    raw = yaml_file.read(path)
    try:
        return Tuning.model_validate(raw)
    except ValidationError as error:
        raise unusable(path, error) from None


def save(path: Path, tuning: Tuning, beside: Mapping[str, bytes] | None = None) -> None:
    """beside: files by name, written with it, all or none.  Raises CalibrationError; all is then as it was."""
    write(path, yaml_file.coded(tuning.model_dump(mode="json", by_alias=True)), beside)


def fitted(model: config.Model, digest: str, state_dir: Path) -> config.Model:
    """The section `model` with what was measured here for this bundle, where it says nothing itself."""
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
        log.info("by %s the network runs with %s", path, ", ".join(f"{key} {value}" for key, value in changes.items()))
    return model.model_copy(update=changes)


def differences(measured: HostFingerprint, now: HostFingerprint) -> list[str]:
    """In words, what is another than it was."""
    names = {"processor": "on the processor", "cores": "with cores", "onnxruntime": "with onnxruntime"}
    found = [
        f"{words} {getattr(measured, key)}, this is {getattr(now, key)}"
        for key, words in names.items()
        if getattr(measured, key) != getattr(now, key)
    ]
    if measured.bundle != now.bundle:
        found.append(f"for the bundle {measured.bundle[:12]}, this is {now.bundle[:12]}")
    return found
