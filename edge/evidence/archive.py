"""The folder of evidence: pictures under a byte quota, each with a description inside the file.

A picture is one JPEG file `KIND/NUMBER-CAMERA-HASH.jpg` with its facts as a JPEG comment. There is no index that could
disagree with the files: each start counts names and sizes again. HASH is the beginning of the SHA-256 of the file, so
the path in an event never refers to another picture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import heapq
import json
import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from edge.errors import EvidenceError
from edge.event import Evidence
from edge.host.rights import why

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.evidence/1"
Kind = Literal["audit", "unsure", "shadow", "image", "frame", "defect"]
"""A random tile, an unsure tile, a tile about which the shadow model disagreed, a bad picture, the whole frame of a
defect, the crop of a defect."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
RANKS: Final[dict[Kind, int]] = {"audit": 0, "unsure": 0, "shadow": 0, "image": 1, "frame": 1, "defect": 2}
"""Which pictures the archive deletes first when it needs space: the lowest rank, within a rank the oldest."""
MAX_FILES: Final = 200_000
MAX_CHECKED: Final = 500
"""Newest files that a start checks: a power cut may have left them short or empty."""
MAX_COMMENT: Final = 65_533
MAX_PICTURE_BYTES: Final = 4 << 20
"""A larger file was not written by this archive."""
USUAL_COMMENT: Final = 2048
"""Facts are read with this many bytes first: most are shorter."""
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
    """What a start found in the folder, and what it deleted."""

    files: int
    size_bytes: int
    damaged: int
    """Deleted: cut short by a power failure."""
    evicted: int
    """Deleted: above the quota."""


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
        """tiles_bytes: share of the quota that only tiles (rank 0) may use, as long as the disk has space."""
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
        """Size of all pictures, including the one being written: never above the quota."""
        self.files = dict.fromkeys(KINDS, 0)
        self.written_bytes = 0
        """Since the start."""
        self.evicted = 0

    def open(self) -> Repair:
        """Lock the folder, delete unfinished and damaged pictures, count the others.  Raises EvidenceError."""
        try:
            for kind in KINDS:
                (self._folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = _locked(self._folder / ".lock")
            (self._folder / _UNFINISHED).unlink(missing_ok=True)
            found = sorted(_scan(self._folder), key=lambda stored: stored.number)
            damaged = [stored for stored in found[-MAX_CHECKED:] if not _is_whole(self._folder / stored.path)]
            for stored in damaged:
                (self._folder / stored.path).unlink(missing_ok=True)
        except OSError as error:
            raise EvidenceError("disk", f"{self._folder} cannot be used: {error.strerror or error}") from error
        deleted = {stored.path for stored in damaged}
        for stored in found:
            if stored.path not in deleted:
                self._add_to_totals(stored)
        self._next = found[-1].number + 1 if found else 1
        evicted = self.trim()
        return Repair(sum(self.files.values()), self.bytes, len(damaged), evicted)

    def close(self) -> None:
        """Safe without `open`, and twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def add(self, kind: Kind, camera: str, jpeg: bytes, facts: dict[str, Any]) -> Evidence:
        """Write one picture, and delete others by rank to make space.  Returns the reference for an event.

        After the return the file is there and complete. The kernel decides when its bytes reach the disk: it writes an
        SD card in large pieces.  Raises EvidenceError; no partial file remains.
        """
        data = with_facts(jpeg, {"schema": SCHEMA, "kind": kind, "camera": camera, **facts})
        self._free_space_for(len(data), RANKS[kind])
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
                (self._folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have been deleted
            raise EvidenceError("disk", f"{self._folder}: {error.strerror or error}") from error
        finally:
            self.bytes -= len(data)
        self.written_bytes += len(data)
        self._add_to_totals(Stored(self._next, kind, camera, path, len(data)))
        self._next += 1
        return Evidence(path, sha256)

    def trim(self) -> int:
        """Delete pictures while the disk has less free space than configured: the outbox needs it more.

        Returns how many were deleted.
        """
        evicted_before = self.evicted
        with contextlib.suppress(EvidenceError):
            self._free_space_for(0, max(RANKS.values()))
        return self.evicted - evicted_before

    def _add_to_totals(self, stored: Stored) -> None:
        rank = RANKS[stored.kind]
        self._ranks[rank].append(stored)
        self._rank_bytes[rank] += stored.size_bytes
        self.bytes += stored.size_bytes
        self.files[stored.kind] += 1

    def _free_space_for(self, need_bytes: int, rank: int) -> None:
        """For a picture of this size and rank.  Raises EvidenceError when all other pictures rank higher."""
        if need_bytes > self._max_bytes:
            raise EvidenceError("quota", f"a picture of {need_bytes} bytes is larger than the whole quota")
        while self.bytes + need_bytes > self._max_bytes or sum(self.files.values()) >= MAX_FILES:
            if not self._evict(rank, keep_tiles=rank > 0):
                raise EvidenceError("quota", "the quota is full of pictures that matter more")
        short = self._min_free_bytes + need_bytes - self._disk_free()
        while short > 0:
            freed = self._evict(rank, keep_tiles=False)
            if not freed:
                raise EvidenceError("disk", "less is free than evidence.min_free_mb")
            short -= freed

    def _disk_free(self) -> int:
        try:
            return self._free_bytes(self._folder)
        except OSError as error:
            raise EvidenceError("disk", f"{self._folder}: {error.strerror or error}") from error

    def _evict(self, max_rank: int, *, keep_tiles: bool) -> int:
        """Delete the oldest picture of the lowest rank.  Returns its size in bytes, 0 when none may be deleted."""
        for rank, pictures in self._ranks.items():
            is_reserved = keep_tiles and rank == 0 and self._rank_bytes[0] <= self._tiles_bytes
            if rank > max_rank or not pictures or is_reserved:
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
    """All pictures of a folder, oldest first; a daemon may write there meanwhile.  Raises EvidenceError."""
    try:
        return sorted(_scan(folder), key=lambda stored: stored.number)
    except OSError as error:
        raise EvidenceError("disk", f"{folder}: {why(error)}") from error


@dataclass(frozen=True, slots=True)
class Named:
    """A picture by its name alone.  hash: 16 digits of its SHA-256."""

    path: str
    kind: Kind
    number: int
    camera: str
    hash: str


def named(path: str) -> Named | None:
    """The parts of a path of evidence; None for another path."""
    parts = _PATH.fullmatch(path)
    if parts is None:
        return None
    kind = next(kind for kind in KINDS if kind == parts[1])
    return Named(path, kind, int(parts[2]), parts[3], parts[4])


def newest(
    folder: Path, kinds: Sequence[Kind], limit: int, *, camera: str | None = None, before: int | None = None
) -> list[Named]:
    """The newest pictures, newest first, found by their names alone.

    before: only those with a smaller number.  Raises EvidenceError.
    """
    try:
        found = (
            one
            for one in _names(folder, kinds)
            if camera in (None, one.camera) and (before is None or one.number < before)
        )
        return heapq.nlargest(limit, found, key=lambda one: one.number)
    except OSError as error:
        raise EvidenceError("disk", f"{folder}: {why(error)}") from error


def _names(folder: Path, kinds: Sequence[Kind]) -> Iterator[Named]:
    for kind in kinds:
        try:
            entries = os.scandir(folder / kind)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                one = named(f"{kind}/{entry.name}")
                if one is not None:
                    yield one


def read(folder: Path, path: str) -> bytes:
    """A picture by the path in an event.  Raises EvidenceError for another path, a deleted or a damaged picture."""
    one = named(path)
    if one is None:
        raise EvidenceError("path", "not a path of evidence: KIND/NUMBER-CAMERA-HASH.jpg")
    try:
        data = (folder / path).read_bytes()
    except FileNotFoundError:
        raise EvidenceError("gone", f"{path} was deleted") from None
    except OSError as error:
        raise EvidenceError("disk", f"{path}: {error.strerror or error}") from error
    if not hashlib.sha256(data).hexdigest().startswith(one.hash):
        raise EvidenceError("damaged", f"{path} is damaged: its hash is not the one in its name")
    return data


def facts(folder: Path, stored: Stored) -> dict[str, Any]:
    """The facts in a picture; empty when the picture was deleted meanwhile."""
    return facts_at(folder, stored.path)


def facts_at(folder: Path, path: str) -> dict[str, Any]:
    """The facts in the picture at a path that this module gave; empty when it was deleted meanwhile."""
    try:
        with (folder / path).open("rb") as file:
            head = file.read(USUAL_COMMENT)
            return facts_of(head) or facts_of(head + file.read(MAX_COMMENT))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EvidenceError("disk", f"{path}: {error.strerror or error}") from error


def _scan(folder: Path) -> Iterator[Stored]:
    """Files with other names are neither touched nor counted."""
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
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
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
        raise EvidenceError("disk", f"another defectd uses {path.parent}") from None
    return lock


def with_facts(jpeg: bytes, facts: dict[str, Any]) -> bytes:
    """The JPEG with the facts as a comment after its first segment.  Raises EvidenceError when they are too long."""
    comment = json.dumps(facts, separators=(",", ":")).encode()
    if len(comment) > MAX_COMMENT:
        raise EvidenceError("facts", f"{len(comment)} bytes of facts do not fit into a JPEG comment")
    at = 2
    if jpeg[2:4] == b"\xff\xe0":  # a JFIF segment must be the first
        at += 2 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:at] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[at:]


def without_facts(jpeg: bytes) -> bytes:
    """The JPEG without its comments: nothing in its bytes reveals what the model found."""
    kept, at = [jpeg[:2]], 2
    while len(jpeg) >= at + 4 and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != 0xFE:
            kept.append(jpeg[at:end])
        at = end
    return b"".join((*kept, jpeg[at:]))


def facts_of(jpeg: bytes) -> dict[str, Any]:
    """The facts in a JPEG; empty when it has none."""
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
