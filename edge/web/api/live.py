"""Server-sent events: states as they change, events of the outbox without a gap, and `bye` at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from edge.delivery.outbox.reader import EventQuery, read_page
from edge.errors import OutboxError
from edge.host.clock import NS_PER_S
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

log = logging.getLogger(__name__)

MAX_VIEWERS: Final = 32
STATE_EVERY_NS: Final = NS_PER_S // 5
SIGN_EVERY_NS: Final = 5 * NS_PER_S
"""Without anything else to send, a comment shows that the connection lives."""
WAIT_S: Final = 1.0
MAX_MISSED: Final = 500
MAX_DIGITS: Final = 17
CONTENT_TYPE: Final = "text/event-stream"


async def live(page: Page, request: Request) -> Response:
    """A stream for one viewer.  `Last-Event-ID`, or `after` in the query, is the `seq` of the last event it has."""
    _last_seq(request)  # refuses a wrong one while it still can
    if page.feed.viewers >= MAX_VIEWERS:
        raise Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE, "too_many", f"{MAX_VIEWERS} viewers watch already", "Close other tabs"
        )
    return Response(content_type=CONTENT_TYPE, headers={"X-Accel-Buffering": "no"}, chunks=_messages(page, request))


async def _messages(page: Page, request: Request) -> AsyncIterator[bytes]:
    last_seq = _last_seq(request)
    state_ns = sent_ns = 0
    yield b"retry: 1000\n\n"
    with page.feed.subscribed() as subscription:
        if last_seq is not None:
            missed = await _missed(page, last_seq)
            if missed:
                last_seq = missed[-1][0]
                yield b"".join(message("event", payload, seq) for seq, payload in missed)
        while page.access.user_of(request.session).may("viewer"):
            now_ns, seen = page.clock.monotonic_ns(), page.feed.changes
            parts = []
            while subscription.events:
                seq, payload = subscription.events.popleft()
                if last_seq is None or seq > last_seq:
                    last_seq = seq
                    parts.append(message("event", payload, seq))
            if now_ns - state_ns >= STATE_EVERY_NS:
                found = await page.feed.state(0.0, state_ns)
                if found is not None:
                    state_ns = found[0]
                    parts.append(b"event: state\ndata: " + found[1] + b"\n\n")
            if not parts and now_ns - sent_ns >= SIGN_EVERY_NS:
                parts.append(b": alive\n\n")
            if parts:
                sent_ns = now_ns
                yield b"".join(parts)
            await page.feed.changed(seen, WAIT_S)
    yield message("bye", {"reason": "the session has ended"})


def _last_seq(request: Request) -> int | None:
    """The last event that the client has.  A browser that connects again names it in a header."""
    text = request.headers.get("last-event-id", "")
    if text.isascii() and text.isdigit() and len(text) < MAX_DIGITS:
        return int(text)
    return request.whole("after", low=0, high=1 << 53)


async def _missed(page: Page, last_seq: int) -> list[tuple[int, Any]]:
    """The next stored events, not more than MAX_MISSED: who has missed more reads `/events`."""
    query = EventQuery(MAX_MISSED, after=last_seq)
    try:
        found = await page.work.run(read_page, page.settings.outbox, query, lambda: True)
    except OutboxError as error:
        log.warning("the missed events cannot be read: %s", error)
        return []
    return [(row.seq, json.loads(row.payload)) for row in found.events]


def message(kind: str, value: Mapping[str, Any], seq: int | None = None) -> bytes:
    """One server-sent event."""
    name = "" if seq is None else f"id: {seq}\n"
    return f"{name}event: {kind}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
