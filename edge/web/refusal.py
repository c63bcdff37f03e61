"""An answer of the page that is no success."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

ERROR_SCHEMA: Final = "defectd.api.error/1"


class Refusal(Exception):
    """An answer that is no success.  code: one word, for programs.  remedy: what the person can do; may be empty."""

    def __init__(self, status: HTTPStatus, code: str, reason: str, remedy: str = "") -> None:
        self.status = status
        self.code = code
        self.remedy = remedy
        super().__init__(reason)

    def as_json(self) -> dict[str, Any]:
        error = {"code": self.code, "reason": str(self), "remedy": self.remedy}
        return {"schema": ERROR_SCHEMA, "error": error}


def bad_value(reason: str) -> Refusal:
    """A parameter or a field of the body that cannot be right."""
    return Refusal(HTTPStatus.BAD_REQUEST, "bad_value", reason)
