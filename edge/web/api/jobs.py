"""Jobs: what a child process of the page does at the moment, and what it gave."""

from __future__ import annotations

from http import HTTPStatus

from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response


async def jobs(page: Page, _request: Request) -> Response:
    """All jobs that are known, the newest first, without their results."""
    found = [{**job.as_json(), "result": None, "lines": []} for job in reversed(page.children.jobs)]
    return Response.json({"schema": "defectd.api.jobs/1", "jobs": found})


async def job(page: Page, request: Request) -> Response:
    """One job: its state, its progress, and when it is done its result."""
    found = page.children.job(request.params["job"])
    if found is None:
        raise _unknown()
    return Response.json(found.as_json())


async def cancel(page: Page, request: Request) -> Response:
    """End a job: one's own, or as an engineer anybody's."""
    found = page.children.job(request.params["job"])
    if found is None:
        raise _unknown()
    if found.by != request.user.name and not request.user.may("engineer"):
        raise Refusal(HTTPStatus.FORBIDDEN, "role", "this is the job of somebody else")
    page.children.cancel(found.id)
    return Response.json(found.as_json())


def _unknown() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is no such job, or not any more")
