"""The run folder: what each stage made, of what, and whether that still holds."""

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
class Done:
    """A finished stage.  notes: what it has to say, as JSON.  outputs: files in the run folder, and their hashes."""

    stage: str
    key: str
    """Hash of everything that it depends on."""
    outputs: dict[str, str]
    notes: dict[str, Any]
    seconds: float
    made_now: bool

    @property
    def sha256(self) -> str:
        """Of all that it made: what the next stages depend on."""
        return _hash(self.outputs)


class Run:
    """One folder.  A stage's files appear whole, and its record after them: what is not whole is made again."""

    def __init__(self, folder: Path, clock: Clock, *, command: str = "") -> None:
        self.folder, self.clock, self.command = folder, clock, command

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else works in this folder meanwhile.  Raises TrainingError if somebody does."""
        if not world().first:
            yield
            return
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrainingError(
                    f"{self.folder}: another training works here. Wait for it, or use another folder"
                ) from None
            for left in self.folder.glob(f"**/{DRAFT}*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.folder / DRAFT, ignore_errors=True)

    def stage(
        self,
        name: str,
        settings: dict[str, Any],
        needs: Sequence[Done],
        make: Callable[[Path, Path], dict[str, Any] | None],
        *,
        started: Callable[[], None] = lambda: None,
    ) -> Done:
        """Make a stage, unless it was made of the same things already.

        settings: all that decides the result besides what is needed, as JSON.  make: gets a folder for its files, which
        appear in the run folder when it is done, and one for checkpoints, which stays until then; returns its notes.
        """
        key = _hash({"stage": name, "settings": settings, "needs": [need.sha256 for need in needs]})
        found = from_first(self._found(name, key) if world().first else None)
        if found:
            return found
        started()
        begun_ns = self.clock.monotonic_ns()
        draft = self.folder / DRAFT / (name if world().first else f"{name}-{world().rank}")
        checkpoints = self.folder / CHECKPOINTS / f"{name}-{key[:12]}"
        try:
            with _told(self.folder):
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
                notes = make(draft, checkpoints) or {}
                seconds = round((self.clock.monotonic_ns() - begun_ns) / NS_PER_S, 1)
                made = from_first(self._kept(name, key, settings, draft, notes, seconds) if world().first else None)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        assert made is not None
        return made

    def path(self, name: str) -> Path:
        return self.folder / name

    def _record(self, name: str) -> Path:
        return self.folder / RECORDS / f"{name}.json"

    def _found(self, name: str, key: str) -> Done | None:
        try:
            content = json.loads(self._record(name).read_text("utf-8"))
            if (content["schema"], content["key"]) != (SCHEMA, key):
                return None
            if any(_sha256(self.folder / file) != known for file, known in content["outputs"].items()):
                return None
            return Done(name, key, content["outputs"], content["notes"], content["seconds"], made_now=False)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # damaged or not there: made again

    def _kept(
        self, name: str, key: str, settings: dict[str, Any], draft: Path, notes: dict[str, Any], seconds: float
    ) -> Done:
        """Move what a stage made to its place, and write the record last."""
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
        return Done(name, key, outputs, notes, seconds, made_now=True)


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Replace a file at once: who is interrupted, or has a full disk, keeps the old one.  Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with half.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where, why = error.filename or folder, error.strerror or error
        raise TrainingError(
            f"{where}: {why}. Make room or mend it, then run the same again: what is finished stays"
        ) from error


def commit() -> str | None:
    """Of the code that runs, with `+` when it was changed since; None outside a checkout."""
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
