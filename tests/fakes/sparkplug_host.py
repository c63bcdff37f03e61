"""A Sparkplug host that checks the order of messages, resolves aliases and keeps values; stricter than real hosts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edge.delivery.sparkplug.payload import Metric, Payload, decode


@dataclass(frozen=True, slots=True)
class HostMessage:
    """One message.  The metrics have names and types, resolved by the birth."""

    verb: str
    device: str | None
    payload: Payload

    def __getitem__(self, name: str) -> Metric:
        return next(metric for metric in self.payload.metrics if metric.name == name)

    def names(self) -> list[str | None]:
        return [metric.name for metric in self.payload.metrics]


@dataclass(slots=True)
class StrictHost:
    """What a host holds of one node.  faults: everything that broke a rule."""

    group: str
    node: str
    messages: list[HostMessage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    alive: set[str | None] = field(default_factory=set)
    bd_seq: int | None = None
    seq: int | None = None
    values: dict[tuple[str | None, str], Metric] = field(default_factory=dict)
    aliases: dict[int, tuple[str | None, Metric]] = field(default_factory=dict)

    def receive(self, topic: str, payload: bytes) -> HostMessage:
        parts = topic.split("/")
        if parts[0] != "spBv1.0" or parts[1] != self.group or parts[3] != self.node or len(parts) not in (4, 5):
            self.faults.append(f"topic {topic}")
        verb, device = parts[2], parts[4] if len(parts) == 5 else None
        if (device is not None) != (verb[0] == "D"):
            self.faults.append(f"{verb} with device {device}")
        message = decode(payload)
        if message.timestamp_ms is None:
            self.faults.append(f"{verb} without a timestamp")
        if verb == "NDEATH":
            self._death(message)
        else:
            self._check_seq(verb, message)
        metrics = tuple(self._read(verb, device, metric) for metric in message.metrics)
        resolved = HostMessage(verb, device, replace(message, metrics=metrics))
        self._check_order(verb, message)
        if verb == "NBIRTH":
            self.alive = {None}
            self.bd_seq = resolved["bdSeq"].value  # type: ignore[assignment]
        elif verb == "DBIRTH":
            self.alive.add(device)
        elif verb == "DDEATH":
            self.alive.discard(device)
        self.messages.append(resolved)
        return resolved

    def _death(self, message: Payload) -> None:
        if message.seq is not None or [m.name for m in message.metrics] != ["bdSeq"]:
            self.faults.append(f"NDEATH {message}")
        elif message.metrics[0].value == self.bd_seq:
            self.alive.clear()

    def _check_seq(self, verb: str, message: Payload) -> None:
        expected = 0 if verb == "NBIRTH" else None if self.seq is None else (self.seq + 1) % 256
        if message.seq != expected:
            self.faults.append(f"{verb} with seq {message.seq} after {self.seq}")
        self.seq = message.seq

    def _check_order(self, verb: str, message: Payload) -> None:
        times = [m.timestamp_ms for m in message.metrics if not m.is_historical]
        if None in times or times != sorted(times, key=lambda time: time or 0):
            self.faults.append(f"{verb} with times {times}")

    def _read(self, verb: str, device: str | None, metric: Metric) -> Metric:
        if verb in ("NBIRTH", "DBIRTH"):
            self._check_birth(verb, device, metric)
        elif verb in ("NDATA", "DDATA"):
            self._check_data(verb, device, metric)
            if metric.alias not in self.aliases:
                return metric
            birth = self.aliases[metric.alias][1]
            metric = replace(metric, name=birth.name, datatype=birth.datatype, value=_signed(metric.value, birth))
        if not metric.is_historical and metric.name is not None:
            self.values[device, metric.name] = metric
        return metric

    def _check_birth(self, verb: str, device: str | None, metric: Metric) -> None:
        if metric.name is None or metric.datatype is None:
            self.faults.append(f"{verb} with {metric}")
        if (metric.alias is None) != (metric.name in ("bdSeq", "Node Control/Rebirth")):
            self.faults.append(f"alias of {metric.name}: {metric.alias}")
        if metric.alias is not None:
            known = self.aliases.setdefault(metric.alias, (device, metric))
            if (known[0], known[1].name) != (device, metric.name):
                self.faults.append(f"alias {metric.alias} is {known} and {device} {metric.name}")

    def _check_data(self, verb: str, device: str | None, metric: Metric) -> None:
        if not {device, None} <= self.alive:
            self.faults.append(f"{verb} of {device} before its birth")
        if metric.name is not None or metric.datatype is not None:
            self.faults.append(f"{verb} with name or type: {metric}")
        if self.aliases.get(metric.alias or 0, ("unknown",))[0] != device:
            self.faults.append(f"{verb} with the unknown alias {metric.alias}")

    def value(self, name: str, device: str | None = None) -> Any:
        return self.values[device, name].value

    def verbs(self) -> list[str]:
        return [h.verb if h.device is None else f"{h.verb} {h.device}" for h in self.messages]

    def events(self) -> list[tuple[int, bool]]:
        """`seq` of the node's events in the order of arrival, and whether each is history."""
        found = []
        for message in self.messages:
            if message.verb == "NDATA" and "Event/Seq" in message.names():
                metric = message["Event/Seq"]
                found.append((int(metric.value), metric.is_historical))  # type: ignore[arg-type]
        return found


def _signed(value: Any, birth: Metric) -> Any:
    """Data messages carry no type: the type in the birth decides how to read an unsigned number."""
    if isinstance(value, bool) or not isinstance(value, int) or birth.datatype is None:
        return value
    bits = {"INT32": 32, "INT64": 64}[birth.datatype.name]
    return value - (1 << bits) if value >> (bits - 1) else value
