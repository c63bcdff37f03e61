"""Every node at the broker."""

from __future__ import annotations

from http import HTTPStatus

from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response


async def fleet(page: Page, _request: Request) -> Response:
    """What the nodes at this node's broker retain there, the worst first."""
    config_path = page.settings.config_path
    if config_path is None:
        raise Refusal(HTTPStatus.CONFLICT, "unsupported", "this node was started without a configuration file")
    found = await page.fleet.look(page.children, config_path)
    return Response.json({"schema": "defectd.api.fleet/1", "own": page.settings.node, **found})
