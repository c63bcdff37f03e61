"""The table of routes: everything that the page process answers, besides the files of the front end.

A new route is a handler in `edge/web/api/` and a row here. Each row states who may use it.
"""

from __future__ import annotations

from typing import Final

from edge.web.api import frames, live, state
from edge.web.route import Parameter, Route

API: Final = "/api/v1"
JPEG: Final = "image/jpeg"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/healthz", "anyone", state.health, "Whether the page itself is alive", "api-health-1"),
    Route("GET", f"{API}/state", "viewer", state.state, "The state of the node", "api-state-1"),
    Route(
        "GET",
        f"{API}/live",
        "viewer",
        live.live,
        "Server-sent events: state, event (id: seq) and bye",
        live.CONTENT_TYPE,
        query=(Parameter("after", "seq of the last event that the client has", "integer"),),
    ),
    Route(
        "GET",
        f"{API}/cameras/{{camera}}/frame",
        "viewer",
        frames.frame,
        "The next frame as JPEG; its regions are in the header Defectd-Frame; 204: none within 1 s",
        JPEG,
        query=(
            Parameter("after", "EPOCH.NUMBER of the frame that the client shows"),
            Parameter("max_fps", "frames per second that the client wants, at most 5", "number"),
            Parameter("longest_px", "longest side of the picture, 64 to 1600", "integer"),
        ),
    ),
)
