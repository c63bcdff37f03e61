"""The folder of report files beside the records: made once, kept as long as nothing that they are made of changes.

    STATE_DIR/coils/reports/ID.head.json           ID.head.a4.pdf   ...   by coil, where 0 m lies, paper and format
    STATE_DIR/coils/reports/ID.summary.json        what is published about the coil

A file has the time of the newest file that it was made of: another time means that it is out of date.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge.host import regular_file

SUMMARY: Final = "summary.json"
SUMMARY_SCHEMA: Final = "defectd.coil-report-summary/1"
MAX_SUMMARY_BYTES: Final = 1 << 20
UNFINISHED: Final = ".new"
_ON_PAPER: Final = ("html", "pdf")


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One file of a report."""

    format: str
    name: str
    bytes: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class ReportShelf:
    """Several processes may use one folder: files are replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, record_id: str, kind: str, counted_from: str = "head", paper: str = "a4") -> Path:
        """The file of one report.  kind: a format, or SUMMARY."""
        if kind == SUMMARY:
            return self.folder / f"{record_id}.{SUMMARY}"
        middle = f"{counted_from}.{paper}" if kind in _ON_PAPER else counted_from
        return self.folder / f"{record_id}.{middle}.{kind}"

    def is_current(self, path: Path, sources_ns: int) -> bool:
        """Whether the file is there and made of what is known now."""
        try:
            return path.stat().st_mtime_ns == sources_ns
        except OSError:
            return False

    def put(self, path: Path, blocks: Iterable[bytes], sources_ns: int) -> ReportFile:
        """Write a file as a whole.  Raises OSError, and what the blocks raise; no partial file remains."""
        self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        fresh = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
        try:
            with fresh.open("wb") as file:
                for block in blocks:
                    file.write(block)
                    digest.update(block)
                    size += len(block)
            os.utime(fresh, ns=(sources_ns, sources_ns))
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return ReportFile(path.name.rsplit(".", 1)[-1], path.name, size, digest.hexdigest())

    def summary(self, record_id: str) -> Mapping[str, Any] | None:
        """What was published about a coil; None: nothing, or it cannot be read."""
        try:
            content = json.loads(regular_file.read(self.path_of(record_id, SUMMARY), MAX_SUMMARY_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) and content.get("schema") == SUMMARY_SCHEMA else None

    def keep(self, record_ids: Iterable[str], max_bytes: int) -> None:
        """Remove what has no record, what was left unfinished, and the oldest above the limit.  Raises OSError."""
        ids, sizes = set(record_ids), {}
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir(), key=lambda each: each.name):
            record_id = _id_of(path.name)
            if record_id not in ids or path.name.endswith(UNFINISHED):
                path.unlink(missing_ok=True)
            else:
                sizes[path] = path.stat().st_size
        total = sum(sizes.values())
        for path, size in sizes.items():  # the names sort by the start of the coil
            if total <= max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def _id_of(name: str) -> str:
    """An id may have dots: what follows it starts with one of these words."""
    for word in (".head.", ".tail.", f".{SUMMARY}"):
        at = name.rfind(word)
        if at > 0:
            return name[:at]
    return ""
