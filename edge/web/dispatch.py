"""From a request to an answer: the guard, the table of routes, the user's role, the handler."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from edge.host.log_throttle import LogThrottle
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response, Route
from edge.web.static_files import StaticFiles
from edge.web.user import User

log = logging.getLogger(__name__)

MAX_QUERY_FIELDS: Final = 50
NO_STORE: Final = "no-store"


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a request, as it came.  headers: by lower-case name.  peer: address of the connection."""

    method: str
    target: str
    headers: Mapping[str, str]
    peer: str
    is_tls: bool


class Dispatch:
    """Answers requests.  Knows nothing of the HTTP library."""

    def __init__(self, page: Page, routes: Sequence[Route], files: StaticFiles) -> None:
        self._page = page
        self._routes = tuple(routes)
        self._files = files
        self._throttle = LogThrottle(log)

    def max_body_bytes(self, head: Head) -> int:
        """How long the body of this request may be."""
        found = self._found(head)
        return 0 if found is None else found[0].max_body_bytes

    async def answer(self, head: Head, body: bytes) -> Response:
        """Never raises."""
        try:
            return await self._answer(head, body)
        except Refusal as refused:
            return Response.refusal(refused)
        except Exception as error:
            left_out = self._throttle.ready(head.target, self._page.clock.monotonic_ns())
            if left_out is not None:
                log.exception("%s failed (%d more times since the last line)", head.method, left_out)
            reason = f"{type(error).__name__}: see the log of the page"
            return Response.refusal(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", reason))

    async def _answer(self, head: Head, body: bytes) -> Response:
        path, _, query = head.target.partition("?")
        path = path.removeprefix(self._page.settings.base_path) or "/"
        try:
            values = parse_qs(query, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "bad_value", "too many parameters") from None
        found = self._found(head)
        if found is None:
            return self._file(head, path, values)
        route, params = found
        request = Request(
            path, route.method, params, values, head.headers, body, User("", "viewer"), head.peer, head.is_tls
        )
        response = await route.handler(self._page, request)
        return replace(response, headers={"Cache-Control": NO_STORE, **response.headers})

    def _found(self, head: Head) -> tuple[Route, dict[str, str]] | None:
        """The route for a request, and the parts of its path.  Raises Refusal for another method."""
        path = head.target.partition("?")[0].removeprefix(self._page.settings.base_path)
        method = "GET" if head.method == "HEAD" else head.method
        for route in self._routes:
            params = route.matched(path)
            if params is not None and route.method == method:
                return route, params
        return None

    def _file(self, head: Head, path: str, query: Mapping[str, Sequence[str]]) -> Response:
        if head.method not in ("GET", "HEAD"):
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method", "this path does not take that method")
        version = query.get("v", [None])[0]
        found = self._files.response(path, version, head.headers.get("if-none-match", ""))
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is nothing of this name")
        return found
