"""Stored events: filtered, by pages of `seq` in both directions, and one by its number."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from edge.delivery.outbox.reader import EventPage, EventQuery, read_page
from edge.delivery.outbox.rows import StoredEvent
from edge.errors import OutboxError
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock, stamp
from edge.web.api import evidence
from edge.web.refusal import Refusal, bad_value
from edge.web.route import Page, Request, Response

log = logging.getLogger(__name__)

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
MAX_SEQ: Final = 1 << 53
SEARCH_S: Final = 1.0
"""A search that takes longer gives what it has found, and where it goes on."""
MAX_CHOICES: Final = 20


async def events(page: Page, request: Request) -> Response:
    """The events that fit, the newest first; with `after` alone the oldest first."""
    query = _query(request)
    found = await _read(page, query)
    is_forward = query.after is not None and query.before is None
    cursor = None if found.cursor is None else {("after" if is_forward else "before"): found.cursor}
    return Response.json(
        {
            "schema": "defectd.api.events/1",
            "events": [_as_json(row) for row in found.events],
            "next": cursor,
            "is_whole": found.is_whole,
        }
    )


async def event(page: Page, request: Request) -> Response:
    """One event by its number, with what is known of its picture."""
    text = request.params["seq"]
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise bad_value("seq is a number")
    seq = int(text)
    found = await _read(page, EventQuery(1, after=seq - 1, before=seq + 1))
    if not found.events:
        remedy = "The node keeps as many delivered events as outbox.keep_delivered says"
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "this event is not stored any more, or not yet", remedy)
    shown = _as_json(found.events[0])
    path = (shown.get("evidence") or {}).get("path")
    picture = None if path is None else await page.work.run(evidence.described, page, str(path))
    return Response.json({"schema": "defectd.api.event/1", "event": shown, "picture": picture})


async def _read(page: Page, query: EventQuery) -> EventPage:
    try:
        return await page.work.run(read_page, page.settings.outbox, query, _deadline(page.clock))
    except OutboxError as error:
        log.warning("the events cannot be read: %s", error)
        reason = "the stored events cannot be read at the moment"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "outbox", reason, "See the log of the page") from None


def _deadline(clock: Clock) -> Callable[[], bool]:
    """Whether a search may go on; its time starts with the first question."""
    end_ns: list[int] = []

    def may_go_on() -> bool:
        now_ns = clock.monotonic_ns()
        if not end_ns:
            end_ns.append(now_ns + int(SEARCH_S * NS_PER_S))
        return now_ns < end_ns[0]

    return may_go_on


def _as_json(row: StoredEvent) -> Mapping[str, Any]:
    """The event as published, and how far its delivery is."""
    published: dict[str, Any] = json.loads(row.payload)
    settled = None if row.settled_ns is None else stamp(row.settled_ns)
    return {**published, "delivery": {"state": row.state, "settled": settled, "reason": row.reason}}


def _query(request: Request) -> EventQuery:
    since, until = _moment(request, "since"), _moment(request, "until")
    return EventQuery(
        request.whole("limit", low=1, high=MAX_LIMIT) or DEFAULT_LIMIT,
        after=request.whole("after", low=0, high=MAX_SEQ),
        before=request.whole("before", low=1, high=MAX_SEQ),
        types=_choices(request, "type"),
        cameras=_choices(request, "camera"),
        classes=_choices(request, "class"),
        severities=_choices(request, "severity"),
        coil=request.text("coil"),
        text=request.text("q"),
        since_ns=0 if since is None else since,
        until_ns=(1 << 63) - 1 if until is None else until + NS_PER_MS - 1,
    )


def _choices(request: Request, name: str) -> tuple[str, ...]:
    """Values that are given more than once, or with commas between them."""
    values = tuple(part for text in request.query.get(name, ()) for part in text.split(",") if part)
    if len(values) > MAX_CHOICES or any(len(value) > 100 for value in values):
        raise bad_value(f"{name} has too many values, or too long ones")
    return values


def _moment(request: Request, name: str) -> int | None:
    """A time, as wall time in ns.  Without a zone it is UTC."""
    text = request.text(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a + that was not encoded
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return max(0, round(aware.timestamp() * 1000) * NS_PER_MS)
    except (ValueError, OverflowError):
        raise bad_value(f"{name} should be a time such as 2026-11-22T13:00:00Z") from None
