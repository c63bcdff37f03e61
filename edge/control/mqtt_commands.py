"""Commands over MQTT: the door through which strangers speak to the daemon (`docs/commands.md`).

What comes in is bounded before it is looked at: commands per second, bytes, depth, types. Each is answered, also when
it is refused; a flood gets one refusal a second. The thread `commands` carries them out one after the other, so a
client can keep neither the publisher nor the line waiting.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edge import config
from edge.config import Name, Share, Verb, redact
from edge.delivery.mqtt.client import Received
from edge.delivery.mqtt.topics import Topics
from edge.errors import CommandError, DefectdError
from edge.evidence.archive import Kind
from edge.host.clock import NS_PER_S, Clock, stamp

logger = logging.getLogger(__name__)

SCHEMA: Final = "defectd.reply/1"
MAX_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 8
MAX_ID: Final = 128
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
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)

Id = Annotated[str, Field(max_length=MAX_ID)] | Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Request(BaseModel):
    """What all commands may hold.  id: given back in the reply, for clients without correlation data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)

    id: Id | None = None


class Ping(Request):
    """Whether anyone is there."""


class State(Request):
    """How the node, its cameras and its delivery stand."""


class Snapshot(Request):
    """The next picture of a camera."""

    camera: Name
    quality: int = Field(80, ge=10, le=95)
    longest_px: int = Field(1600, ge=64, le=4096)


class Pause(Request):
    """Do not inspect a camera, for a time or until `resume`."""

    camera: Name
    for_s: float | None = Field(None, gt=0.0, le=86_400.0)


class Resume(Request):
    """Inspect a camera again."""

    camera: Name


class Set(Request):
    """Thresholds of a camera; null goes back to the configuration."""

    camera: Name
    confidence: Share | None = None
    unsure: Share | None = None
    classes: Annotated[dict[str, Share], Field(max_length=64)] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Set:
        if not self.wanted:
            raise ValueError("give confidence, unsure or classes")
        return self

    @property
    def wanted(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("confidence", "unsure", "classes") if key in self.model_fields_set}


class Evidence(Request):
    """A picture by the path that an event carries; without one, which there are, the newest first."""

    path: str | None = Field(None, max_length=200)
    camera: Name | None = None
    kind: Kind | None = None
    limit: int = Field(20, ge=1, le=50)


class Reload(Request):
    """Read the configuration again."""


class DeadLetters(Request):
    """Look at, send again or delete what the broker refused."""

    action: Literal["list", "retry", "discard"] = "list"
    seqs: tuple[int, ...] | None = Field(None, min_length=1, max_length=1000)
    all: bool = False
    limit: int = Field(20, ge=1, le=50)

    @field_validator("seqs", mode="before")
    @classmethod
    def _a_list_of_numbers(cls, value: Any) -> Any:
        if isinstance(value, list) and all(type(n) is int and 0 < n < 1 << 63 for n in value):
            return tuple(value)
        if value is not None:
            raise ValueError("should be a list of seq numbers")
        return value

    @model_validator(mode="after")
    def _says_which(self) -> DeadLetters:
        if self.action != "list" and (self.seqs is None) != self.all:
            raise ValueError("give seqs, or all: true")
        return self


class Model(Request):
    """Which models are installed, which one decides; another one, or the one before."""

    action: Literal["list", "install", "use", "rollback"] = "list"
    url: str | None = Field(None, max_length=1000, pattern=r"^https://[^\s]+$")
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{6,64}$")

    @model_validator(mode="after")
    def _says_which(self) -> Model:
        if (self.action == "install") != (self.url is not None) or (self.action == "use") != (self.digest is not None):
            raise ValueError("install takes a url, use takes a digest, list and rollback take nothing")
        return self


class Coil(Request):
    """Which coil runs; a new one begins at 0 m; none runs any more."""

    action: Literal["show", "start", "stop"] = "show"
    coil: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$",
    )

    @model_validator(mode="after")
    def _says_which(self) -> Coil:
        if (self.action == "start") != (self.coil is not None):
            raise ValueError("start takes a coil, its name; show and stop take nothing")
        return self


REQUESTS: Final[Mapping[str, type[Request]]] = {
    "ping": Ping,
    "state": State,
    "snapshot": Snapshot,
    "pause": Pause,
    "resume": Resume,
    "set": Set,
    "reload": Reload,
    "dead-letters": DeadLetters,
    "evidence": Evidence,
    "model": Model,
    "coil": Coil,
}


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
                logger.exception("a command ended in an error of ours")

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
                logger.exception("command %s", verb)
                raise CommandError("failed", f"an error in defectd ({type(error).__name__}): see its log") from error
        except CommandError as error:
            self._refuse(received, error, given_id)
            return
        self._done += 1
        logger.info("command %s %s: done", verb, _words(received.payload))
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
        logger.warning("command %s %s: refused: %s", _shown(self._verb(received)), _words(received.payload), reason)
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


def json_value(payload: bytes) -> Any:
    """What the text says, without anything that could harm a reader.  Raises CommandError."""
    if _depth(payload) > MAX_DEPTH:
        raise CommandError("too_deep", f"at most {MAX_DEPTH} levels can be read")
    try:
        value = json.loads(
            payload.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short_int,
            object_pairs_hook=_once,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair could not be said back
    except UnicodeError:
        raise CommandError("bad_json", "the payload is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, _Unwanted) else "it cannot be parsed"
        raise CommandError("bad_json", f"the payload is not JSON: {why}") from None
    return value


class _Unwanted(ValueError):
    """JSON in Python's eyes, but not in ours."""


def _no_constant(name: str) -> Any:
    raise _Unwanted(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unwanted("a number is too large")
    return value


def _short_int(text: str) -> int:
    if len(text) > 20:
        raise _Unwanted("a number is too large")
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Unwanted("a key stands twice")
    return value


_MARKS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+\\?+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
"""Strings and brackets. A string without an end runs to the end of the text, so that no byte is looked at twice."""


def _depth(payload: bytes) -> int:
    """Most brackets open at a time, without those in strings: cheaper than to parse, and cannot overflow."""
    depth = deepest = 0
    for mark in _MARKS.findall(payload):
        if mark in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif mark in (b"]", b"}"):
            depth -= 1
    return deepest


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
