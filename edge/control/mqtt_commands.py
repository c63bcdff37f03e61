"""Commands over MQTT: untrusted clients ask the daemon for something (`docs/commands.md`).

Every message is bounded before it is parsed: commands per second, bytes, depth, types. Every command is answered, also
when it is refused; a flood gets one refusal a second. The thread `commands` carries them out one after the other, so a
client can keep neither the publisher nor the inspection loop waiting.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from edge import config
from edge.config import Verb
from edge.control.requests import MAX_ID, REQUESTS, VERBS, Request
from edge.delivery.mqtt.json_payload import json_value
from edge.delivery.mqtt.notices import Received
from edge.delivery.mqtt.topics import CAMERA_TOPICS, Topics
from edge.errors import CommandError, DefectdError
from edge.host.clock import Clock, stamp
from edge.host.log_throttle import LogThrottle
from edge.host.redact import redact
from edge.host.text import lines
from edge.host.token_bucket import TokenBucket
from edge.host.worker import Worker

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.reply/1"
MAX_BYTES: Final = 16 * 1024
MAX_TOPIC_BYTES: Final = 512
MAX_CORRELATION_BYTES: Final = 1024
MAX_WAITING: Final = 16
"""Commands that wait for the thread; each has at most MAX_BYTES."""
BURST: Final = 10
"""Commands above the rate that are accepted after a pause."""
FLOOD_REPLY_S: Final = 1.0
"""Between two refusals in a flood."""
LOGGED_CHARACTERS: Final = 200
OWN_LEVELS: Final = ("node", "status")
_NO_TOPIC: Final = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Counts:
    """Commands since the start."""

    done: int
    refused: int
    flooded: int
    """Part of `refused`: above the rate; one a second is answered."""


class Commands:
    """The thread `commands`: checks commands, has them carried out, and replies."""

    def __init__(self, topics: Topics, settings: config.Commands, cameras: Sequence[str], clock: Clock) -> None:
        """cameras: those whose topics a reply may not go to."""
        self._topics = topics
        self._settings = settings
        self._own_levels = {*cameras, *OWN_LEVELS}
        self._clock = clock
        self._bucket = TokenBucket(settings.rate_per_s, BURST, clock.monotonic_ns())
        self._flood = LogThrottle(log, FLOOD_REPLY_S)
        self._waiting: queue.Queue[Received | None] = queue.Queue(MAX_WAITING)
        self._counting = threading.Lock()
        self._done = self._refused = self._flooded = 0
        self._reply: Callable[[str, dict[str, Any], bytes | None], None] = lambda *_: None
        self._perform: Callable[[Request], dict[str, Any]] = _not_started
        self._worker = Worker("commands", self._run, clock)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return (self._topics.command("+"),) if self._settings.allow else ()

    def follow(self, settings: config.Commands, cameras: Sequence[str]) -> None:
        """Use other settings and cameras from the next command on.  Whether `allow` is empty may not change."""
        self._bucket.per_s = settings.rate_per_s
        self._settings, self._own_levels = settings, {*cameras, *OWN_LEVELS}

    def attach(
        self,
        reply: Callable[[str, dict[str, Any], bytes | None], None],
        perform: Callable[[Request], dict[str, Any]],
    ) -> None:
        """reply: takes topic, message and correlation data.  perform: carries out; raises DefectdError to refuse."""
        self._reply, self._perform = reply, perform

    def start(self) -> None:
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Leave commands that wait; False if the running one does not end in time."""
        self._worker.ask_stop()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            pass  # the thread finds something to take without it
        return self._worker.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def counts(self) -> Counts:
        return Counts(self._done, self._refused, self._flooded)

    def take(self, received: Received) -> None:
        """Accept a message, or refuse it.  Returns at once; only the publisher's thread may call it."""
        now_ns = self._clock.monotonic_ns()
        if not self._bucket.take(now_ns):
            self._refuse_flood(received, now_ns)
        elif len(received.payload) > MAX_BYTES:
            self._refuse(received, CommandError("too_large", f"a command has at most {MAX_BYTES} bytes"))
        else:
            try:
                self._waiting.put_nowait(received)
            except queue.Full:
                self._refuse(received, CommandError("busy", f"{MAX_WAITING} commands wait already"))

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._worker.is_stopping:
            self._worker.beat()
            received = self._waiting.get()
            if received is None:
                continue
            try:
                self._handle(received)
            except Exception:  # one command must not end the others
                log.exception("a command ended in an error of defectd")

    def _handle(self, received: Received) -> None:
        request_id: str | int | None = None
        try:
            if received.retained:
                raise CommandError(
                    "retained", "a command may not be retained: the broker would repeat it at each connection"
                )
            self._reply_topic(received)
            fields = parsed(received.payload)
            request_id = _plain_id(fields.get("id"))
            verb, request = self._request(received, fields)
            try:
                result = self._perform(request)
            except CommandError:
                raise
            except DefectdError as error:
                raise CommandError("failed", str(error)) from error
            except Exception as error:
                log.exception("command %s", verb)
                raise CommandError("failed", f"an error in defectd ({type(error).__name__}): see its log") from error
        except CommandError as error:
            self._refuse(received, error, request_id)
            return
        self._done += 1
        log.info("command %s %s: done", verb, _logged(received.payload))
        self._send_reply(received, request_id, {"ok": True, "result": result})

    def _request(self, received: Received, fields: dict[str, Any]) -> tuple[Verb, Request]:
        name = self._verb(received)
        model = REQUESTS.get(name)
        verb = next((verb for verb in VERBS if verb == name), None)
        if model is None or verb is None:
            raise CommandError("unknown_verb", f"no such command; there are: {', '.join(VERBS)}")
        if verb not in self._settings.allow:
            raise CommandError("disabled", f"{verb} is not allowed on this node: commands.allow in its configuration")
        try:
            return verb, model.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"] if part not in ("str", "int"))[:80]
            known = f"; known: {', '.join(model.model_fields)}" if first["type"] == "extra_forbidden" else ""
            message = str(first["msg"]).removeprefix("Value error, ")
            raise CommandError("bad_value", redact(f"{where + ': ' if where else ''}{message}{known}")) from None

    # ---- replies -- -------------------------------------------------------------------------------

    def _verb(self, received: Received) -> str:
        return received.topic.removeprefix(self._topics.command(""))

    def _own_reply_topic(self, received: Received) -> str:
        verb = self._verb(received)
        return self._topics.command(verb if verb in VERBS else "unknown") + "/reply"

    def _reply_topic(self, received: Received) -> str:
        """The topic of the reply.  Raises CommandError for a response topic that this node may not write to."""
        topic = received.response_topic
        if topic is None:
            return self._own_reply_topic(received)
        if len(topic.encode("utf-8", "replace")) > MAX_TOPIC_BYTES or _NO_TOPIC.search(topic):
            raise CommandError("reply_topic", "the response topic is no topic to publish to")
        if any(topic.startswith(f"{prefix}/") for prefix in self._settings.reply_prefixes):
            return topic
        own = f"{self._topics.prefix}/{self._topics.node}/"
        levels = topic.removeprefix(own).split("/")
        if not topic.startswith(own) or not all(levels):
            raise CommandError("reply_topic", f"a response topic must lie below {own} (or commands.reply_prefixes)")
        if levels[0] in self._own_levels or (levels[0] == "cmd" and len(levels) < 3):
            raise CommandError("reply_topic", "the response topic is one that this node itself uses")
        if len(levels) == 2 and levels[1] in CAMERA_TOPICS:  # a consumer would take the reply for an event
            raise CommandError("reply_topic", f"a response topic may not end like a camera's: /{levels[1]}")
        return topic

    def _refuse(self, received: Received, error: CommandError, request_id: str | int | None = None) -> None:
        with self._counting:  # the publisher's thread and `commands` both come here
            self._refused += 1
        reason = lines(redact(str(error)))[:500]
        log.warning("command %s %s: refused: %s", _shown(self._verb(received)), _logged(received.payload), reason)
        self._send_reply(received, request_id, {"ok": False, "error": {"code": error.code, "reason": reason}})

    def _refuse_flood(self, received: Received, now_ns: int) -> None:
        """Above the rate: every command is counted, one a second is answered."""
        self._flooded += 1
        left_out = self._flood.ready("flood", now_ns)
        if left_out is None:
            with self._counting:
                self._refused += 1
            return
        rate = self._settings.rate_per_s
        reason = f"more than {rate:g} commands a second; refused since the last reply: {left_out + 1}"
        self._refuse(received, CommandError("rate", reason))

    def _send_reply(self, received: Received, request_id: str | int | None, outcome: dict[str, Any]) -> None:
        try:
            topic = self._reply_topic(received)
        except CommandError:
            topic = self._own_reply_topic(received)
        verb = self._verb(received)
        head = {
            "schema": SCHEMA,
            "node": self._topics.node,
            "verb": verb if verb in VERBS else "unknown",
            "id": request_id,
            "time": stamp(self._clock.wall_ns()),
        }
        correlation = received.correlation
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            correlation = None
        self._reply(topic, {**head, **outcome}, correlation)


def parsed(payload: bytes) -> dict[str, Any]:
    """The JSON object of a command; an empty payload is an empty object.  Raises CommandError."""
    if not payload.strip():
        return {}
    if len(payload) > MAX_BYTES:
        raise CommandError("too_large", f"a command has at most {MAX_BYTES} bytes")
    value = json_value(payload)
    if not isinstance(value, dict):
        raise CommandError("bad_json", "the payload must be a JSON object")
    return value


def _plain_id(value: Any) -> str | int | None:
    """The id, if it is valid; a wrong one is refused later, with the other fields."""
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else None


def _shown(text: str) -> str:
    return ascii(redact(text[:80]))


def _logged(payload: bytes) -> str:
    """The payload for the log: short, printable, without credentials."""
    text = payload[:LOGGED_CHARACTERS].decode("utf-8", "replace")
    return ascii(redact(text)) + ("..." if len(payload) > LOGGED_CHARACTERS else "")


def _not_started(_request: Request) -> dict[str, Any]:
    raise CommandError("busy", "the node is just starting")
