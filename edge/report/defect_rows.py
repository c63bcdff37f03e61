"""The defects of a coil as CSV: a row each, however many."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

from edge.report.coil_report import ReportedDefect

COLUMNS: Final = (
    "from_m",
    "to_m",
    "across_from_mm",
    "across_to_mm",
    "surface",
    "class",
    "severity",
    "confidence",
    "length_mm",
    "evidence",
)
BLOCK_ROWS: Final = 2000


def csv_of(defects: Iterable[ReportedDefect]) -> Iterator[bytes]:
    """UTF-8 in blocks, with a heading; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, defect in enumerate(defects, 1):
        across = defect.across_mm or (None, None)
        writer.writerow(
            (
                _fixed(defect.from_m, 3),
                _fixed(defect.to_m, 3),
                _fixed(across[0], 1),
                _fixed(across[1], 1),
                _word(defect.surface),
                _word(defect.class_name),
                _word(defect.severity),
                _fixed(defect.confidence, 3),
                _fixed(defect.length_mm, 1),
                _word(defect.evidence),
            )
        )
        if number % BLOCK_ROWS == 0:
            yield text.getvalue().encode("utf-8", "replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode("utf-8", "replace")


def _fixed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _word(text: str | None) -> str:
    """A spreadsheet must not take a name for a formula."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text or ""
