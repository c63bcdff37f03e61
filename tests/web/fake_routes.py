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
        "severity": lambda e: (e["defect"] or {}).get("severity"),
        "coil": lambda e: (e["defect"] or e["detail"] or {}).get("coil"),
    }.items():
        wanted = request.get_query_argument(key, None)
        found = [event for event in found if wanted is None or of(event) in wanted.split(",")]
    since, until = request.get_query_argument("since", ""), request.get_query_argument("until", "~")
    text = request.get_query_argument("q", "")
    found = [event for event in found if since <= event["time"] <= until and text in json.dumps(event)]
    found = [event for event in found if int(after or 0) < event["seq"] < int(before or 1 << 60)]
    is_forward = after is not None and before is None
    shown = found[:limit] if is_forward else found[: -limit - 1 : -1]
    cursor = {"after" if is_forward else "before": shown[-1]["seq"]} if len(found) > limit else None
    return {
        "schema": "defectd.api.events/1",
        "events": [delivered(event) for event in shown],
        "next": cursor,
        "is_whole": True,
    }


def delivered(event: dict[str, Any]) -> dict[str, Any]:
    """Now and then one was refused."""
    if event["seq"] % 17 == 5:
        return event | {"delivery": {"state": "refused", "settled": event["time"], "reason": "not authorized"}}
    return event | {"delivery": {"state": "delivered", "settled": event["time"], "reason": None}}


def event(node, request, seq: str) -> dict[str, Any] | None:
    found = [event for event in node.events() if event["seq"] == int(seq)]
    if not found:
        return request.refuse(
            404, "not_found", "this event is not stored any more, or not yet", "The outbox keeps the newest events only"
        )
    return {"schema": "defectd.api.event/1", "event": delivered(found[0]), "picture": described(found[0])}


def described(event: dict[str, Any]) -> dict[str, Any] | None:
    """The picture of a defect, as the archive would describe it."""
    if event["evidence"] is None:
        return None
    defect = event["defect"]
    return {
        "evidence": event["evidence"]["path"],
        "kind": "defect",
        "camera": event["camera"],
        "crop_px": defect["box_px"],
        "frame_px": [1600, 256],
        "box": [0.17, 0.1, 0.64, 0.78],
        "event_id": event["event_id"],
    }


def picture(node, request, path: str) -> tuple[str, bytes] | None:
    found = node.evidence.get(path)
    return ("image/jpeg", found) if found else request.refuse(404, "not_found", "The picture is gone.")


def command(node, request) -> dict[str, Any]:
    node.posted.append(("/command", json.loads(request.request.body)))
    verb, result = node.posted[-1][1], {}
    if verb["verb"] == "dead-letters" and verb.get("action") == "list":
        letters = [letter(event) for event in map(delivered, node.events()) if event["delivery"]["state"] == "refused"]
        result = {"action": "list", "done": 0, "count": len(letters), "letters": letters[-3:]}
    elif verb["verb"] == "dead-letters":
        result = {"done": 1}
    elif verb["verb"] == "model":
        result = {"changed": True, "to": {"name": "student", "version": "0.4"}}
    return {"schema": "defectd.api.command/1", "verb": verb["verb"], "result": result}


def letter(event: dict[str, Any]) -> dict[str, Any]:
    return {"seq": event["seq"], "refused": event["time"], "code": "0x87", "reason": "not authorized"}


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
