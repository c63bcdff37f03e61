"""The table of routes: everything that the page process answers, besides the files of the front end.

A new route is a handler in `edge/web/api/` and a row here. Each row states who may use it.
"""

from __future__ import annotations

from typing import Final

from edge.web import openapi
from edge.web.api import (
    calibration,
    coil_reports,
    coils,
    command,
    events,
    evidence,
    fleet,
    frames,
    jobs,
    label_export,
    labels,
    live,
    model,
    node,
    session,
    state,
)
from edge.web.route import Page, Parameter, Request, Response, Route

API: Final = "/api/v1"
JPEG: Final = "image/jpeg"
PLACES: Final = (
    Parameter("from_m", "start of the map; 0 without it", "number"),
    Parameter("to_m", "end of the map; the newest place without it", "number"),
)
REPORT: Final = (
    Parameter("from", "head (usual) or tail: where 0 m lies"),
    Parameter("paper", "a4 (usual) or letter"),
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
    Route("GET", f"{API}/openapi.json", "viewer", described, "This description, for programs", "application/json"),
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
    Route("GET", f"{API}/trend", "viewer", state.trend, "Latency of the last hour, a point a minute", "api-trend-1"),
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
        f"{API}/evidence",
        "viewer",
        evidence.pictures,
        "Pictures, newest first",
        "api-evidence-1",
        query=(
            Parameter("kind", "audit, unsure, shadow, image, frame or defect"),
            Parameter("camera", "name of a camera"),
            Parameter("class", "what the model calls it; random tiles without a label are left out"),
            Parameter("coil", "name of a coil"),
            Parameter("from", "not before this time, as events carry it"),
            Parameter("to", "before this time"),
            Parameter("event_id", "pictures of one event"),
            Parameter("before", "go on from this number", "integer"),
            Parameter("limit", "1 to 200, usually 60", "integer"),
        ),
    ),
    Route("GET", f"{API}/evidence/{{kind}}/{{name}}.jpg", "viewer", evidence.picture, "One picture", JPEG),
    Route(
        "GET",
        f"{API}/labels/next",
        "viewer",
        labels.following,
        "What to label next: unsure pictures first, one in four taken at random and blind",
        "api-labels-next-1",
        query=(
            Parameter("order", "unsure (usual), random or defects"),
            Parameter("guess", "only pictures with this guess, for a grid"),
            Parameter("camera", "name of a camera"),
            Parameter("skip", "hashes of pictures that the caller has already, with commas between them"),
            Parameter("limit", "1 to 100, usually 12", "integer"),
        ),
    ),
    Route(
        "GET",
        f"{API}/labels",
        "viewer",
        labels.recent,
        "The newest labels and undos",
        "api-labels-1",
        query=(Parameter("limit", "1 to 200, usually 30", "integer"),),
    ),
    Route(
        "GET",
        f"{API}/labels/worth",
        "viewer",
        labels.value,
        "What the labels say of the model: recall of each class with its interval, false alarms",
        "api-labels-worth-1",
    ),
    Route(
        "POST",
        f"{API}/labels",
        "operator",
        labels.give,
        "Label pictures",
        "api-labels-given-1",
        body=labels.LABELS,
        max_body_bytes=64 << 10,
    ),
    Route(
        "POST",
        f"{API}/labels/undo",
        "operator",
        labels.undo,
        "Take back the newest labels of this user",
        "api-labels-undone-1",
        body=labels.UNDO,
    ),
    Route(
        "POST",
        f"{API}/labels/export",
        "operator",
        label_export.export,
        "Write the labelled pictures into class folders on the node; answers the job",
        "api-labels-export-1",
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
        f"{API}/coils/trend",
        "viewer",
        coil_reports.trend,
        "Defects a kilometer by class, gaps, grades, width and roll marks, from coil to coil",
        "api-coil-trend-1",
        query=(Parameter("last", "number of coils, 1 to 1000; 100 without it", "integer"),),
    ),
    *(
        Route(
            "GET",
            f"{API}/coils/{{coil}}.{kind}",
            "viewer",
            coil_reports.report(kind),
            about,
            "coil-report-1" if kind == "json" else coil_reports.TYPES[kind].partition(";")[0],
            query=REPORT,
        )
        for kind, about in (
            ("json", "The report of a coil as values"),
            ("html", "The report as one page with everything in it"),
            ("pdf", "The report for print"),
            ("png", "The map of the coil"),
            ("csv", "The defects of the coil, a row each"),
        )
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
    Route(
        "GET",
        f"{API}/model",
        "viewer",
        model.model,
        "The card of the model that decides, and which models are installed",
        "api-model-1",
        query=(Parameter("digest", "of another bundle whose card is wanted"),),
    ),
    Route(
        "POST",
        f"{API}/model/install",
        "engineer",
        model.install,
        "Check a bundle and keep it on the node; `model use` makes it decide",
        "api-model-install-1",
        takes=model.ZIP,
        max_body_bytes=model.MAX_UPLOAD_BYTES,
    ),
    Route(
        "GET", f"{API}/node", "viewer", node.node, "What the doctor finds, files, and who uses the page", "api-node-1"
    ),
    Route("POST", f"{API}/node/doctor", "operator", node.examine, "Examine the node again", "api-job-1"),
    Route(
        "GET",
        f"{API}/node/logs",
        "operator",
        node.logs,
        "The newest lines of the daemon's log",
        "api-logs-1",
        query=(
            Parameter("after", "only lines with a higher number", "integer"),
            Parameter("level", "debug, info (usual), warning or error: this one and more serious ones"),
        ),
    ),
    Route(
        "POST",
        f"{API}/node/support-bundle",
        "engineer",
        node.support_bundle,
        "Pack logs, configuration and findings for support; answers the job",
        "api-job-1",
    ),
    Route(
        "GET",
        f"{API}/node/support-bundle/{{job}}.tar.gz",
        "engineer",
        node.bundle,
        "Download the bundle of a job, once",
        "application/gzip",
    ),
    Route(
        "GET",
        f"{API}/fleet",
        "viewer",
        fleet.fleet,
        "Every node at the broker, the worst first; kept for 20 s",
        "api-fleet-1",
    ),
    Route("GET", f"{API}/jobs", "viewer", jobs.jobs, "Long work: what runs, waits and has ended", "api-jobs-1"),
    Route("GET", f"{API}/jobs/{{job}}", "viewer", jobs.job, "One job with its progress and result", "api-job-1"),
    Route("POST", f"{API}/jobs/{{job}}/cancel", "operator", jobs.cancel, "End a job", "api-job-1"),
    Route(
        "GET",
        f"{API}/calibration/{{camera}}",
        "viewer",
        calibration.calibration,
        "How a camera is calibrated, and what is missing until it is ready",
        "api-calibration-1",
    ),
    *(
        Route("POST", f"{API}/calibration/{{camera}}/{kind}", "engineer", handler, about, "api-job-1", body=body)
        for kind, handler, about, body in (
            ("roi", calibration.roi, "Preview a region, its zones and the size of its tiles", calibration.ROI),
            ("scale", calibration.scale, "Preview the scale", calibration.SCALE),
            ("flatfield", calibration.flatfield, "Preview the correction of the light", calibration.FLATFIELD),
            ("normal", calibration.normal, "Preview the anomaly model of good surface", calibration.NORMAL),
            ("thresholds", calibration.thresholds, "Preview thresholds by the labels", calibration.THRESHOLDS),
            ("classes", calibration.classes, "Preview classes that the labels teach", calibration.CLASSES),
            ("latency", calibration.latency, "Preview the settings of the network", calibration.LATENCY),
        )
    ),
    Route(
        "GET",
        f"{API}/calibration/plates/{{job}}/{{plate}}.png",
        "viewer",
        calibration.plate,
        "A picture of a preview",
        "image/png",
    ),
    Route(
        "POST",
        f"{API}/calibration/{{camera}}/apply",
        "engineer",
        calibration.apply,
        "Write what a preview showed, and use it; refused as `stale` where the file has changed",
        "api-calibration-change-1",
        body=calibration.APPLY,
    ),
    Route(
        "POST",
        f"{API}/calibration/{{camera}}/undo",
        "engineer",
        calibration.undo,
        "Go back to the calibration before the last change",
        "api-calibration-change-1",
        body=calibration.UNDO,
    ),
)
