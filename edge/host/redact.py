"""Credentials are removed from text before it reaches a log, an event or an error message."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,20}://)\S*@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<name>pass(?:word|wd|wort)?|pwd|secret|token|auth|(?:api|access)[_-]?key)=[^&\s]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """The text with credentials in URLs blotted out: for logs, events and errors.

    Removes too much rather than too little: a slash or @ inside a password looks like the one that ends it.
    """
    return _PARAMETER.sub(r"\g<name>=***", _USERINFO.sub(r"\g<scheme>***@", text))
