"""The files of a report, by the end of their names."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Final, Literal

from edge.report.coil_report import CoilReport
from edge.report.coil_view import CoilView
from edge.report.defect_rows import csv_of
from edge.report.html_page import html_of

Format = Literal["json", "csv", "csv.gz", "html", "png", "pdf"]
FORMATS: Final[tuple[Format, ...]] = ("json", "csv", "csv.gz", "html", "png", "pdf")
PAPERS: Final = ("a4", "letter")


def format_of(name: str) -> Format | None:
    """The format that the name of a file asks for; None: another one."""
    return next((one for one in ("csv.gz", *FORMATS) if name.lower().endswith(f".{one}")), None)


def blocks(kind: Format, report: CoilReport, view: CoilView, paper: str = "a4") -> Iterator[bytes]:
    """The file, in blocks.  The same record, judgement and pictures give the same bytes.

    Raises ReportError where a picture or a PDF cannot be made here.
    """
    match kind:
        case "json":
            yield (
                json.dumps(report.as_json(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
                + b"\n"
            )
        case "csv":
            yield from csv_of(view.defects())
        case "csv.gz":
            yield from _packed(csv_of(view.defects()))
        case "html":
            yield html_of(report, paper)
        case "png":
            from edge.report.png import png_of  # noqa: PLC0415 (Pillow, of the extra `report`)

            yield png_of(report)
        case "pdf":
            from edge.report.pdf import pdf_of  # noqa: PLC0415 (reportlab, of the extra `report`)

            yield pdf_of(report, paper)


def _packed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Gzip without a time: the same rows give the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as stream:
        for part in parts:
            stream.write(part)
    yield out.getvalue()
