"""What people say that a picture shows: an append-only file, and a copy of each labelled picture.

`labels.jsonl` has one JSON object a line: a label, or an undo that names the number of a label. No line is ever
changed. The newest label of a picture that was not undone counts. `pictures/SHA256.jpg` is the labelled picture: the
archive may delete the original to keep its quota.

The process that serves the page uses this module: it imports neither numpy nor pydantic.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from edge.errors import EvidenceError
from edge.evidence import archive
from edge.host import atomic_files, regular_file
from edge.host.clock import Clock, stamp

SCHEMA: Final = "defectd.label/1"
GOOD: Final = "good"
UNCLEAR: Final = "unclear"
"""The picture does not show what it is: kept, so that it is not asked again, and never exported."""
KINDS: Final[tuple[archive.Kind, ...]] = ("audit", "unsure", "defect")
"""Pictures that show one tile, or one defect."""
MAX_PICTURES: Final = 10_000
MAX_BYTES: Final = 512 << 20
"""Of all labelled pictures."""
MAX_LINES: Final = 60_000
MAX_LINE: Final = 4096
MAX_RECENT: Final = 200
MAX_BATCH: Final = 200
"""Labels of one call."""
MIN_FREE_BYTES: Final = 64 << 20
CLASS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .-]{0,62}")
"""A label is the name of a folder in an export."""
NEW_CLASS: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
"""A class that a person names: it becomes a class of events once it was taught."""
NO_CLASS: Final = frozenset((GOOD, "normal", UNCLEAR, "unsure", "anomaly", "unknown"))
"""Words with a meaning of their own: folders of good surface, and what has no name."""
MAX_CLASSES: Final = 64
"""Names of defects that people have given."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A picture, and what inspection knew about it when it was taken.

    decided: what inspection called it: a class, `good` or `unsure`.  guess: its class, the most probable one where
    inspection was unsure.  best, confidence: the most probable class and its probability.  anomaly: anomaly score in
    units of the threshold.  model: digest of what judged it, of the bundle and of taught classes.  blind: the picture
    was taken at random, and nobody had seen the guess.
    """

    evidence: str
    camera: str
    kind: str
    decided: str
    guess: str | None
    best: str | None = None
    confidence: float | None = None
    anomaly: float | None = None
    model: str | None = None
    coil: str | None = None
    position_m: float | None = None
    taken: str | None = None
    blind: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """Who labels."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Label:
    """One label.  number: counts the lines of the file.  how: `single`, or `grid` for many at once."""

    number: int
    sha256: str
    label: str
    by: str
    role: str
    time: str
    how: str
    origin: Origin

    @property
    def blind(self) -> bool:
        return self.origin.blind

    @property
    def picture(self) -> str:
        """The name of its copy."""
        return f"{self.sha256}.jpg"

    def as_json(self) -> dict[str, Any]:
        """One line of the file."""
        own = {name: getattr(self, name) for name in ("number", "sha256", "label", "by", "role", "time", "how")}
        return {"schema": SCHEMA, **own, **asdict(self.origin), "undone": None}


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the file, for lists.  before: the label that counted until then.  undone: the line is an undo."""

    label: Label
    before: str | None
    undone: bool


@dataclass(frozen=True, slots=True)
class NewLabel:
    """A label that somebody gives to a picture of the archive."""

    evidence: str
    label: str
    how: str = "single"


class LabelStore:
    """The labels of a node.  All methods may be called by any thread; two processes may share the folder."""

    def __init__(
        self,
        folder: Path,
        evidence: Path,
        clock: Clock,
        *,
        max_pictures: int = MAX_PICTURES,
        max_bytes: int = MAX_BYTES,
        max_lines: int = MAX_LINES,
    ) -> None:
        """folder: `state_dir/labels`.  evidence: the archive's folder.  Nothing is created before the first label."""
        self._folder = folder
        self._evidence = evidence
        self._clock = clock
        self._max_pictures = max_pictures
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._using = threading.Lock()
        self._journal = Journal()
        self._read_bytes = 0
        self._hash = hashlib.sha256()
        """Of the lines that were read."""
        self._copies: dict[str, int] | None = None
        """Size of each copied picture, by name; None: not listed yet."""

    # ---- reading -----------------------------------------------------------------------------------

    @property
    def damaged(self) -> int:
        """Lines that could not be read, such as the last one before a power cut."""
        return self._journal.damaged

    def digest(self) -> str:
        """SHA-256 of the file of labels, as far as it has whole lines.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return self._hash.hexdigest()

    def all(self) -> list[Label]:
        """The label that counts of each picture, oldest first.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return self._journal.counting()

    def recent(self, limit: int) -> list[Change]:
        """The newest changes, newest first.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return self._journal.recent[: -limit - 1 : -1]

    def of(self, evidence: str) -> Label | None:
        """The label of a picture of the archive, by its path.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return self._journal.label_of(evidence)

    def ever(self) -> frozenset[str]:
        """Paths of all pictures that somebody has labelled, also where the label was undone.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return frozenset(self._journal.ever)

    def labelled(self) -> frozenset[str]:
        """Paths of the pictures with a label that counts.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return frozenset(self._journal.by_path)

    def classes(self) -> list[str]:
        """Names of defects among the labels that count, in the order of the alphabet.  Raises EvidenceError."""
        with self._using:
            self._catch_up()
            return sorted({held[-1].label for held in self._journal.by_path.values()} - NO_CLASS)

    def picture(self, label: Label) -> bytes:
        """The copy of a labelled picture.  Raises EvidenceError when it is gone or damaged."""
        return picture(self._folder, label)

    # ---- writing -----------------------------------------------------------------------------------

    def add(self, given: Sequence[NewLabel], person: Person) -> list[Label]:
        """Copy the pictures out and append the labels; all are on the disk when this returns.

        Labels of pictures that are gone are left out.  Raises EvidenceError, and then no label was added: a wrong
        label, no space, or no place (`labels_full`).
        """
        for one in given:
            if not CLASS.fullmatch(one.label):
                raise EvidenceError("label", f"{one.label[:80]!r} is no class")
            if one.evidence.partition("/")[0] not in KINDS:
                raise EvidenceError("path", f"only pictures of {', '.join(KINDS)} are labelled")
        if len(given) > MAX_BATCH:
            raise EvidenceError("label", f"{len(given)} labels are too many for one call: at most {MAX_BATCH}")
        with self._locked():
            self._check_space(len(given))
            time, labels = stamp(self._clock.wall_ns()), list[Label]()
            seen = set[str]()
            for one in given:
                copied = self._copied(one.evidence)
                if copied is None:
                    continue
                sha256, origin = copied
                if one.evidence in self._journal.ever or one.evidence in seen:  # the guess was shown with the first one
                    origin = without_blind(origin)
                seen.add(one.evidence)
                number = self._journal.next + len(labels)
                labels.append(Label(number, sha256, one.label, person.name, person.role, time, one.how, origin))
            self._append([label.as_json() for label in labels])
            return labels

    def undo(self, person: Person, count: int = 1) -> list[Label]:
        """Take back the newest labels of this person that count; returns them, newest first.  Raises EvidenceError."""
        with self._locked():
            time = stamp(self._clock.wall_ns())
            taken = self._journal.newest_of(person.name, min(count, MAX_BATCH))
            lines = [
                {
                    "schema": SCHEMA,
                    "number": self._journal.next + place,
                    "sha256": label.sha256,
                    "label": label.label,
                    "by": person.name,
                    "role": person.role,
                    "time": time,
                    "evidence": label.origin.evidence,
                    "undone": label.number,
                }
                for place, label in enumerate(taken)
            ]
            self._append(lines)
            return taken

    # ---- the files ---------------------------------------------------------------------------------

    @property
    def _path(self) -> Path:
        return self._folder / "labels.jsonl"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over all processes."""
        with self._using:
            try:
                (self._folder / "pictures").mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise EvidenceError("disk", f"{self._folder}: {error.strerror or error}") from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._catch_up()
                yield
            except OSError as error:
                raise EvidenceError("disk", f"{self._folder}: {error.strerror or error}") from error
            finally:
                os.close(handle)

    def _catch_up(self) -> None:
        """Read what was appended since the last call, by this process or another one."""
        try:
            with regular_file.opened(self._path) as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._read_bytes:  # the file was replaced
                    self._forget()
                file.seek(self._read_bytes)
                while True:
                    line = file.readline(MAX_LINE)
                    if not line.endswith(b"\n") and len(line) < MAX_LINE:
                        break  # not finished yet, or torn by a power cut: read again later
                    self._read_bytes += len(line)
                    self._hash.update(line)
                    self._journal.take(line)
        except FileNotFoundError:
            self._forget()
        except OSError as error:
            raise EvidenceError("disk", f"{self._path}: {error.strerror or error}") from error

    def _forget(self) -> None:
        self._journal, self._read_bytes, self._copies, self._hash = Journal(), 0, None, hashlib.sha256()

    def _append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Append lines with one write, and wait until they are on the disk."""
        if not lines:
            return
        data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        is_new = not self._path.exists()
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(handle).st_size
            if end and os.pread(handle, 1, end - 1) != b"\n":
                data = b"\n" + data  # ends a line that a power cut has torn
            written = os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        if written < len(data):
            raise EvidenceError("disk", f"{self._path}: only a part of the labels was written: the disk is full")
        if is_new:
            atomic_files.sync(self._folder)
        self._catch_up()

    def _check_space(self, count: int) -> None:
        """Raises EvidenceError when there is no place for so many more labels."""
        remedy = f"Export them (defectd evidence export --labelled), then move {self._folder} away"
        if self._journal.next + count > self._max_lines:
            raise EvidenceError("labels_full", f"{self._max_lines} labels are the maximum. {remedy}")
        copies = self._listed()
        if len(copies) >= self._max_pictures:
            raise EvidenceError("labels_full", f"{len(copies)} labelled pictures are the maximum. {remedy}")
        if sum(copies.values()) >= self._max_bytes:
            size = f"{self._max_bytes / (1 << 20):.0f} MiB"
            raise EvidenceError("labels_full", f"the labelled pictures fill {size}, the maximum. {remedy}")
        if shutil.disk_usage(self._folder).free < MIN_FREE_BYTES:
            raise EvidenceError("disk", f"less than {MIN_FREE_BYTES >> 20} MiB is free for {self._folder}")

    def _listed(self) -> dict[str, int]:
        """The copied pictures and their sizes, among them some without a label, after a power cut."""
        if self._copies is None:
            with os.scandir(self._folder / "pictures") as entries:
                self._copies = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
        return self._copies

    def _copied(self, path: str) -> tuple[str, Origin] | None:
        """Copy a picture out.  Returns its hash and origin; None when it is gone."""
        known = self._journal.label_of(path)
        try:
            data = archive.read(self._evidence, path)
        except EvidenceError as error:
            if error.cause == "path":
                raise
            if known is None:
                return None
            return known.sha256, known.origin
        sha256 = hashlib.sha256(data).hexdigest()
        name, copies = f"{sha256}.jpg", self._listed()
        if name not in copies:
            target = self._folder / "pictures" / name
            try:
                os.link(self._evidence / path, target)
                _flush(target)
            except FileExistsError:
                pass
            except OSError:  # another disk, or one without links
                atomic_files.replace(target, data)
            atomic_files.sync(target.parent)
            copies[name] = len(data)
        return sha256, origin_of(path, archive.facts_of(data))


class Journal:
    """The lines of the file, as far as they matter: the labels, and what counts now."""

    def __init__(self) -> None:
        self.next = 1
        self.damaged = 0
        self.by_path: dict[str, list[Label]] = {}
        """The labels of a picture that were not undone, oldest first."""
        self.ever: set[str] = set()
        self.recent: list[Change] = []

    def take(self, line: bytes) -> None:
        """Take in one line."""
        try:
            row = json.loads(line)
            number, undone, path = int(row["number"]), row["undone"], str(row["evidence"])
            is_ours = row["schema"] == SCHEMA
            label = None if undone is not None or not is_ours else _label_of(row)
        except (ValueError, KeyError, TypeError, RecursionError):
            self.damaged += bool(line.strip())
            return
        self.next = max(self.next, number + 1)
        if label is not None:
            path = label.origin.evidence  # one text in memory, not two
            held = self.by_path.setdefault(path, [])
            self._note(Change(label, held[-1].label if held else None, undone=False))
            held.append(label)
            self.ever.add(path)
        elif is_ours:
            self._undo(path, undone)

    def counting(self) -> list[Label]:
        """The label that counts of each picture, oldest first."""
        return sorted((held[-1] for held in self.by_path.values()), key=lambda label: label.number)

    def label_of(self, path: str) -> Label | None:
        held = self.by_path.get(path)
        return held[-1] if held else None

    def newest_of(self, name: str, count: int) -> list[Label]:
        """The newest labels of a person, newest first."""
        own = (label for held in self.by_path.values() for label in held if label.by == name)
        return sorted(own, key=lambda label: -label.number)[:count]

    def _undo(self, path: str, number: int) -> None:
        held = self.by_path.get(path, [])
        taken = next((label for label in held if label.number == number), None)
        if taken is None:
            return
        held.remove(taken)
        if not held:
            del self.by_path[path]
        self._note(Change(taken, taken.label, undone=True))

    def _note(self, change: Change) -> None:
        self.recent.append(change)
        if len(self.recent) > 2 * MAX_RECENT:
            del self.recent[:MAX_RECENT]


def is_new_class(name: str) -> bool:
    """Whether a person may give a new class this name."""
    return NEW_CLASS.fullmatch(name) is not None and name not in NO_CLASS


def read(folder: Path) -> list[Label]:
    """The labels that count, oldest first, for a command that only reads.  Raises EvidenceError."""
    return LabelStore(folder, folder, _NoClock()).all()


def picture(folder: Path, label: Label) -> bytes:
    """The copy of a labelled picture.  Raises EvidenceError when it is gone or damaged."""
    try:
        data = regular_file.read(folder / "pictures" / label.picture, archive.MAX_PICTURE_BYTES)
    except OSError as error:
        raise EvidenceError("gone", f"{label.picture}: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != label.sha256:
        raise EvidenceError("damaged", f"{label.picture} is damaged: its hash is not the one in its name")
    return data


class _NoClock:
    """A reader stamps nothing."""

    def monotonic_ns(self) -> int:
        return 0

    def wall_ns(self) -> int:
        return 0


def origin_of(path: str, facts: dict[str, Any]) -> Origin:
    """What the facts of a picture state.  Facts of other versions have less: what is missing is None."""
    kind = path.partition("/")[0]
    decided = _text(facts.get("label")) or "unsure"
    scores = facts.get("scores")
    named = [
        (name, float(p))
        for name, p in (scores.items() if isinstance(scores, dict) else ())
        if name != GOOD and isinstance(p, int | float)
    ]
    best, confidence = max(named, key=lambda one: one[1], default=(None, None))
    if confidence is None and isinstance(facts.get("confidence"), int | float):
        best, confidence = decided, float(facts["confidence"])
    return Origin(
        evidence=path,
        camera=sys.intern(str(facts.get("camera", ""))),
        kind=sys.intern(kind),
        decided=sys.intern(decided),
        guess=best if decided == "unsure" else decided,
        best=best,
        confidence=confidence,
        anomaly=_number(facts.get("anomaly")),
        model=_interned(facts.get("model")),
        coil=_interned(facts.get("coil")),
        position_m=_number(facts.get("position_m")),
        taken=_text(facts.get("time")),
        blind=kind == "audit",
    )


def without_blind(origin: Origin) -> Origin:
    """The same picture for somebody who may know the guess."""
    values = {field.name: getattr(origin, field.name) for field in fields(Origin)}
    return Origin(**{**values, "blind": False})


def _label_of(row: dict[str, Any]) -> Label:
    """Raises KeyError, TypeError, ValueError."""
    label, sha256 = row["label"], row["sha256"]
    if not (isinstance(label, str) and CLASS.fullmatch(label) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise ValueError("not a label")
    return Label(
        number=int(row["number"]),
        sha256=sha256,
        label=sys.intern(label),
        by=sys.intern(str(row["by"])),
        role=sys.intern(str(row["role"])),
        time=str(row["time"]),
        how=sys.intern(str(row.get("how", "single"))),
        origin=Origin(
            evidence=str(row["evidence"]),
            camera=sys.intern(str(row["camera"])),
            kind=sys.intern(str(row["kind"])),
            decided=sys.intern(str(row["decided"])),
            guess=_interned(row["guess"]),
            best=_interned(row.get("best")),
            confidence=_number(row.get("confidence")),
            anomaly=_number(row.get("anomaly")),
            model=_interned(row.get("model")),
            coil=_interned(row.get("coil")),
            position_m=_number(row.get("position_m")),
            taken=_text(row.get("taken")),
            blind=row["blind"] is True,
        ),
    )


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) else None


def _interned(value: object) -> str | None:
    text = _text(value)
    return None if text is None else sys.intern(text)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flush(path: Path) -> None:
    """Write the bytes of a file to the disk: the archive leaves that to the kernel."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
