"""The folder of records: opens new ones, packs those that ended, keeps the index and the quota."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_lines import Header
from edge.coverage.coil_record import INDEX_NAME, INDEX_SCHEMA, PACKED, PLAIN, CoilSummary
from edge.delivery.coils.coil_file import CoilFile
from edge.host import atomic_files

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 1 << 18
MAX_NAME: Final = 40
NONE_KEPT: Final = 2
"""Records without a coil that are kept: the one that is written, and the one before it."""
STAMP: Final = re.compile("([0-9]{8})T([0-9]{9})Z-")
NO_COIL: Final = "no-coil"


class Shelf:
    """Owned by one thread.  beat: called while a large record is packed."""

    def __init__(self, folder: Path, max_bytes: int, max_coils: int, beat: Callable[[], None]) -> None:
        """Makes the folder.  Raises OSError."""
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.folder = folder
        self._max_bytes = max_bytes
        self._max_coils = max_coils
        self._beat = beat
        for unfinished in folder.glob("*.new"):
            unfinished.unlink(missing_ok=True)

    def left_open(self) -> list[CoilFile]:
        """The records that a node left behind, oldest first; one without a readable header is renamed."""
        found = []
        for path in coil_record.record_paths(self.folder):
            if path.name.endswith(PACKED):
                continue
            if path.with_name(path.name + ".gz").exists():  # killed between the two steps of packing
                path.unlink()
                continue
            try:
                record = CoilFile(path, self._max_bytes // 2)
            except ValueError as error:
                log.warning("the record %s cannot be used: %s", path.name, error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            if record.header is None:  # killed before the first write
                record.close()
                path.unlink()
                continue
            found.append(record)
        return found

    def open(self, header: Header) -> CoilFile:
        """A new record; its first lines wait to be written."""
        record = CoilFile(self.folder / f"{header.id}{PLAIN}", self._max_bytes // 2)
        record.add(header)
        return record

    def new_id(self, coil: str | None, started: str, taken: Collection[str]) -> str:
        """A name that sorts after all others, and says which coil it is to people: 20261129T214230123Z-A4711.

        started: a wall time, which may step back; the name then counts on from the newest one.  taken: ids of records
        without a file.
        """
        name = NO_COIL if coil is None else re.sub(r"[^A-Za-z0-9._-]+", "_", coil)[:MAX_NAME].strip(".") or "_"
        ids = [*taken, *(coil_record.record_id(path) for path in coil_record.record_paths(self.folder))]
        newest = max((int(found[1] + found[2]) for each in ids if (found := STAMP.match(each))), default=0)
        number = f"{max(int(re.sub('[^0-9]', '', started)), newest + 1):017d}"
        return f"{number[:8]}T{number[8:]}Z-{name}"

    def finish(self, record: CoilFile) -> None:
        """Pack a record that has ended, and add it to the index.  Raises OSError: nothing is lost, try again."""
        record.write()
        record.sync()
        path = record.path
        summary = coil_record.summary_of(coil_record.items(path))
        if summary.coil is not None:
            self._pack(path)
            self._replace_index([*self._without(summary.id), summary])
        record.close()
        if summary.coil is not None:
            path.unlink()
        self.keep_quota()

    def keep_quota(self) -> None:
        """Remove the oldest records that ended, until number and bytes are within their limits.  Raises OSError."""
        paths = coil_record.record_paths(self.folder)
        none = [path for path in paths if path.name.endswith(f"-{NO_COIL}{PLAIN}")]
        for path in none[:-NONE_KEPT]:
            path.unlink(missing_ok=True)
        ended = [path for path in paths if path.name.endswith(PACKED)]
        sizes = {path: path.stat().st_size for path in paths if path not in none[:-NONE_KEPT]}
        gone = set()
        while ended and (len(ended) > self._max_coils or sum(sizes.values()) > self._max_bytes):
            oldest = ended.pop(0)
            oldest.unlink(missing_ok=True)
            sizes.pop(oldest, None)
            gone.add(coil_record.record_id(oldest))
        if gone:
            coil_judgement.remove_orphans(self.folder, {coil_record.record_id(path) for path in sizes})
            log.info("the records of %d coils were removed, the newest of them %s", len(gone), max(gone))
            self._replace_index([each for each in coil_record.indexed(self.folder) if each.id not in gone])

    def mend_index(self) -> None:
        """Summarise packed records that the index does not have, and forget those that are gone.  Raises OSError."""
        known = {summary.id: summary for summary in coil_record.indexed(self.folder)}
        packed = [path for path in coil_record.record_paths(self.folder) if path.name.endswith(PACKED)]
        ids = {coil_record.record_id(path) for path in packed}
        if known.keys() == ids:
            return
        for path in packed:
            if coil_record.record_id(path) in known:
                continue
            try:
                known[coil_record.record_id(path)] = coil_record.summary_of(coil_record.items(path))
            except ValueError as error:
                log.warning("the record %s cannot be read: %s", path.name, error)
        self._replace_index([summary for name, summary in sorted(known.items()) if name in ids])

    def _without(self, gone: str) -> list[CoilSummary]:
        return [summary for summary in coil_record.indexed(self.folder) if summary.id != gone]

    def _replace_index(self, coils: list[CoilSummary]) -> None:
        content = {"schema": INDEX_SCHEMA, "coils": [summary.as_json() for summary in coils]}
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        atomic_files.replace(self.folder / INDEX_NAME, text.encode("utf-8", "replace"), mode=0o640)

    def _pack(self, path: Path) -> None:
        """Compress into a second file, which has its name only when it is whole."""
        fresh, packed = path.with_name(path.name + ".gz.new"), path.with_name(path.name + ".gz")
        try:
            with path.open("rb") as plain, fresh.open("wb") as out:
                with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as stream:
                    while block := plain.read(BLOCK_BYTES):
                        stream.write(block)
                        self._beat()
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(packed)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        atomic_files.sync(path.parent)
