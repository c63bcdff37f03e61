"""The run folder: what each stage made, from which inputs, and whether it is still up to date."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from edge.host.clock import NS_PER_S, Clock, stamp
from trainer.distributed import from_first, world
from trainer.recipe import TrainingError

SCHEMA: Final = "defectd.stage/1"
RECORDS: Final = "stages"
DRAFT: Final = ".draft"
CHECKPOINTS: Final = "checkpoints"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageResult:
    """A finished stage.  outputs: file in the run folder -> sha256.  notes: results as JSON."""

    stage: str
    key: str
    """Hash of everything that the stage depends on."""
    outputs: dict[str, str]
    notes: dict[str, Any]
    seconds: float
    made_now: bool

    @property
    def sha256(self) -> str:
        """Hash of all outputs: the next stages depend on it."""
        return _hash(self.outputs)


class RunFolder:
    """One run folder.  The files of a stage appear at once and its record after them; incomplete stages run again."""

    def __init__(self, folder: Path, clock: Clock, *, command: str = "") -> None:
        self.folder, self.clock, self.command = folder, clock, command

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other trainings.  Raises TrainingError if one works in it."""
        if not world().first:
            yield
            return
        with _as_training_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrainingError(
                    f"{self.folder}: another training works in this folder. Wait for it, or use another folder"
                ) from None
            for left in self.folder.glob(f"**/{DRAFT}*"):  # left by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.folder / DRAFT, ignore_errors=True)

    def stage(
        self,
        name: str,
        settings: dict[str, Any],
        needs: Sequence[StageResult],
        make: Callable[[Path, Path], dict[str, Any] | None],
        *,
        started: Callable[[], None] = lambda: None,
    ) -> StageResult:
        """Make a stage, unless it is up to date.

        settings: everything that decides the result besides the stages in `needs`, as JSON.  make: gets a draft folder,
        whose files appear in the run folder when the stage is finished, and a checkpoint folder, which stays until
        then; returns the notes.  started: called if the stage has to be made.
        """
        key = _hash({"stage": name, "settings": settings, "needs": [need.sha256 for need in needs]})
        found = from_first(self._up_to_date(name, key) if world().first else None)
        if found:
            return found
        started()
        started_ns = self.clock.monotonic_ns()
        draft = self.folder / DRAFT / (name if world().first else f"{name}-{world().rank}")
        checkpoints = self.folder / CHECKPOINTS / f"{name}-{key[:12]}"
        try:
            with _as_training_error(self.folder):
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
                notes = make(draft, checkpoints) or {}
                seconds = round((self.clock.monotonic_ns() - started_ns) / NS_PER_S, 1)
                made = from_first(self._publish(name, key, settings, draft, notes, seconds) if world().first else None)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        assert made is not None
        return made

    def path(self, name: str) -> Path:
        return self.folder / name

    def _record(self, name: str) -> Path:
        return self.folder / RECORDS / f"{name}.json"

    def _up_to_date(self, name: str, key: str) -> StageResult | None:
        try:
            content = json.loads(self._record(name).read_text("utf-8"))
            if (content["schema"], content["key"]) != (SCHEMA, key):
                return None
            if any(_sha256(self.folder / file) != known for file, known in content["outputs"].items()):
                return None
            return StageResult(name, key, content["outputs"], content["notes"], content["seconds"], made_now=False)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # missing or damaged: the stage runs again

    def _publish(
        self, name: str, key: str, settings: dict[str, Any], draft: Path, notes: dict[str, Any], seconds: float
    ) -> StageResult:
        """Move the files of a stage into the run folder, and write the record last."""
        outputs = {}
        self._record(name).unlink(missing_ok=True)
        for made in sorted(draft.iterdir()):
            for file in sorted(f for f in (made, *made.rglob("*")) if f.is_file()):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
                outputs[str(file.relative_to(draft))] = _sha256(file)
            place = self.folder / made.name
            if place.is_dir():
                shutil.rmtree(place)
            made.replace(place)
        record = {
            "schema": SCHEMA,
            "stage": name,
            "key": key,
            "command": self.command,
            "settings": settings,
            "outputs": outputs,
            "notes": notes,
            "seconds": seconds,
            "made": stamp(self.clock.wall_ns()),
            "commit": commit(),
        }
        write(self._record(name), json.dumps(record, indent=1) + "\n")
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        return StageResult(name, key, outputs, notes, seconds, made_now=True)


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Replace a file atomically: after an interruption or on a full disk the old file stays.  Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _as_training_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where, why = error.filename or folder, error.strerror or error
        raise TrainingError(
            f"{where}: {why}. Free disk space or fix the cause, then run the same command again: finished stages stay"
        ) from error


def commit() -> str | None:
    """Commit of the running code, with `+` if files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603, S607
        return done.stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", Path(__file__).name) == "":
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
