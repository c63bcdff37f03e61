"""Log in, log out, who am I, and the link of the node."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from edge.web import password
from edge.web.route import Page, Request, Response
from edge.web.user import User

SCHEMA: Final = "defectd.api.session/1"
MAX_LOGIN_BYTES: Final = 1024
USED_LINK: Final = b"""This link was used already, or is older than 10 minutes.
Print a new one on the node: defectd web link
"""
LOGIN: Final = {
    "type": "object",
    "required": ["name", "password"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 64},
        "password": {"type": "string", "minLength": 1, "maxLength": password.MAX_CHARACTERS},
    },
}


async def session(page: Page, request: Request) -> Response:
    """Who asks.  role: null where a login is needed."""
    return Response.json(_described(page, request.user))


async def login(page: Page, request: Request) -> Response:
    """Open a session."""
    fields = request.json()
    cookie = await page.access.login(fields["name"], fields["password"], request.client, is_secure=request.is_secure)
    entry = page.access.users().get(fields["name"])
    user = User(fields["name"], "anyone" if entry is None else entry.role)
    return Response.json(_described(page, user), cookies=(cookie,))


async def logout(page: Page, request: Request) -> Response:
    """End the session."""
    cookie = page.access.logout(request.session, is_secure=request.is_secure)
    return Response.json(_described(page, page.access.user_of("")), cookies=(cookie,))


async def enter(page: Page, request: Request) -> Response:
    """The link of the node: opens a session, and leaves the token behind."""
    home = page.settings.base_path + "/"
    cookie = page.access.enter(request.text("token") or "", request.client, is_secure=request.is_secure)
    if cookie is None and not request.user.name:  # a person reads this, not a program
        return Response(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", USED_LINK)
    cookies = () if cookie is None else (cookie,)
    return Response(HTTPStatus.SEE_OTHER, "", headers={"Location": home}, cookies=cookies)


def _described(page: Page, user: User) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "user": user.name or None,
        "role": None if user.role == "anyone" else user.role,
        "has_users": page.access.has_users,
        "node": page.settings.node,
    }
