"""Commands over MQTT: the door through which strangers speak to the daemon (`docs/commands.md`).

What comes in is bounded before it is looked at: commands per second, bytes, depth, types. Each is answered, also when
it is refused; a flood gets one refusal a second. The thread `commands` carries them out one after the other, so a
client can keep neither the publisher nor the line waiting.
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
from edge.delivery.mqtt.topics import Topics
from edge.errors import CommandError, DefectdError
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.redact import redact

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.reply/1"
MAX_BYTES: Final = 16 * 1024
MAX_TOPIC_BYTES: Final = 512
MAX_CORRELATION_BYTES: Final = 1024
MAX_WAITING: Final = 16
"""Commands that wait for the thread; each is at most MAX_BYTES."""
BURST: Final = 10
FLOOD_ANSWER_S: Final = 1.0
"""Between two refusals in a flood."""
LOG_WORDS: Final = 200
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
    """The thread `commands`: checks, carries out and answers.

    cameras: whose topics a reply may not go to.  `take` is for the publisher's thread and returns at once.
    """

    def __init__(self, topics: Topics, settings: config.Commands, cameras: Sequence[str], clock: Clock) -> None:
        self._topics = topics
        self._settings = settings
        self._own_levels = {*cameras, *OWN_LEVELS}
        self._clock = clock
        self._bucket = _Bucket(settings.rate_per_s, BURST, clock.monotonic_ns())
        self._flood_told_ns: int | None = None
        self._untold = 0
        self._waiting: queue.Queue[Received | None] = queue.Queue(MAX_WAITING)
        self._counting = threading.Lock()
        self._done = self._refused = self._flooded = 0
        self._reply: Callable[[str, dict[str, Any], bytes | None], None] = lambda *_: None
        self._perform: Callable[[Request], dict[str, Any]] = _nobody
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return (self._topics.command("+"),) if self._settings.allow else ()

    def follow(self, settings: config.Commands, cameras: Sequence[str]) -> None:
        """Other settings, other cameras, from the next command on.  Whether `allow` is empty may not change."""
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
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Leave what waits; False if a command does not end in time."""
        self._stopping = True
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            pass  # then it is not waiting for more
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def counts(self) -> Counts:
        return Counts(self._done, self._refused, self._flooded)

    def take(self, received: Received) -> None:
        """A message came: let it in, or turn it away."""
        now_ns = self._clock.monotonic_ns()
        if not self._bucket.take(now_ns):
            self._turn_away(received, now_ns)
        elif len(received.payload) > MAX_BYTES:
            self._refuse(received, CommandError("too_large", f"a command has at most {MAX_BYTES} bytes"))
        else:
            try:
                self._waiting.put_nowait(received)
            except queue.Full:
                self._refuse(received, CommandError("busy", f"{MAX_WAITING} commands wait already"))

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            received = self._waiting.get()
            if received is None:
                continue
            try:
                self._answer(received)
            except Exception:  # one command must not end the others
                log.exception("a command ended in an error of ours")

    def _answer(self, received: Received) -> None:
        given_id: str | int | None = None
        try:
            if received.retained:
                raise CommandError("retained", "a command may not be retained: it would come again at each connection")
            self._reply_topic(received)
            fields = parsed(received.payload)
            given_id = _plain_id(fields.get("id"))
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
            self._refuse(received, error, given_id)
            return
        self._done += 1
        log.info("command %s %s: done", verb, _words(received.payload))
        self._say(received, given_id, {"ok": True, "result": result})

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
            said = str(first["msg"]).removeprefix("Value error, ")
            raise CommandError("bad_value", redact(f"{where + ': ' if where else ''}{said}{known}")) from None

    # ---- answering -------------------------------------------------------------------------------

    def _verb(self, received: Received) -> str:
        return received.topic.removeprefix(self._topics.command(""))

    def _own_reply_topic(self, received: Received) -> str:
        verb = self._verb(received)
        return self._topics.command(verb if verb in VERBS else "unknown") + "/reply"

    def _reply_topic(self, received: Received) -> str:
        """Where the answer goes.  Raises CommandError for a response topic that is not for us to write to."""
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
            raise CommandError("reply_topic", "the response topic is one that this node itself speaks or listens on")
        return topic

    def _refuse(self, received: Received, error: CommandError, given_id: str | int | None = None) -> None:
        with self._counting:  # in the publisher's thread or in ours
            self._refused += 1
        reason = redact(str(error))[:500]
        log.warning("command %s %s: refused: %s", _shown(self._verb(received)), _words(received.payload), reason)
        self._say(received, given_id, {"ok": False, "error": {"code": error.code, "reason": reason}})

    def _turn_away(self, received: Received, now_ns: int) -> None:
        """A flood: counted, and answered once a second."""
        self._flooded += 1
        self._untold += 1
        if self._flood_told_ns is not None and now_ns - self._flood_told_ns < FLOOD_ANSWER_S * NS_PER_S:
            with self._counting:
                self._refused += 1
            return
        self._flood_told_ns = now_ns
        untold, self._untold = self._untold, 0
        rate = self._settings.rate_per_s
        self._refuse(received, CommandError("rate", f"more than {rate:g} commands a second; refused so: {untold}"))

    def _say(self, received: Received, given_id: str | int | None, said: dict[str, Any]) -> None:
        try:
            topic = self._reply_topic(received)
        except CommandError:
            topic = self._own_reply_topic(received)
        verb = self._verb(received)
        head = {
            "schema": SCHEMA,
            "node": self._topics.node,
            "verb": verb if verb in VERBS else "unknown",
            "id": given_id,
            "time": stamp(self._clock.wall_ns()),
        }
        correlation = received.correlation
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            correlation = None
        self._reply(topic, {**head, **said}, correlation)


class _Bucket:
    """Tokens that come back with time. Owned by one thread."""

    def __init__(self, per_s: float, most: int, now_ns: int) -> None:
        self.per_s = per_s
        self._most = most
        self._tokens = float(most)
        self._at_ns = now_ns

    def take(self, now_ns: int) -> bool:
        elapsed_s = (now_ns - self._at_ns) / NS_PER_S
        self._at_ns = now_ns
        self._tokens = min(float(self._most), self._tokens + elapsed_s * self.per_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def parsed(payload: bytes) -> dict[str, Any]:
    """The JSON object of a command; nothing at all is an empty one.  Raises CommandError."""
    if not payload.strip():
        return {}
    if len(payload) > MAX_BYTES:
        raise CommandError("too_large", f"a command has at most {MAX_BYTES} bytes")
    value = json_value(payload)
    if not isinstance(value, dict):
        raise CommandError("bad_json", "the payload must be a JSON object")
    return value


def _plain_id(value: Any) -> str | int | None:
    """The id, if it is one; a wrong one is refused later, with the other fields."""
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else None


def _shown(text: str) -> str:
    return ascii(redact(text[:80]))


def _words(payload: bytes) -> str:
    """What the client said, for the log: short, printable, without credentials."""
    text = payload[:LOG_WORDS].decode("utf-8", "replace")
    return ascii(redact(text)) + ("..." if len(payload) > LOG_WORDS else "")


def _nobody(_request: Request) -> dict[str, Any]:
    raise CommandError("busy", "the node is just starting")
