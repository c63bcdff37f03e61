"""The folder of evidence: pictures under a byte quota, each of which says itself what it shows.

A picture is one JPEG file `KIND/NUMBER-CAMERA-HASH.jpg` with its facts as a comment inside. No index lies beside the
files that could disagree with them: the accounts are made anew from names and sizes at each start. HASH begins the
SHA-256 of the file, so a name that an event carries never comes to mean another picture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from edge.errors import EvidenceError
from edge.event import Evidence

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.evidence/1"
Kind = Literal["audit", "unsure", "image", "frame", "defect"]
"""A tile taken at random, a tile in doubt, a bad picture, the whole frame of a defect, the defect itself."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
RANKS: Final[dict[Kind, int]] = {"audit": 0, "unsure": 0, "image": 1, "frame": 1, "defect": 2}
"""What goes first when room is needed; within a rank the oldest."""
MAX_FILES: Final = 200_000
CHECKED: Final = 500
"""Newest files looked into at the start: a power cut may have left them short or empty."""
MAX_COMMENT: Final = 65_533
_NAME: Final = re.compile(r"(\d{10})-([A-Za-z0-9][A-Za-z0-9_.-]{0,62})-([0-9a-f]{16})\.jpg")
_PATH: Final = re.compile(rf"({'|'.join(KINDS)})/{_NAME.pattern}")
_UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True)
class Stored:
    """One picture on disk.  path: within the folder, as events carry it."""

    number: int
    kind: Kind
    camera: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found at the start."""

    files: int
    size_bytes: int
    damaged: int
    """Removed: cut short by a power failure."""
    evicted: int
    """Removed: more than the quota allows."""


class Archive:
    """The one writer of a folder.  `bytes`, `files`, `written_bytes` and `evicted` may be read by other threads."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        min_free_bytes: int,
        tiles_bytes: int = 0,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        """tiles_bytes: of the quota, what events leave to tiles (rank 0) as long as the disk has room."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._tiles_bytes = tiles_bytes
        self._free_bytes = free_bytes
        self._ranks: dict[int, deque[Stored]] = {rank: deque() for rank in sorted(set(RANKS.values()))}
        self._rank_bytes = dict.fromkeys(self._ranks, 0)
        self._next = 1
        self._lock: int | None = None
        self.bytes = 0
        """Of all pictures, the one being written included: never above the quota."""
        self.files = dict.fromkeys(KINDS, 0)
        self.written_bytes = 0
        """Since the start."""
        self.evicted = 0

    def open(self) -> Repair:
        """Take the folder: remove what is unfinished or damaged, count the rest.  Raises EvidenceError."""
        try:
            for kind in KINDS:
                (self._folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = _locked(self._folder / ".lock")
            (self._folder / _UNFINISHED).unlink(missing_ok=True)
            found = sorted(_scan(self._folder), key=lambda stored: stored.number)
            damaged = [stored for stored in found[-CHECKED:] if not _is_whole(self._folder / stored.path)]
            for stored in damaged:
                (self._folder / stored.path).unlink(missing_ok=True)
        except OSError as error:
            raise EvidenceError("disk", f"{self._folder} cannot be used: {error.strerror or error}") from error
        gone = {stored.path for stored in damaged}
        for stored in found:
            if stored.path not in gone:
                self._enter(stored)
        self._next = found[-1].number + 1 if found else 1
        evicted = self.trim()
        return Repair(sum(self.files.values()), self.bytes, len(damaged), evicted)

    def close(self) -> None:
        """Safe without `open`, and twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def add(self, kind: Kind, camera: str, jpeg: bytes, facts: dict[str, Any]) -> Evidence:
        """Write a picture as a whole, making room as `RANKS` says; what an event may say of it.

        After a return the file is there with these bytes, until its turn to go. When it reaches the disk is left to the
        kernel, which writes a card in large pieces.  Raises EvidenceError: nothing was left behind.
        """
        data = with_facts(jpeg, {"schema": SCHEMA, "kind": kind, "camera": camera, **facts})
        self._make_room(len(data), RANKS[kind])
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{kind}/{self._next:010d}-{camera}-{sha256[:16]}.jpg"
        self.bytes += len(data)
        try:
            unfinished = self._folder / _UNFINISHED
            with unfinished.open("wb") as file:
                file.write(data)
            unfinished.replace(self._folder / path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
                (self._folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)  # someone may have removed it
            raise EvidenceError("disk", f"{self._folder}: {error.strerror or error}") from error
        finally:
            self.bytes -= len(data)
        self.written_bytes += len(data)
        self._enter(Stored(self._next, kind, camera, path, len(data)))
        self._next += 1
        return Evidence(path, sha256)

    def trim(self) -> int:
        """Give room back when the disk has less than it should: events need it more.  Returns how many had to go."""
        before = self.evicted
        with contextlib.suppress(EvidenceError):
            self._make_room(0, max(RANKS.values()))
        return self.evicted - before

    def _enter(self, stored: Stored) -> None:
        rank = RANKS[stored.kind]
        self._ranks[rank].append(stored)
        self._rank_bytes[rank] += stored.size_bytes
        self.bytes += stored.size_bytes
        self.files[stored.kind] += 1

    def _make_room(self, need_bytes: int, rank: int) -> None:
        """For a picture of that rank.  Raises EvidenceError when what is there matters more."""
        if need_bytes > self._max_bytes:
            raise EvidenceError("quota", f"a picture of {need_bytes} bytes is more than the whole quota")
        while self.bytes + need_bytes > self._max_bytes or sum(self.files.values()) >= MAX_FILES:
            if not self._evict(rank, keep_tiles=rank > 0):
                raise EvidenceError("quota", "the quota is full of pictures that matter more")
        short = self._min_free_bytes + need_bytes - self._free()
        while short > 0:
            freed = self._evict(rank, keep_tiles=False)
            if not freed:
                raise EvidenceError("disk", "less is free than evidence.min_free_mb")
            short -= freed

    def _free(self) -> int:
        try:
            return self._free_bytes(self._folder)
        except OSError as error:
            raise EvidenceError("disk", f"{self._folder}: {error.strerror or error}") from error

    def _evict(self, most_rank: int, *, keep_tiles: bool) -> int:
        """Remove the oldest of the lowest rank; how many bytes it had, 0 when none may go."""
        for rank, pictures in self._ranks.items():
            kept = keep_tiles and rank == 0 and self._rank_bytes[0] <= self._tiles_bytes
            if rank > most_rank or not pictures or kept:
                continue
            oldest = pictures[0]
            try:
                (self._folder / oldest.path).unlink(missing_ok=True)
            except OSError as error:
                raise EvidenceError("disk", f"{oldest.path}: {error.strerror or error}") from error
            pictures.popleft()
            self._rank_bytes[rank] -= oldest.size_bytes
            self.bytes -= oldest.size_bytes
            self.files[oldest.kind] -= 1
            self.evicted += 1
            return oldest.size_bytes
        return 0


def pictures(folder: Path) -> list[Stored]:
    """What lies in a folder, oldest first, whether a daemon writes there or not.  Raises EvidenceError."""
    try:
        return sorted(_scan(folder), key=lambda stored: stored.number)
    except OSError as error:
        raise EvidenceError("disk", f"{folder}: {error.strerror or error}") from error


def read(folder: Path, path: str) -> bytes:
    """A picture by the path that an event carries.  Raises EvidenceError when it is none, has gone or is damaged."""
    named = _PATH.fullmatch(path)
    if named is None:
        raise EvidenceError("path", "this is no path that an event carries: KIND/NUMBER-CAMERA-HASH.jpg")
    try:
        data = (folder / path).read_bytes()
    except FileNotFoundError:
        raise EvidenceError("gone", f"{path} is not kept any more") from None
    except OSError as error:
        raise EvidenceError("disk", f"{path}: {error.strerror or error}") from error
    if not hashlib.sha256(data).hexdigest().startswith(named[4]):
        raise EvidenceError("damaged", f"{path} is damaged: it has not the hash of its name")
    return data


def facts(folder: Path, stored: Stored) -> dict[str, Any]:
    """What a picture says of itself; empty when it has just had to go."""
    try:
        with (folder / stored.path).open("rb") as file:
            return facts_of(file.read(MAX_COMMENT + 1024))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EvidenceError("disk", f"{stored.path}: {error.strerror or error}") from error


def _scan(folder: Path) -> Iterator[Stored]:
    """Files that are not ours are left alone, and not counted."""
    for kind in KINDS:
        try:
            entries = os.scandir(folder / kind)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                named = _NAME.fullmatch(entry.name)
                if named is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # it has just had to go
                    size_bytes = entry.stat(follow_symlinks=False).st_size
                    yield Stored(int(named[1]), kind, named[2], f"{kind}/{entry.name}", size_bytes)


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < 4:
            return False
        file.seek(-2, os.SEEK_END)
        return file.read(2) == b"\xff\xd9"


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise EvidenceError("disk", f"{path.parent} is used by another defectd") from None
    return lock


def with_facts(jpeg: bytes, facts: dict[str, Any]) -> bytes:
    """The JPEG with the facts as a comment behind its first segment.  Raises EvidenceError when they are too long."""
    comment = json.dumps(facts, separators=(",", ":")).encode()
    if len(comment) > MAX_COMMENT:
        raise EvidenceError("facts", f"{len(comment)} bytes of facts do not fit into a JPEG comment")
    at = 2
    if jpeg[2:4] == b"\xff\xe0":  # JFIF wants to be first
        at += 2 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:at] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[at:]


def facts_of(jpeg: bytes) -> dict[str, Any]:
    """What a picture says of itself; empty when it says nothing."""
    at = 2
    while len(jpeg) >= at + 4 and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xFE:
            try:
                facts = json.loads(jpeg[at + 4 : at + 2 + length])
            except (ValueError, RecursionError):
                return {}
            return facts if isinstance(facts, dict) and facts.get("schema") == SCHEMA else {}
        at += 2 + length
    return {}
