"""Live pictures: the next frame of a camera as JPEG, with what was found in it in a header."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from edge.web.feed import MAX_FPS, MAX_LONGEST_PX
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

POLL_S: Final = 1.0
"""A request that finds no newer frame waits this long for one."""


async def frame(page: Page, request: Request) -> Response:
    """The newest frame that is not `after`; 204 when none comes within a second.

    The viewer asks for the next one when it has shown this one: that is the back-pressure.
    """
    camera = request.params["camera"]
    if camera not in page.cameras:
        raise Refusal(HTTPStatus.NOT_FOUND, "unknown_camera", "this node has no such camera")
    found = await page.feed.frame(
        camera,
        request.text("after"),
        POLL_S,
        max_fps=request.number("max_fps", low=0.1, high=MAX_FPS) or MAX_FPS,
        longest_px=request.whole("longest_px", low=64, high=MAX_LONGEST_PX) or MAX_LONGEST_PX,
    )
    if found is None:
        return Response(HTTPStatus.NO_CONTENT, "")
    return Response(content_type="image/jpeg", body=found.jpeg, headers={"Defectd-Frame": found.text})
