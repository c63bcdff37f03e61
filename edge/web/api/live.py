"""Server-sent events: states as they change, events of the outbox without a gap, and `bye` at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from edge.host.clock import NS_PER_S
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

MAX_VIEWERS: Final = 32
STATE_EVERY_NS: Final = NS_PER_S // 5
SIGN_EVERY_NS: Final = 5 * NS_PER_S
"""Without anything else to send, a comment shows that the connection lives."""
WAIT_S: Final = 1.0
CONTENT_TYPE: Final = "text/event-stream"


async def live(page: Page, request: Request) -> Response:
    """A stream for one viewer.  `Last-Event-ID`, or `after` in the query, is the `seq` of the last event it has."""
    if page.feed.viewers >= MAX_VIEWERS:
        raise Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE, "too_many", f"{MAX_VIEWERS} viewers watch already", "Close other tabs"
        )
    return Response(content_type=CONTENT_TYPE, headers={"X-Accel-Buffering": "no"}, chunks=_messages(page, request))


async def _messages(page: Page, request: Request) -> AsyncIterator[bytes]:
    del request
    state_ns = sent_ns = 0
    yield b"retry: 1000\n\n"
    with page.feed.subscribed() as subscription:
        while True:
            now_ns = page.clock.monotonic_ns()
            parts = []
            while subscription.events:
                seq, payload = subscription.events.popleft()
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
            await page.feed.changed(WAIT_S)


def message(kind: str, value: Mapping[str, Any], seq: int | None = None) -> bytes:
    """One server-sent event."""
    name = "" if seq is None else f"id: {seq}\n"
    return f"{name}event: {kind}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
