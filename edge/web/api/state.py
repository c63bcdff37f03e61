"""The state of the node, and whether the page itself is alive."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from edge.web.refusal import Refusal
from edge.web.route import JSON, Page, Request, Response

WAIT_S: Final = 2.0


async def state(page: Page, _request: Request) -> Response:
    """The newest state object of the daemon."""
    found = await page.feed.state(WAIT_S)
    if found is None:
        raise no_daemon()
    return Response(content_type=JSON, body=found[1] + b"\n")


async def trend(page: Page, _request: Request) -> Response:
    """The latency of the last hour."""
    return Response.json(page.trend.as_json())


async def health(page: Page, _request: Request) -> Response:
    """200 while this process serves; whether the daemon inspects is in the state."""
    return Response.json({"schema": "defectd.api.health/1", "ok": True, "version": page.settings.version})


def no_daemon() -> Refusal:
    """The daemon sends nothing."""
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "no_daemon",
        "the daemon sends nothing: it does not run, or it starts",
        "See its log: journalctl -u defectd, or the terminal of `defectd run`",
    )
