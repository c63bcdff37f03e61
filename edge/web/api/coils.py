"""Coils: the list, one of them, and the map of the one that runs."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_map import CoilMap, CoilMaps
from edge.coverage.coil_record import CoilSummary
from edge.host.clock import NS_PER_S, Clock
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
MAX_M: Final = 1e7
FOLLOW_S: Final = 1.0
"""For reading what was written to the record of the running coil; the rest follows with the next request."""


async def coils(page: Page, request: Request) -> Response:
    """The newest coils first; the running one is among them."""
    limit = request.whole("limit", low=1, high=MAX_LIMIT) or DEFAULT_LIMIT
    before = request.text("before")
    found = await page.work.run(_listed, page.coils, _within(page.clock))
    later = [each for each in found if before is None or each.id < before]
    shown = later[:limit]
    judged = await page.work.run(_judged, page.coils.folder, [each.id for each in shown])
    return Response.json(
        {
            "schema": "defectd.api.coils/1",
            "coils": [{**each.as_json(), "judgement": judged[each.id]} for each in shown],
            "next": {"before": shown[-1].id} if len(later) > limit else None,
        }
    )


async def coil(page: Page, request: Request) -> Response:
    """The summary and the map of one coil.  ID: of the record, or the name of the coil: then its newest record."""
    places = _places(request)
    wanted = request.params["coil"]
    try:
        found = await page.work.run(_found, page.coils, wanted)
    except (OSError, ValueError) as error:
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unreadable", f"the record cannot be read: {error}") from None
    if found is None:
        remedy = "The node keeps as many records as coils.max_coils and coils.max_mb allow"
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is no record of this coil", remedy)
    answer = await page.work.run(_described, page.coils.folder, found, places)
    return Response.json({"schema": "defectd.api.coil/1", **answer})


async def running_map(page: Page, request: Request) -> Response:
    """The map of the running coil, or of the strip since the start where no coil runs."""
    places = _places(request)
    found, is_whole = await page.work.run(page.coils.running, _within(page.clock))
    return Response.json({"schema": "defectd.api.coil-map/1", "is_whole": is_whole, **found.view(*places)})


def _places(request: Request) -> tuple[float | None, float | None]:
    return request.number("from_m", low=0.0, high=MAX_M), request.number("to_m", low=0.0, high=MAX_M)


def _within(clock: Clock) -> Callable[[], bool]:
    """Whether a job that starts now may still go on."""
    end_ns: list[int] = []

    def may_go_on() -> bool:
        now_ns = clock.monotonic_ns()
        if not end_ns:
            end_ns.append(now_ns + int(FOLLOW_S * NS_PER_S))
        return now_ns < end_ns[0]

    return may_go_on


def _listed(maps: CoilMaps, may_go_on: Callable[[], bool]) -> list[CoilSummary]:
    """Ended coils, and the running one as far as it is read."""
    found = {summary.id: summary for summary in coil_record.indexed(maps.folder)}
    running = maps.running(may_go_on)[0].summary()
    if running is not None:
        found[running.id] = running
    return sorted(found.values(), key=lambda each: each.id, reverse=True)


def _found(maps: CoilMaps, wanted: str) -> CoilMap | None:
    path = coil_record.find(maps.folder, wanted)
    return None if path is None else _map(maps, path)


def _map(maps: CoilMaps, path: Path) -> CoilMap:
    try:
        return maps.of_record(path)
    except FileNotFoundError:  # packed between the two
        return maps.of_record(path.with_name(path.name + ".gz"))


def _described(folder: Path, found: CoilMap, places: tuple[float | None, float | None]) -> dict[str, Any]:
    summary = found.summary()
    coil = None if summary is None else {**summary.as_json(), "judgement": _judged(folder, [summary.id])[summary.id]}
    return {"coil": coil, "map": found.view(*places)}


def _judged(folder: Path, ids: list[str]) -> dict[str, dict[str, Any] | None]:
    """What was found out about these coils, in short."""
    found: dict[str, dict[str, Any] | None] = {}
    for record_id in ids:
        judgement = coil_judgement.load(folder, record_id)
        grade = None if judgement is None else judgement.grade
        found[record_id] = (
            None
            if judgement is None
            else {
                "product": None if grade is None else grade["product"],
                "grade": None if grade is None else grade["grade"],
                "is_best": judgement.is_best,
                "reasons": [] if grade is None else list(grade["reasons"]),
                "roll_marks": len(judgement.roll_marks),
                "released": judgement.release,
            }
        )
    return found
