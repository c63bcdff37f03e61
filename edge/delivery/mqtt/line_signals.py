"""What the line says of its strip: speed and coil, from topics of the plant's broker.

`take` is called in the link's own thread, so that a message is stamped when it comes, and a flood of them pushes out
neither commands nor confirmations. What cannot be a speed is refused, counted and told; it is never repaired.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from edge import config
from edge.coverage.strip_position import CoilNamed, Speed, StripUpdate
from edge.delivery.mqtt.client import Received
from edge.delivery.mqtt.json_payload import json_value, steps
from edge.errors import CommandError
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 * 1024
MAX_WAITING: Final = 1024
"""Messages that wait for the line; the oldest go and are counted."""
MAX_NAME: Final = 128
REMIND_S: Final = 60.0
"""Seconds between two log lines with the same reason."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_LINE: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class _Unfit(Exception):
    """What came is of no use.  code: for the count."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class LineSignals:
    """Speed and coil on their way to the line.  `take` is for the link's thread, `news` for the line's."""

    def __init__(self, settings: config.Travel, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._path = tuple(steps(settings.path or ""))
        self._coil_path = tuple(steps(settings.coil_path or ""))
        self._delay_ns = int(settings.delay_s * NS_PER_S)
        self._waiting: deque[StripUpdate] = deque()
        self.refused: dict[str, int] = {}
        """Messages of no use since the start, by reason."""
        self.dropped = 0
        """Messages pushed out by newer ones before the line came to them."""
        self.last_refusal = ""
        self._told: dict[str, int] = {}

    @property
    def subscriptions(self) -> tuple[str, ...]:
        named = (self._settings.topic, self._settings.coil_topic)
        return tuple(dict.fromkeys(topic for topic in named if topic is not None))

    def take(self, received: Received) -> bool:
        """Whether the message is about the strip; if so it was heard.  Does not block."""
        is_ours = False
        now_ns = self._clock.monotonic_ns()
        if received.topic == self._settings.topic:
            is_ours = True
            self._hear(received, now_ns, is_speed=True)
        if received.topic == self._settings.coil_topic:
            is_ours = True
            self._hear(received, now_ns, is_speed=False)
        return is_ours

    def news(self) -> Iterator[StripUpdate]:
        """What came since the last call, in the order of arrival."""
        while self._waiting:
            yield self._waiting.popleft()

    def _hear(self, received: Received, now_ns: int, *, is_speed: bool) -> None:
        try:
            if len(received.payload) > MAX_BYTES:
                raise _Unfit("too_large", f"it has more than {MAX_BYTES} bytes")
            if is_speed:
                news: StripUpdate = Speed(now_ns - self._delay_ns, self._speed(received))
            else:
                name = _name(_found(_value(received.payload, or_text=not self._coil_path), self._coil_path))
                news = CoilNamed(now_ns, name, received.retained)
        except _Unfit as error:
            self._refuse(received.topic, error, now_ns)
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            try:
                self._waiting.popleft()
            except IndexError:
                pass  # the line has just taken them all
        self._waiting.append(news)

    def _speed(self, received: Received) -> float:
        """In m/s.  Raises _Unfit."""
        if received.retained:
            raise _Unfit("retained", "it was kept by the broker, and nobody knows how old it is; publish it unretained")
        value = _found(_value(received.payload), self._path)
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)  # many gateways know texts only
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _Unfit("not_a_number", f"{_shown(value)} is no number; point travel.path at one")
        speed = value * self._settings.factor
        if speed < 0:
            raise _Unfit("negative", f"{value:g} is below 0; a strip that runs back has no position")
        if speed > self._settings.max_m_per_s:
            limit = self._settings.max_m_per_s
            raise _Unfit("too_fast", f"{value:g} is above {limit:g} m/s; set travel.factor to its unit, or max_m_per_s")
        return speed

    def _refuse(self, topic: str, error: _Unfit, now_ns: int) -> None:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        self.last_refusal = str(error)[:200]
        told_ns = self._told.get(error.code)
        if told_ns is None or now_ns - told_ns >= REMIND_S * NS_PER_S:
            self._told[error.code] = now_ns
            words = redact(self.last_refusal)
            log.warning("%s: a message is not used: %s (%d so far)", topic, words, self.refused[error.code])


def _value(payload: bytes, *, or_text: bool = False) -> Any:
    """or_text: what is not JSON is a text."""
    try:
        return json_value(payload)
    except CommandError as error:
        if or_text:
            try:
                return payload.decode("utf-8").strip()
            except UnicodeDecodeError:
                pass  # told below
        code = "not_json" if error.code == "bad_json" else error.code
        raise _Unfit(code, str(error)) from None


def _found(value: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at the path.  Raises _Unfit."""
    for step in path:
        try:
            if isinstance(value, dict) is isinstance(step, int):
                raise KeyError(step)
            value = value[step]
        except (KeyError, IndexError, TypeError):
            raise _Unfit("no_path", f"there is no {step!r} in it; set travel.path to where the value stands") from None
    return value


def _name(value: Any) -> str | None:
    """Of a coil; None for an empty one.  Raises _Unfit."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value.strip()) > MAX_NAME or not _LINE.fullmatch(value.strip()):
        raise _Unfit("no_name", f"{_shown(value)} is no name of a coil: a text of at most {MAX_NAME} characters is")
    return value.strip()


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
