"""Commands to the daemon: the verbs of `docs/commands.md`, each for the role that may give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from edge.web.body import check
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response
from edge.web.user import Role

NAME: Final = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"}
SHARE: Final = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
SHA256: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
"""Of the configuration that the user has seen: the daemon refuses the change when it is another one by now."""
SEQS: Final = {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": "integer", "minimum": 1}}


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb, or one of its actions.  fields: its properties, besides `verb`; required: those that must be there."""

    role: Role
    fields: Mapping[str, Any]
    required: tuple[str, ...] = ()
    signed: str = ""
    """The field that gets the name of the user; nobody signs for another person."""


VERBS: Final[Mapping[tuple[str, str | None], Verb]] = MappingProxyType(
    {
        ("ping", None): Verb("viewer", {}),
        ("state", None): Verb("viewer", {}),
        ("pause", None): Verb(
            "operator",
            {
                "camera": NAME,
                "for_s": {"type": "number", "minimum": 0.001, "maximum": 86_400},
                "reason": {"type": "string", "minLength": 1, "maxLength": 300},
            },
            ("camera",),
        ),
        ("resume", None): Verb("operator", {"camera": NAME}, ("camera",)),
        ("coil", "show"): Verb("viewer", {}),
        ("coil", "start"): Verb(
            "operator", {"coil": {"type": "string", "minLength": 1, "maxLength": 128}, "lane": NAME}, ("coil",)
        ),
        ("coil", "stop"): Verb("operator", {"lane": NAME}),
        ("coil-release", None): Verb(
            "operator",
            {
                "coil": {"type": "string", "minLength": 1, "maxLength": 128},
                "grade": {"type": "string", "minLength": 1, "maxLength": 40},
                "reason": {"type": "string", "minLength": 1, "maxLength": 500},
            },
            ("coil",),
            "by",
        ),
        ("dead-letters", "list"): Verb("viewer", {"limit": {"type": "integer", "minimum": 1, "maximum": 50}}),
        ("dead-letters", "retry"): Verb("operator", {"seqs": SEQS, "all": {"type": "boolean"}}),
        ("dead-letters", "discard"): Verb("engineer", {"seqs": SEQS, "all": {"type": "boolean"}}),
        ("set", None): Verb(
            "engineer",
            {
                "camera": NAME,
                "confidence": SHARE,
                "unsure": SHARE,
                "classes": {
                    "type": ["object", "null"],
                    "maxProperties": 64,
                    "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
            ("camera",),
        ),
        ("reload", None): Verb("engineer", {}),
        ("model", "list"): Verb("viewer", {}),
        ("model", "use"): Verb("engineer", {"digest": {"type": "string", "pattern": "^[0-9a-f]{6,64}$"}}, ("digest",)),
        ("model", "rollback"): Verb("engineer", {}),
    }
)
"""By verb and action.  What takes a URL or a path is not among them: nobody names one through the page."""
DEFAULT_ACTIONS: Final[Mapping[str, str]] = {"coil": "show", "dead-letters": "list", "model": "list"}
BODY: Final = {
    "type": "object",
    "required": ["verb"],
    "properties": {"verb": {"type": "string", "enum": sorted({verb for verb, _ in VERBS})}},
    "additionalProperties": True,
}


async def command(page: Page, request: Request) -> Response:
    """Carry out a verb on the node."""
    fields = dict(request.json())
    name = fields.pop("verb")
    action = fields.get("action", DEFAULT_ACTIONS.get(name))
    verb = VERBS.get((name, action)) if action is None or isinstance(action, str) else None
    if verb is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "bad_value", f"{name} has no such action")
    if not request.user.may(verb.role):
        remedy = (
            f"Log in as a user with the role {verb.role}"
            if page.access.has_users
            else "Open the link that `defectd web link` prints on the node"
        )
        raise Refusal(HTTPStatus.FORBIDDEN, "role", f"{name} needs the role {verb.role}", remedy)
    own: dict[str, Any] = {} if action is None else {"action": {"const": action}}
    if verb.role != "viewer":
        own["expected_config_sha256"] = SHA256
    check(fields, {"type": "object", "required": verb.required, "properties": {**own, **verb.fields}})
    if verb.signed:
        fields[verb.signed] = request.user.name
    result = await page.commands.ask(name, request.user, fields, request.client)
    return Response.json({"schema": "defectd.api.command/1", "verb": name, "result": result})
