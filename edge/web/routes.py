"""The table of routes: everything that the page process answers, besides the files of the front end.

A new route is a handler in `edge/web/api/` and a row here. Each row states who may use it.
"""

from __future__ import annotations

from typing import Final

from edge.web import openapi
from edge.web.api import coils, command, events, frames, jobs, live, session, state
from edge.web.route import Page, Parameter, Request, Response, Route

API: Final = "/api/v1"
JPEG: Final = "image/jpeg"
PLACES: Final = (
    Parameter("from_m", "start of the map; 0 without it", "number"),
    Parameter("to_m", "end of the map; the newest place without it", "number"),
)


async def described(page: Page, _request: Request) -> Response:
    """The description of this table."""
    ours = page.settings
    made = openapi.document(ROUTES, node=ours.node, version=ours.version, base_path=ours.base_path)
    return Response.json(made)


ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/healthz", "anyone", state.health, "Whether the page itself is alive", "api-health-1"),
    Route(
        "GET",
        "/enter",
        "anyone",
        session.enter,
        "The link that `defectd web link` prints: opens a session",
        "text/html",
        query=(Parameter("token", "of the link, valid once and for 10 minutes"),),
    ),
    Route("GET", f"{API}/openapi.json", "viewer", described, "This document", "application/json"),
    Route("GET", f"{API}/session", "anyone", session.session, "Who asks", "api-session-1"),
    Route(
        "POST",
        f"{API}/login",
        "anyone",
        session.login,
        "Open a session: the answer sets its cookie",
        "api-session-1",
        body=session.LOGIN,
        max_body_bytes=session.MAX_LOGIN_BYTES,
    ),
    Route("POST", f"{API}/logout", "anyone", session.logout, "End the session", "api-session-1"),
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
    Route(
        "GET",
        f"{API}/events",
        "viewer",
        events.events,
        "Stored events, the newest first; with `after` alone the oldest first",
        "api-events-1",
        query=(
            Parameter("after", "only events with a higher seq", "integer"),
            Parameter("before", "only events with a lower seq", "integer"),
            Parameter("type", "event types, separated by commas"),
            Parameter("camera", "cameras, separated by commas"),
            Parameter("class", "classes of defects, separated by commas"),
            Parameter("severity", "severities, separated by commas"),
            Parameter("coil", "name of the coil"),
            Parameter("since", "stored at this time or later: 2026-11-22T13:00:00Z"),
            Parameter("until", "stored at this time or earlier"),
            Parameter("q", "text that occurs anywhere in the event"),
            Parameter("limit", "1 to 500; 50 without it", "integer"),
        ),
    ),
    Route("GET", f"{API}/events/{{seq}}", "viewer", events.event, "One event", "api-event-1"),
    Route(
        "POST",
        f"{API}/command",
        "viewer",
        command.command,
        "A command of docs/commands.md; each verb needs its own role",
        "api-command-1",
        body=command.BODY,
    ),
    Route(
        "GET",
        f"{API}/coils",
        "viewer",
        coils.coils,
        "Coils, the newest first, with their sums",
        "api-coils-1",
        query=(
            Parameter("before", "only coils whose id is lower"),
            Parameter("limit", "1 to 1000; 50 without it", "integer"),
        ),
    ),
    Route(
        "GET",
        f"{API}/coils/current/map",
        "viewer",
        coils.running_map,
        "The map of the running coil; where defects are many it counts them by bins",
        "api-coil-map-1",
        query=PLACES,
    ),
    Route(
        "GET",
        f"{API}/coils/{{coil}}",
        "viewer",
        coils.coil,
        "One coil, by the id of its record or by its name: sums and map",
        "api-coil-1",
        query=PLACES,
    ),
    Route("GET", f"{API}/jobs", "viewer", jobs.jobs, "Long work: what runs, waits and has ended", "api-jobs-1"),
    Route("GET", f"{API}/jobs/{{job}}", "viewer", jobs.job, "One job with its progress and result", "api-job-1"),
    Route("POST", f"{API}/jobs/{{job}}/cancel", "operator", jobs.cancel, "End a job", "api-job-1"),
)
