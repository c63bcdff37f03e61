"""Report files of coils, made by a child process where they are not on the shelf; and the trend over coils."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_record import PLAIN
from edge.host.clock import NS_PER_S
from edge.report.shelf import ReportShelf
from edge.report.trend import MAX_COILS, trend_of
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "png": "image/png",
    "pdf": "application/pdf",
}
SO_FAR_S: Final = 15.0
"""The report of a running coil is made anew after so long."""
TIME_S: Final = 120.0
PAPERS: Final = ("a4", "letter")
ENDS: Final = ("head", "tail")
DEFAULT_COILS: Final = 100
BLOCK_BYTES: Final = 1 << 16
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
"""For the HTML report: its sheet is in it, and it runs nothing."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One file of one coil.  sources_ns: when what it is made of was changed last."""

    record_id: str
    coil: str | None
    path: Path
    is_current: bool


def report(kind: str) -> Callable[[Page, Request], Awaitable[Response]]:
    """The handler of one format."""

    async def handler(page: Page, request: Request) -> Response:
        counted_from = request.choice("from", ENDS) or "head"
        paper = request.choice("paper", PAPERS) or "a4"
        stored = "csv.gz" if kind == "csv" else kind
        wanted = await page.work.run(_wanted, page, request.params["coil"], stored, counted_from, paper)
        if not wanted.is_current:
            await _make(page, request, wanted, stored, counted_from, paper)
        return await _answer(page, request, wanted, kind)

    return handler


async def trend(page: Page, request: Request) -> Response:
    """How coils develop."""
    last = request.whole("last", low=1, high=MAX_COILS) or DEFAULT_COILS
    found = await page.work.run(trend_of, page.settings.coils, page.settings.coil_reports, last)
    return Response.json({**found.as_json(), "schema": "defectd.api.coil-trend/1"})


def _wanted(page: Page, coil: str, stored: str, counted_from: str, paper: str) -> _Wanted:
    folder = page.settings.coils
    path = coil_record.find(folder, coil)
    if path is None:
        remedy = "The node keeps as many records as coils.max_coils and coils.max_mb allow"
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is no record of this coil", remedy)
    record_id = coil_record.record_id(path)
    shelf = ReportShelf(page.settings.coil_reports)
    file = shelf.path_of(record_id, stored, counted_from, paper)
    judgement = coil_judgement.path_of(folder, record_id)
    try:
        changed_ns = max(each.stat().st_mtime_ns for each in (path, judgement) if each.exists())
        is_current = shelf.is_current(file, changed_ns)
        if not is_current and path.name.endswith(PLAIN) and file.exists():
            is_current = abs(page.clock.wall_ns() - file.stat().st_ctime_ns) < SO_FAR_S * NS_PER_S
    except (OSError, ValueError):  # it is packed just now
        is_current = False
    name = next((one.coil for one in coil_record.indexed(folder) if one.id == record_id), None)
    return _Wanted(record_id, name, file, is_current)


async def _make(page: Page, request: Request, wanted: _Wanted, stored: str, counted_from: str, paper: str) -> None:
    config = page.settings.config_path
    arguments = ["coil", "report", wanted.record_id, "--keep", stored, "--from", counted_from, "--paper", paper]
    if config is not None:
        arguments += ["--config", str(config)]
    label = f"Report of the coil {wanted.coil or wanted.record_id}"
    await page.children.run_to_end(arguments, label=label, by=request.user.name, time_s=TIME_S)


async def _answer(page: Page, request: Request, wanted: _Wanted, kind: str) -> Response:
    try:
        data = await page.work.run(wanted.path.read_bytes)
    except OSError as error:
        reason = f"the report cannot be read: {error.strerror or error}"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unreadable", reason) from None
    name = f"{wanted.coil or wanted.record_id}.{kind}"
    shown = "inline" if kind in ("html", "json", "png") else "attachment"
    headers = {"Content-Disposition": f"{shown}; filename*=UTF-8''{quote(name, safe='')}", "Cache-Control": "no-cache"}
    if kind == "html":
        headers["Content-Security-Policy"] = PAGE_POLICY
    if kind != "csv":
        return Response(content_type=TYPES[kind], body=data, headers=headers)
    headers["Vary"] = "Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(content_type=TYPES[kind], body=data, headers={**headers, "Content-Encoding": "gzip"})
    return Response(content_type=TYPES[kind], headers=headers, chunks=_unpacked(data))


async def _unpacked(data: bytes) -> AsyncIterator[bytes]:
    """In pieces: the rows of many defects are never in memory as a whole."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for at in range(0, len(data), BLOCK_BYTES):
        rest = data[at : at + BLOCK_BYTES]
        while rest:
            if part := stream.decompress(rest, BLOCK_BYTES):
                yield part
            rest = stream.unconsumed_tail
    if part := stream.flush():
        yield part
