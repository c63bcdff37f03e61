"""Checks that a subscriber got every event: `seq` without a hole, each event once, first arrivals in order.

It works on the received messages alone, with bounded memory. `docs/subscriber.py` shows the same check for readers who
do not install defectd.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from edge.errors import PayloadError

MAX_NODES: Final = 64
MAX_HOLES: Final = 1000
"""Holes and reported losses remembered per node; above that the oldest are only counted."""
MAX_IDS: Final = 20_000
"""Events per node whose `event_id` is remembered, for comparison with a repetition."""

ArrivalKind = Literal["new", "duplicate", "late", "earlier", "conflict"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """The result for one message.  remark: what is unusual about it, or ""."""

    kind: ArrivalKind
    remark: str = ""

    @property
    def is_first(self) -> bool:
        """Whether the event had not arrived before."""
        return self.kind in ("new", "late", "earlier")


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers that did not arrive, bounds included.  cause: as an events.dropped event reported it, or None."""

    first_seq: int
    last_seq: int
    cause: str | None

    def __str__(self) -> str:
        span = f"{self.first_seq}" if self.first_seq == self.last_seq else f"{self.first_seq} to {self.last_seq}"
        return f"{span} ({'reported by the node: ' + self.cause if self.cause else 'not reported'})"


@dataclass(frozen=True, slots=True)
class Result:
    """The audit of one node, from `first_seq` (the first number received) to `last_seq`."""

    node: str
    first_seq: int
    last_seq: int
    events: int
    """First arrivals."""
    duplicates: int
    out_of_order: int
    returned: int
    """Numbers that the node had reported as lost and that arrived later: retried dead letters."""
    conflicts: int
    """One number with two event ids, or one id with two numbers: a second outbox under the same node name."""
    missing: int
    holes: tuple[Hole, ...]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.out_of_order or self.conflicts)

    def __str__(self) -> str:
        verdict = "complete" if self.complete else "NOT COMPLETE"
        text = (
            f"{self.node}: {verdict}: seq {self.first_seq} to {self.last_seq}, {self.events} events, "
            f"{self.missing} missing, {self.out_of_order} out of order, {self.duplicates} duplicates dropped"
        )
        if self.returned:
            text += f", {self.returned} returned late"
        if self.conflicts:
            text += f", {self.conflicts} numbers or ids used twice: was the outbox deleted, do two nodes share a name?"
        return text + "".join(f"\n  missing: {hole}" for hole in self.holes)


@dataclass(slots=True)
class _Node:
    first: int
    next: int
    events: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    returned: int = 0
    conflicts: int = 0
    missing: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)
    reported: list[tuple[int, int, str]] = field(default_factory=list)
    ids: OrderedDict[int, str] = field(default_factory=OrderedDict)
    seqs: dict[str, int] = field(default_factory=dict)


class SequenceAudit:
    """Accounts for every received event. Owned by one thread."""

    def __init__(self, *, max_nodes: int = MAX_NODES, max_holes: int = MAX_HOLES, max_ids: int = MAX_IDS) -> None:
        self._max_nodes = max_nodes
        self._max_holes = max_holes
        self._max_ids = max_ids
        self._nodes: dict[str, _Node] = {}

    def add(self, payload: bytes) -> Arrival:
        """Account for one message of an event topic.  Raises PayloadError when the message is not an event."""
        event = _event(payload)
        name, seq, event_id = event["node"], event["seq"], event["event_id"]
        node = self._nodes.get(name)
        if node is None:
            if len(self._nodes) >= self._max_nodes:
                raise PayloadError(f"more than {self._max_nodes} nodes: {name[:80]} is not followed")
            node = self._nodes[name] = _Node(first=seq, next=seq)
        known = node.ids.get(seq)
        if known == event_id:
            node.duplicates += 1
            return Arrival("duplicate")
        if known is not None or node.seqs.get(event_id, seq) != seq:
            node.conflicts += 1
            return Arrival("conflict", f"{name}: seq {seq} with event_id {event_id}: this number or id was used before")
        arrival = self._place(name, node, seq)
        if arrival.is_first:
            node.events += 1
            self._remember(node, seq, event_id)
            if event["type"] == "events.dropped":
                self._record_loss(node, event.get("detail"))
        return arrival

    def results(self) -> tuple[Result, ...]:
        """The results so far, one for each node."""
        return tuple(
            Result(
                name,
                node.first,
                node.next - 1,
                node.events,
                node.duplicates,
                node.out_of_order,
                node.returned,
                node.conflicts,
                node.missing,
                tuple(hole for first, last in node.holes for hole in _split(first, last, node.reported)),
            )
            for name, node in self._nodes.items()
        )

    def _place(self, name: str, node: _Node, seq: int) -> Arrival:
        if seq >= node.next:
            expected, node.next = node.next, seq + 1
            if seq == expected:
                return Arrival("new")
            node.missing += seq - expected
            node.holes.append((expected, seq - 1))
            del node.holes[: -self._max_holes]
            return Arrival("new", f"{name}: hole: seq {expected} to {seq - 1} did not arrive before {seq}")
        if seq < node.first:
            return Arrival("earlier")  # sent before the subscription, not confirmed, and sent again
        at = bisect_right(node.holes, (seq, 1 << 63)) - 1
        if at < 0 or not node.holes[at][0] <= seq <= node.holes[at][1]:
            node.duplicates += 1
            return Arrival("duplicate")  # too old: its id is no longer remembered
        first, last = node.holes[at]
        node.holes[at : at + 1] = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        node.missing -= 1
        if any(low <= seq <= high for low, high, _ in node.reported):
            node.returned += 1
            return Arrival("late", f"{name}: seq {seq} arrived late")
        node.out_of_order += 1
        return Arrival("late", f"{name}: out of order: seq {seq} arrived after {node.next - 1}")

    def _remember(self, node: _Node, seq: int, event_id: str) -> None:
        node.ids[seq] = event_id
        node.seqs[event_id] = seq
        if len(node.ids) > self._max_ids:
            _, old_id = node.ids.popitem(last=False)
            node.seqs.pop(old_id, None)

    def _record_loss(self, node: _Node, detail: Any) -> None:
        try:
            first, last, cause = int(detail["first_seq"]), int(detail["last_seq"]), str(detail["cause"])[:40]
        except (TypeError, ValueError, KeyError):
            return  # the events were lost before they had numbers: that leaves no hole
        node.reported.append((first, last, cause))
        del node.reported[: -self._max_holes]


def _event(payload: bytes) -> dict[str, Any]:
    try:
        event = json.loads(payload)
        seq = event["seq"]
        has_texts = all(isinstance(event[key], str) for key in ("node", "event_id", "type", "camera"))
        if not has_texts or isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < 1 << 62:
            raise PayloadError("not an event")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PayloadError("not an event") from error
    return dict(event)


def _split(first: int, last: int, reported: list[tuple[int, int, str]]) -> list[Hole]:
    """The hole, split into the ranges that the node reported and the rest."""
    parts: list[Hole] = []
    at = first
    for low, high, cause in sorted(reported):
        if high < at or low > last:
            continue
        if low > at:
            parts.append(Hole(at, low - 1, None))
        at = max(at, low)
        parts.append(Hole(at, min(high, last), cause))
        at = min(high, last) + 1
        if at > last:
            break
    if at <= last:
        parts.append(Hole(at, last, None))
    return parts
