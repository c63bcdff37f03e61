"""The newest values of one metric table, and which of them the Sparkplug host does not have yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge.delivery.sparkplug.payload import BAD, GOOD, STALE, DataType, Metric, Value


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest value of a metric, and the time since when it holds."""

    value: Value
    timestamp_ms: int
    quality: int


class MetricTable:
    """The metrics of the node or of one device.  A value that was never set is null and stale."""

    def __init__(self, kinds: Mapping[str, DataType], first_alias: int, now_ms: int) -> None:
        self._kinds = kinds
        self._aliases = {name: first_alias + number for number, name in enumerate(kinds)}
        self._newest = {name: _Newest(None, now_ms, STALE) for name in kinds}
        self._sent: dict[str, tuple[Value, int]] = {}
        """Value and quality as the host has them."""
        self._changed: dict[str, None] = {}
        self._unreliable: frozenset[str] = frozenset()

    def set(self, name: str, value: Value, timestamp_ms: int) -> None:
        """Take a live value; `changes` returns it if the host has another one."""
        self._take(name, value, timestamp_ms)
        newest = self._newest[name]
        if self._sent.get(name) != (newest.value, newest.quality):
            self._changed[name] = None
        else:
            self._changed.pop(name, None)

    def set_for_birth(self, metric: Metric) -> None:
        """Take a value that is sent on its own, as an event; the next birth carries it."""
        assert metric.name is not None
        assert metric.timestamp_ms is not None
        self._take(metric.name, metric.value, metric.timestamp_ms)

    def set_unreliable(self, names: Mapping[str, object]) -> None:
        """Values of these names, and of no others, have bad quality from now on."""
        unreliable = frozenset(names)
        changed, self._unreliable = self._unreliable ^ unreliable, unreliable
        for name in changed:
            newest = self._newest[name]
            quality = self._quality(name, newest.value)
            if quality != newest.quality:
                self._newest[name] = replace(newest, quality=quality)
                self._changed[name] = None

    def birth(self) -> tuple[Metric, ...]:
        """All metrics, in the order of their times, with names, types and aliases."""
        metrics = [replace(self._metric(name), name=name) for name in self._kinds]
        self._changed.clear()
        return tuple(sorted(metrics, key=_time_of))

    def changes(self, held: frozenset[str] = frozenset()) -> tuple[Metric, ...]:
        """What the host does not have yet, in the order of time, by alias.  held: names that stay for a later call."""
        names = [name for name in self._changed if name not in held]
        for name in names:
            del self._changed[name]
        return tuple(sorted((self._metric(name) for name in names), key=_time_of))

    def of_event(self, metrics: Sequence[Metric], *, is_history: bool) -> tuple[Metric, ...]:
        """The metrics of an event as they are sent.  History does not change what the host holds for the present."""
        sent = []
        for metric in metrics:
            assert metric.name is not None
            quality = metric.quality
            if not is_history:
                actual = self._quality(metric.name, metric.value)
                before = self._sent.get(metric.name, (None, GOOD))[1]
                self._sent[metric.name] = metric.value, actual
                quality = actual if actual != GOOD or before != GOOD else None
                self._changed.pop(metric.name, None)
            sent.append(
                replace(metric, name=None, alias=self._aliases[metric.name], quality=quality, is_historical=is_history)
            )
        return tuple(sent)

    def _take(self, name: str, value: Value, timestamp_ms: int) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if isinstance(value, int) and not isinstance(value, bool) and self._kinds[name] == DataType.DOUBLE:
            value = float(value)
        before = self._newest[name]
        if before.value == value and before.quality == self._quality(name, value):
            return  # the time of a value is the time since when it holds
        self._newest[name] = _Newest(value, timestamp_ms, self._quality(name, value))

    def _quality(self, name: str, value: Value) -> int:
        if value is None:
            return STALE
        return BAD if name in self._unreliable else GOOD

    def _metric(self, name: str) -> Metric:
        newest = self._newest[name]
        before = self._sent.get(name, (None, GOOD))
        self._sent[name] = newest.value, newest.quality
        # Good quality is left out, but not after another quality.
        quality = newest.quality if newest.quality != GOOD or before[1] != GOOD else None
        return Metric(
            None, self._kinds[name], newest.value, newest.timestamp_ms, alias=self._aliases[name], quality=quality
        )


def _time_of(metric: Metric) -> int:
    return metric.timestamp_ms or 0
