"""Speed and coil of the production line's strip, from topics of the plant's broker.

The link's own thread calls `take`, so that a message is stamped when it arrives, and a flood of messages displaces
neither commands nor confirmations. A value that cannot be a speed is refused, counted and logged, never repaired.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from edge import config
from edge.coverage.strip_position import CoilNamed, Speed, StripUpdate
from edge.delivery.mqtt.json_payload import json_value, steps
from edge.delivery.mqtt.notices import Received
from edge.errors import CommandError
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.redact import redact
from edge.host.text import one_line

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 * 1024
MAX_WAITING: Final = 1024
"""Messages that wait for the inspection loop; beyond it the oldest are dropped and counted."""
MAX_NAME: Final = 128
LaneNames = Callable[[], frozenset[str]]
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")


class _Unusable(Exception):
    """The message cannot be used.  code: for the count."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class LineSignals:
    """Speed and coil, until the inspection loop takes them.  The link's thread calls `take`, the loop's `updates`."""

    def __init__(self, settings: config.Travel, clock: Clock, lane_names: LaneNames = frozenset) -> None:
        """lane_names: gives the lanes that a coil may be named for."""
        self._settings = settings
        self._clock = clock
        self._path = tuple(steps(settings.path or ""))
        self._coil_path = tuple(steps(settings.coil_path or ""))
        self._delay_ns = int(settings.delay_s * NS_PER_S)
        self._waiting: deque[StripUpdate] = deque()
        self.refused: dict[str, int] = {}
        """Messages that could not be used, by reason; since the start of the daemon."""
        self.dropped = 0
        """Messages that newer ones displaced before the inspection loop took them."""
        self.last_refusal = ""
        self._throttle = LogThrottle(log)
        self._lane_names = lane_names

    @property
    def subscriptions(self) -> tuple[str, ...]:
        named = (self._settings.topic, self._settings.coil_topic)
        return tuple(dict.fromkeys(topic for topic in named if topic is not None))

    def take(self, received: Received) -> bool:
        """Whether the message is about the strip; if so, it is taken.  Does not block."""
        is_ours = False
        now_ns = self._clock.monotonic_ns()
        if received.topic == self._settings.topic:
            is_ours = True
            self._take(received, now_ns, is_speed=True)
        if received.topic == self._settings.coil_topic:
            is_ours = True
            self._take(received, now_ns, is_speed=False)
        return is_ours

    def updates(self) -> Iterator[StripUpdate]:
        """The updates since the last call, in the order of arrival."""
        while self._waiting:
            yield self._waiting.popleft()

    def _take(self, received: Received, now_ns: int, *, is_speed: bool) -> None:
        try:
            if len(received.payload) > MAX_BYTES:
                raise _Unusable("too_large", f"it has more than {MAX_BYTES} bytes")
            if is_speed:
                updates: list[StripUpdate] = [Speed(now_ns - self._delay_ns, self._speed(received))]
            else:
                updates = [
                    CoilNamed(now_ns, name, received.retained, lane)
                    for lane, name in self._coils(received.payload).items()
                ]
        except _Unusable as error:
            self._refuse(received.topic, error, now_ns)
            return
        for update in updates:
            if len(self._waiting) >= MAX_WAITING:
                self.dropped += 1
                try:
                    self._waiting.popleft()
                except IndexError:
                    pass  # the inspection loop has just taken them all
            self._waiting.append(update)

    def _coils(self, payload: bytes) -> dict[str | None, str | None]:
        """The coil of the strip (None), or those of its lanes, where the value is an object.  Raises _Unusable."""
        lane_names = self._lane_names()
        if not self._coil_path and not lane_names:
            return {None: _coil(payload)}
        value = _found(_value(payload), self._coil_path) if self._coil_path else _value_or_text(payload)
        if not isinstance(value, dict) or not lane_names:
            return {None: _name(value) if self._coil_path else _coil(payload)}
        unknown = sorted(value.keys() - lane_names)
        if unknown:
            raise _Unusable("no_lane", f"{_shown(unknown[0])} is not the name of a lane; set cameras.lanes")
        return {lane: _name(coil) for lane, coil in value.items()}

    def _speed(self, received: Received) -> float:
        """In m/s.  Raises _Unusable."""
        if received.retained:
            raise _Unusable("retained", "it was retained by the broker, and its age is unknown; publish it unretained")
        value = _found(_value(received.payload), self._path)
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)  # many gateways send text only
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _Unusable("not_a_number", f"{_shown(value)} is not a number; set travel.path to one")
        speed = value * self._settings.factor
        if speed < 0:
            raise _Unusable("negative", f"{value:g} is below 0; a strip that runs backwards has no position")
        if speed > self._settings.max_m_per_s:
            limit = self._settings.max_m_per_s
            raise _Unusable(
                "too_fast", f"{value:g} is above {limit:g} m/s; set travel.factor to its unit, or max_m_per_s"
            )
        return speed

    def _refuse(self, topic: str, error: _Unusable, now_ns: int) -> None:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        self.last_refusal = str(error)[:200]
        if self._throttle.ready(error.code, now_ns) is not None:
            words = redact(self.last_refusal)
            log.warning("%s: a message is not used: %s (%d so far)", topic, words, self.refused[error.code])


def _coil(payload: bytes) -> str | None:
    """The name that a payload is, without a path into it.  Raises _Unusable.

    A number or a truth value is the name as it stands: the coils 2048E1, 7.10 and true exist.
    """
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise _Unusable("not_json", "the payload is not UTF-8 text") from None
    try:
        value = json_value(payload)
    except CommandError:
        return _name(text)
    return _name(value if value is None or isinstance(value, str | dict | list) else text)


def _value(payload: bytes) -> Any:
    """Raises _Unusable."""
    try:
        return json_value(payload)
    except CommandError as error:
        code = "not_json" if error.code == "bad_json" else error.code
        raise _Unusable(code, str(error)) from None


def _value_or_text(payload: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json_value(payload)
    except CommandError:
        return None


def _found(value: Any, path: tuple[str | int, ...]) -> Any:
    """The value at the path.  Raises _Unusable."""
    for step in path:
        try:
            if isinstance(value, dict) is isinstance(step, int):
                raise KeyError(step)
            value = value[step]
        except (KeyError, IndexError, TypeError):
            raise _Unusable(
                "no_path", f"there is no {step!r} in it; set travel.path to the place of the value"
            ) from None
    return value


def _name(value: Any) -> str | None:
    """The name of a coil; None for an empty one.  Raises _Unusable."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or one_line(value.strip(), MAX_NAME) != value.strip():
        raise _Unusable(
            "no_name", f"{_shown(value)} is not the name of a coil, which is a text of at most {MAX_NAME} characters"
        )
    return value.strip()


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
