"""STATE messages of the primary host: whether it is online."""

from __future__ import annotations

import json
from typing import Final

from edge.errors import PayloadError

MAX_BYTES: Final = 4096
"""Longest STATE message that is parsed."""


def parsed(payload: bytes) -> tuple[bool, int]:
    """Online, and the timestamp, of a STATE message of Sparkplug 3.0.  Raises PayloadError."""
    try:
        if len(payload) > MAX_BYTES:
            raise PayloadError(f"a STATE message of {len(payload)} bytes")
        message = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"a STATE message that is not JSON: {error}") from error
    online = message.get("online") if isinstance(message, dict) else None
    timestamp = message.get("timestamp") if isinstance(message, dict) else None
    if not isinstance(online, bool) or isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise PayloadError("a STATE message without a boolean `online` and an integer `timestamp`")
    return online, timestamp


def parsed_legacy(payload: bytes) -> tuple[bool, None]:
    """ONLINE or OFFLINE as text, as before Sparkplug 3.0.  Raises PayloadError."""
    if payload not in (b"ONLINE", b"OFFLINE"):
        raise PayloadError("a STATE message that is neither ONLINE nor OFFLINE")
    return payload == b"ONLINE", None
