"""A change of a calibration file that is computed and shown before anything is written.

A dry run stores it in a folder: the whole new file, the data files and pictures beside it, and `change.json`. What is
applied later is byte for byte what was shown, and only where the file is still the one that the dry run saw.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.config import calibration, tuning, yaml_file
from edge.config.state_dir import StateDir
from edge.config.value_types import Name
from edge.errors import CalibrationError
from edge.host import atomic_files, regular_file

SCHEMA: Final = "defectd.calibration-change/1"
RECORD: Final = "change.json"
MAX_RECORD_BYTES: Final = 256 * 1024
MAX_FILE_BYTES: Final = 512 << 20
Kind = Literal["roi", "scale", "flatfield", "normal", "thresholds", "classes", "latency"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")


@dataclass(frozen=True, slots=True)
class Change:
    """What one calibration would write.

    path: the calibration file.  before_sha256: of that file as it is; None where there is none.  after: its content.
    beside: data files and pictures by name.  objections: what speaks against the change, for a person to overrule.
    """

    kind: str
    camera: str
    path: Path
    before_sha256: str | None
    after: bytes
    beside: Mapping[str, bytes]
    objections: tuple[str, ...] = ()

    @property
    def after_sha256(self) -> str:
        return hashlib.sha256(self.after).hexdigest()

    @property
    def is_tuning(self) -> bool:
        """Whether the file is that of the machine, not of a camera."""
        return self.kind == "latency"


class _Record(BaseModel):
    """`change.json`.  beside: sha256 of each file, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["defectd.calibration-change/1"] = Field(alias="schema")
    kind: Kind
    camera: Name
    before_sha256: str | None
    after_sha256: str
    beside: dict[str, str]
    objections: tuple[str, ...]


def digest(path: Path) -> str | None:
    """sha256 of a calibration file; None where there is none.  Raises OSError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def store(change: Change, folder: Path) -> tuple[Path, ...]:
    """Write a change into a folder, which is made where it is missing, for `load`.  Returns the files.

    Raises CalibrationError.
    """
    record = {
        "schema": SCHEMA,
        "kind": change.kind,
        "camera": change.camera,
        "before_sha256": change.before_sha256,
        "after_sha256": change.after_sha256,
        "beside": {name: hashlib.sha256(content).hexdigest() for name, content in change.beside.items()},
        "objections": list(change.objections),
    }
    files = {folder / name: content for name, content in change.beside.items()}
    files |= {folder / change.path.name: change.after, folder / RECORD: json.dumps(record, indent=1).encode()}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_files.replace_all(files, mode=atomic_files.SHARED, owner=folder.stat())
    except OSError as error:
        raise CalibrationError(f"{folder} cannot be written: {error.strerror or error}") from error
    return tuple(files)


def load(folder: Path, state: StateDir) -> Change:
    """A change that a dry run stored.  state: where it would be written.  Raises CalibrationError."""
    try:
        record = _Record.model_validate_json(_read(folder / RECORD, MAX_RECORD_BYTES))
    except FileNotFoundError:
        raise CalibrationError(f"{folder} holds no change: make one with --dry-run --plates {folder}") from None
    except (OSError, ValidationError) as error:
        raise _damaged(folder, RECORD) from error
    path = state.tuning if record.kind == "latency" else state.calibration(record.camera)
    contents = {
        name: _checked(folder, name, expected)
        for name, expected in {**record.beside, path.name: record.after_sha256}.items()
    }
    after = contents.pop(path.name)
    return Change(record.kind, record.camera, path, record.before_sha256, after, contents, record.objections)


def apply(change: Change, *, has_looked: bool = False) -> dict[str, Any]:
    """Write a change; the file before it stays for `undo`.  has_looked: a person overrules the objections.

    Returns the file's name and its sha256 before and after.  Raises CalibrationError where the file is no longer the
    one that the change was made for, ConfigError.
    """
    if change.objections and not has_looked:
        raise CalibrationError(
            f"{'. Also: '.join(change.objections)}. Nothing was written. Look at the plates; to accept it all the "
            "same, give --i-have-looked"
        )
    check_fresh(change.path, change.before_sha256)
    if change.is_tuning:
        tuning.parsed(change.path, change.after)
        taken_back = [kept.name for kept in change.path.parent.glob(calibration.previous_tuning(Path("*.yaml")).name)]
        calibration.write(change.path, change.after, change.beside, idle=taken_back)
    else:
        calibration.replace(change.path, change.after, change.beside)
    return {"name": change.path.name, "before_sha256": change.before_sha256, "after_sha256": change.after_sha256}


def apply_with_tuning(change: Change, tuned: Change | None) -> dict[str, Any]:
    """Write a change of a camera together with one of the machine, both or neither; `undo` takes both back.

    Returns and raises as `apply`.
    """
    if tuned is None:
        return apply(change)
    check_fresh(change.path, change.before_sha256)
    check_fresh(tuned.path, tuned.before_sha256)
    tuning.parsed(tuned.path, tuned.after)
    kept = {calibration.previous_tuning(change.path).name: _content(tuned.path)}
    calibration.replace(
        change.path, change.after, {**change.beside, **tuned.beside, tuned.path.name: tuned.after, **kept}
    )
    return {"name": change.path.name, "before_sha256": change.before_sha256, "after_sha256": change.after_sha256}


def undo(path: Path, tuned_path: Path) -> dict[str, Any]:
    """Go back to the calibration before the last change; a second time goes forward again.

    tuned_path: the file of the machine, which goes back too where that change wrote it.
    Returns as `apply`.  Raises CalibrationError where none is kept, ConfigError, OSError.
    """
    kept = calibration.previous(path)
    if not yaml_file.exists(kept):
        raise CalibrationError(f"{path}: no earlier calibration is kept: calibrate again")
    before, content, kept_tuning = digest(path), kept.read_bytes(), calibration.previous_tuning(path)
    if yaml_file.exists(kept_tuning):
        earlier = kept_tuning.read_bytes()
        beside = {kept_tuning.name: _content(tuned_path)} | ({tuned_path.name: earlier} if earlier else {})
        calibration.replace(path, content, beside)
        if not earlier:
            tuned_path.unlink(missing_ok=True)
    else:
        calibration.replace(path, content)
    return {"name": path.name, "before_sha256": before, "after_sha256": hashlib.sha256(content).hexdigest()}


def _content(path: Path) -> bytes:
    """Of a file; empty where there is none.  Raises OSError."""
    return path.read_bytes() if yaml_file.exists(path) else b""


def check_fresh(path: Path, seen_sha256: str | None) -> None:
    """Refuse a change of a file that somebody else changed since it was shown.  Raises CalibrationError."""
    if digest(path) != seen_sha256:
        raise CalibrationError(
            f"{path} has changed since this was computed: nothing was written. Look at what is there now, and run it "
            "again"
        )


def _checked(folder: Path, name: str, expected: str) -> bytes:
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise _damaged(folder, RECORD)
    try:
        content = _read(folder / name, MAX_FILE_BYTES)
    except OSError as error:
        raise _damaged(folder, name) from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise _damaged(folder, name)
    return content


def _read(path: Path, max_bytes: int) -> bytes:
    """Raises OSError, also for a file that is too large."""
    content = regular_file.read(path, max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(f"{path} is larger than {max_bytes} bytes")
    return content


def _damaged(folder: Path, name: str) -> CalibrationError:
    return CalibrationError(f"{folder / name} is not what the dry run wrote: run it again")
