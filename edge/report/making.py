"""Makes reports: finds the coil, reads it once, writes the files that are wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.coverage import coil_record
from edge.coverage.rolls import Roll
from edge.errors import ReportError
from edge.host import atomic_files
from edge.report import builder, files, reading
from edge.report.coil_report import CoilReport, From
from edge.report.coil_view import CoilView
from edge.report.shelf import SUMMARY, SUMMARY_SCHEMA, ReportFile, ReportShelf

AT_THE_END: Final[tuple[files.Format, ...]] = ("json", "html", "pdf")
"""What is made when a coil ends; the others on demand."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where reports come of.  products, rolls: sections of the configuration, as JSON."""

    coils: Path
    evidence: Path
    products: Sequence[Mapping[str, Any]] = ()
    rolls: Sequence[Roll] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A report, ready to be written.  sources_ns: when what it is made of was changed last."""

    report: CoilReport
    view: CoilView
    sources_ns: int

    def write(self, path: Path, kind: files.Format, paper: str) -> None:
        """Write one file.  Raises ReportError, OSError."""
        atomic_files.replace(
            path, b"".join(files.blocks(kind, self.report, self.view, paper)), mode=atomic_files.SHARED
        )


def make(sources: Sources, wanted: str | None, counted_from: From = "head") -> Made:
    """The report of one coil.  wanted: its name or the id of its record; None: the last coil.

    Raises ReportError.
    """
    path = found(sources.coils, wanted)
    try:
        known = reading.read(sources.coils, path, sources.products, sources.rolls)
        view = CoilView(known.content, counted_from)
        report = builder.report_of(
            known.content, known.judgement, lambda name: reading.picture(sources.evidence, name), counted_from
        )
    except FileNotFoundError:
        if path.name.endswith(coil_record.PLAIN):  # it was packed just now
            return make(sources, coil_record.record_id(path), counted_from)
        raise ReportError(f"the record {path.name} is gone") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"the record {path.name} cannot be used: {error}") from None
    return Made(report, view, known.sources_ns)


def found(folder: Path, wanted: str | None) -> Path:
    """The record of a coil.  Raises ReportError."""
    if wanted is not None:
        path = coil_record.find(folder, wanted)
        if path is None:
            raise ReportError(f"there is no record of coil {wanted}; `defectd coil list` names those that there are")
        return path
    summaries = coil_record.summaries(folder)
    newest = next((one for one in summaries if one.coil is not None), next(iter(summaries), None))
    path = None if newest is None else coil_record.find(folder, newest.id)
    if path is None:
        raise ReportError(f"there is no record of a coil in {folder}")
    return path


def shelve(
    made: Made, shelf: ReportShelf, kinds: Sequence[files.Format], paper: str = "a4", *, with_summary: bool = False
) -> list[ReportFile]:
    """Put files of a report on the shelf.  A format that cannot be made here is left out where others are wanted, too.

    with_summary: also what is published about the coil.  Raises ReportError, OSError.
    """
    report, written, failed = made.report, [], []
    for kind in kinds:
        path = shelf.path_of(report.id, kind, report.counted_from, paper)
        try:
            written.append(shelf.put(path, files.blocks(kind, report, made.view, paper), made.sources_ns))
        except ReportError as error:
            if len(kinds) == 1:
                raise
            failed.append(str(error))
    if with_summary:
        summary = summary_of(report, written, failed)
        text = json.dumps(summary, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        shelf.put(shelf.path_of(report.id, SUMMARY), (text,), made.sources_ns)
    return written


def summary_of(report: CoilReport, written: Sequence[ReportFile], failed: Sequence[str] = ()) -> dict[str, Any]:
    """What is published about a coil: how it is, the hashes of its files, and where they can be fetched."""
    return {
        "schema": SUMMARY_SCHEMA,
        **report.summary_json(),
        "files": [one.as_json() for one in written],
        "fetch": {
            "page": f"/api/v1/coils/{report.id}.{{json,csv,html,png,pdf}}",
            "command": f"defectd coil report {report.id} -o FILE.pdf",
        },
        "error": "; ".join(failed) or None,
    }
