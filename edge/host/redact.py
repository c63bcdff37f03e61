"""Credentials are removed from text before it reaches a log, an event or an error message."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote

MASK: Final = "***"
MIN_SECRET_CHARS: Final = 3
"""A shorter text is not replaced: without every "a" nothing could be read."""

_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,20}://)\S*@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<name>pass(?:word|wd|wort)?|pwd|secret|token|auth|(?:api|access)[_-]?key)=[^&\s]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """The text with credentials in URLs blotted out: for logs, events and errors.

    Removes too much rather than too little: a slash or @ inside a password looks like the one that ends it.
    """
    return _PARAMETER.sub(rf"\g<name>={MASK}", _USERINFO.sub(rf"\g<scheme>{MASK}@", text))


def mask_of(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces these secrets in a text, also where they are quoted, escaped or percent-encoded."""
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_SECRET_CHARS}
    if not forms:
        return str
    known = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
    return lambda text: known.sub(MASK, text)


def _forms(secret: str) -> tuple[str, ...]:
    """The spellings in which a secret may appear."""
    escaped = json.dumps(secret)[1:-1]
    return secret, escaped, json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1], quote(secret, safe="")
