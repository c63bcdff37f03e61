"""From a request to an answer: the guard, the table of routes, the user's role, the handler."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from edge.host.log_throttle import LogThrottle
from edge.web.body import parsed
from edge.web.guard import Guard, Head, Sender
from edge.web.refusal import Refusal, bad_value
from edge.web.route import JSON, Page, Request, Response, Route
from edge.web.static_files import StaticFiles
from edge.web.user import User

log = logging.getLogger(__name__)

MAX_QUERY_FIELDS: Final = 50
SMALL_BODY_BYTES: Final = 64 << 10
"""Only who may use the route can send a longer body."""
NO_STORE: Final = "no-store"


class Dispatch:
    """Answers requests.  Knows nothing of the HTTP library."""

    def __init__(self, page: Page, routes: Sequence[Route], files: StaticFiles) -> None:
        self._page = page
        self._routes = tuple(routes)
        self._files = files
        self._guard = Guard(page.settings)
        self._throttle = LogThrottle(log)

    def max_body_bytes(self, head: Head) -> int:
        """How long the body of this request may be."""
        try:
            found = self._found(head)
            if found is None:
                return 0
            if found[0].max_body_bytes > SMALL_BODY_BYTES:
                self._checked_user(head, self._guard.sender(head), found[0])
        except Refusal:
            return 0
        return found[0].max_body_bytes

    async def answer(self, head: Head, body: bytes | None) -> Response:
        """Never raises.  body: None when it was longer than the request may send."""
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

    async def _answer(self, head: Head, body: bytes | None) -> Response:
        sender = self._guard.sender(head)
        path, query = self._parts(head)
        found = self._found(head)
        if found is None:
            return self._file(head, path, query)
        route, params = found
        user, key = self._checked_user(head, sender, route)
        if body is None:
            reason = f"the body may have {route.max_body_bytes} bytes"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", reason)
        if route.method == "POST":
            self._check_body(head, body, route)
        request = Request(
            path, route.method, params, query, head.headers, body, user, sender.client, sender.is_secure, key
        )
        response = await route.handler(self._page, request)
        return replace(response, headers={"Cache-Control": NO_STORE, **response.headers})

    def _checked_user(self, head: Head, sender: Sender, route: Route) -> tuple[User, str]:
        """Who asks, and the key of the session.  Raises Refusal when that user may not."""
        access = self._page.access
        key = cookie(head.headers.get("cookie", ""), access.cookie_name(is_secure=sender.is_secure))
        user = access.user_of(key)
        if not user.may(route.role):
            raise self._not_allowed(user, route)
        return user, key

    def _check_body(self, head: Head, body: bytes, route: Route) -> None:
        """Raises Refusal."""
        content_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != route.takes:
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content_type", f"the body must be {route.takes}")
        if route.takes == JSON:
            parsed(body, route.fields)

    def _parts(self, head: Head) -> tuple[str, dict[str, list[str]]]:
        """The path below the base path, and the query.  Raises Refusal."""
        path, _, query = head.target.partition("?")
        base = self._page.settings.base_path
        if base and (path == base or path.startswith(base + "/")):  # a proxy may remove it, or not
            path = path[len(base) :] or "/"
        try:
            return path, parse_qs(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise bad_value("the query has too many parameters") from None

    def _found(self, head: Head) -> tuple[Route, dict[str, str]] | None:
        """The route for a request, and the parts of its path.  Raises Refusal for another method."""
        path, _ = self._parts(head)
        method = "GET" if head.method == "HEAD" else head.method
        others = []
        for route in self._routes:
            params = route.matched(path)
            if params is None:
                continue
            if route.method == method:
                return route, params
            others.append(route.method)
        if others:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method", f"this path takes {', '.join(others)}")
        return None

    def _not_allowed(self, user: User, route: Route) -> Refusal:
        if user.role == "anyone":
            has_users = self._page.access.has_users
            remedy = "Log in" if has_users else "Add a user on the node: defectd web user add NAME --role engineer"
            return Refusal(HTTPStatus.UNAUTHORIZED, "login", "this needs a login", remedy)
        has_name = bool(user.name)
        remedy = (
            f"Log in as a user with the role {route.role}"
            if has_name or self._page.access.has_users
            else "Open the link that `defectd web link` prints on the node"
        )
        return Refusal(HTTPStatus.FORBIDDEN, "role", f"this needs the role {route.role}, not {user.role}", remedy)

    def _file(self, head: Head, path: str, query: Mapping[str, Sequence[str]]) -> Response:
        if head.method not in ("GET", "HEAD"):
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method", "this path does not take that method")
        found = self._files.response(path, next(iter(query.get("v", ())), None), head.headers.get("if-none-match", ""))
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is nothing of this name")
        return found


def cookie(header: str, name: str) -> str:
    """The value of a cookie; "" without it.  Of several with the name, none: the browser would send one."""
    found = [value for part in header.split(";") for key, _, value in [part.strip().partition("=")] if key == name]
    return found[0] if len(found) == 1 else ""
