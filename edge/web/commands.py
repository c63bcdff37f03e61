"""Commands to the daemon, over its unix socket: each carries who gave it, so that its event can name them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge.host.clock import Clock
from edge.host.token_bucket import TokenBucket
from edge.host.unix_address import short_name
from edge.web.refusal import Refusal
from edge.web.user import User

REPLY_S: Final = 25.0
MAX_REPLY_BYTES: Final = 8 << 20
MAX_WAITING: Final = 8
PER_S: Final = 5.0
BURST: Final = 20
STATUS: Final[Mapping[str, HTTPStatus]] = MappingProxyType(
    {
        "bad_json": HTTPStatus.BAD_REQUEST,
        "bad_value": HTTPStatus.BAD_REQUEST,
        "bad_config": HTTPStatus.CONFLICT,
        "too_deep": HTTPStatus.BAD_REQUEST,
        "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "unknown_verb": HTTPStatus.NOT_FOUND,
        "unknown_camera": HTTPStatus.NOT_FOUND,
        "gone": HTTPStatus.NOT_FOUND,
        "busy": HTTPStatus.CONFLICT,
        "rate": HTTPStatus.TOO_MANY_REQUESTS,
        "timeout": HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""By the daemon's code; any other is 409: nothing was changed."""


class Commands:
    """Owned by the page process; the daemon takes one command at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """path: of the daemon's command socket."""
        self._path = path
        self._clock = clock
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._bucket = TokenBucket(PER_S, BURST, clock.monotonic_ns())

    async def acted(self, action: str, user: User, via: str, **facts: Any) -> None:
        """Record that a person has changed something without a command: an event `operator.acted`.  Raises Refusal.

        action: such as `calibration.roi`.  facts: camera, before_sha256, after_sha256, reason; None leaves one out.
        """
        fields = {name: fact for name, fact in facts.items() if fact is not None}
        await self.ask("acted", user, {"action": action, **fields}, via)

    async def ask(
        self, verb: str, user: User, fields: Mapping[str, Any] | None = None, via: str | None = None
    ) -> Mapping[str, Any]:
        """The daemon's result.  via: address of the user.  Raises Refusal when it refuses or does not reply."""
        if not self._bucket.take(self._clock.monotonic_ns()):
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate", f"more than {PER_S:g} commands a second")
        if self._waiting >= MAX_WAITING:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many commands wait", "Try again in a moment")
        actor = {"name": user.name or "visitor", "role": user.role, "via": via or None}
        line = json.dumps({**(fields or {}), "verb": verb, "actor": actor}).encode() + b"\n"
        self._waiting += 1
        try:
            async with self._turn, asyncio.timeout(REPLY_S):
                reply = await self._exchange(line)
        except TimeoutError:
            raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, "timeout", "the daemon does not reply") from None
        except (OSError, ValueError) as error:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no_daemon",
                "the daemon does not reply: it does not run, or it starts",
                "See its log",
            ) from error
        finally:
            self._waiting -= 1
        if not reply.get("ok"):
            told = reply.get("error") or {}
            code = str(told.get("code") or "failed")
            raise Refusal(STATUS.get(code, HTTPStatus.CONFLICT), code, str(told.get("reason") or "it was refused"))
        result = reply.get("result")
        return result if isinstance(result, dict) else {}

    async def _exchange(self, line: bytes) -> Mapping[str, Any]:
        """Raises OSError, ValueError."""
        with short_name(self._path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_REPLY_BYTES)
        try:
            writer.write(line)
            await writer.drain()
            reply = json.loads(await reader.readline())
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        if not isinstance(reply, dict):
            raise ValueError("no reply")  # noqa: TRY004 (handled as any other reply that cannot be read)
        return reply
