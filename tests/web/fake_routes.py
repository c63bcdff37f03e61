"""The answers of the fake node that every page needs."""

from __future__ import annotations

import json
from typing import Any


def session(node, request) -> dict[str, Any]:
    role = None if node.wants_login else node.role
    return {"schema": "defectd.api.session/1", "user": node.user, "role": role, "has_users": True}


def login(node, request) -> dict[str, Any] | None:
    body = json.loads(request.request.body)
    if body.get("password") != "steel":
        return request.refuse(401, "login", "Name or password is wrong.", "After five failures a minute is waited.")
    node.user, node.wants_login = body["name"], False
    return session(node, request)


def logout(node, request) -> dict[str, Any]:
    node.user = None
    return session(node, request)


def events(node, request) -> dict[str, Any]:
    after, before = request.get_query_argument("after", None), request.get_query_argument("before", None)
    limit = int(request.get_query_argument("limit", "50"))
    found = node.events()
    for key, of in {
        "type": lambda e: e["type"],
        "camera": lambda e: e["camera"],
        "class": lambda e: (e["defect"] or {}).get("class"),
    }.items():
        wanted = request.get_query_argument(key, None)
        found = [event for event in found if wanted in {None, of(event)}]
    if after is not None:
        found = [event for event in found if event["seq"] > int(after)][:limit]
    else:
        found = [event for event in found if before is None or event["seq"] < int(before)][-limit:]
    return {"schema": "defectd.api.events/1", "events": found, "last_seq": node.last_seq}


def event(node, request, seq: str) -> dict[str, Any] | None:
    found = [event for event in node.events() if event["seq"] == int(seq)]
    if not found:
        return request.refuse(404, "not_found", "There is no such event.", "The outbox keeps the newest events only.")
    return {"schema": "defectd.api.event/1", "event": found[0]}


def picture(node, request, path: str) -> tuple[str, bytes] | None:
    found = node.evidence.get(path)
    return ("image/jpeg", found) if found else request.refuse(404, "not_found", "The picture is gone.")


def command(node, request) -> dict[str, Any]:
    node.posted.append(("/command", json.loads(request.request.body)))
    return {"schema": "defectd.api.command/1", "ok": True}


def coil_map(node, request) -> dict[str, Any]:
    values = [request.get_query_argument(name, None) for name in ("from_m", "to_m")]
    return node.coil_map(*[None if value is None else float(value) for value in values])


ROUTES = {
    ("GET", "/session"): session,
    ("POST", "/login"): login,
    ("POST", "/logout"): logout,
    ("GET", "/state"): lambda node, _: node.state(),
    ("GET", "/events"): events,
    ("GET", r"/events/(\d+)"): event,
    ("GET", "/evidence/(.+)"): picture,
    ("GET", "/coils/current/map"): coil_map,
    ("GET", "/trend"): lambda node, _: node.trend(),
    ("POST", "/command"): command,
}
