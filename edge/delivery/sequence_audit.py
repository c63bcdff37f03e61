"""Whether a subscriber has everything: `seq` without a hole, each event once, first arrivals in order.

Works on what arrives, with bounded memory; knows nothing of brokers. `docs/subscriber.py` is the same idea for readers
who do not install defectd.
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
"""Holes and told losses remembered per node; the oldest are only counted then."""
MAX_IDS: Final = 20_000
"""Events per node whose `event_id` is remembered, to compare with a repetition."""

Kind = Literal["new", "duplicate", "late", "earlier", "conflict"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one message was.  remark: what there is to say of it, or nothing."""

    kind: Kind
    remark: str = ""

    @property
    def is_first(self) -> bool:
        """Whether the event was not seen before."""
        return self.kind in ("new", "late", "earlier")


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers that never came, bounds included.  cause: told by the node in an events.dropped event, or None."""

    first_seq: int
    last_seq: int
    cause: str | None

    def __str__(self) -> str:
        span = f"{self.first_seq}" if self.first_seq == self.last_seq else f"{self.first_seq} to {self.last_seq}"
        return f"{span} ({'told by the node: ' + self.cause if self.cause else 'not told'})"


@dataclass(frozen=True, slots=True)
class Result:
    """What is proven of one node, from `first_seq` (where listening began) to `last_seq`."""

    node: str
    first_seq: int
    last_seq: int
    events: int
    """First arrivals."""
    duplicates: int
    out_of_order: int
    returned: int
    """Numbers that the node had told as lost and that came after all: dead letters sent again."""
    conflicts: int
    """One number with two event ids, or one id with two numbers: another outbox under the same node name."""
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
    told: list[tuple[int, int, str]] = field(default_factory=list)
    ids: OrderedDict[int, str] = field(default_factory=OrderedDict)
    seqs: dict[str, int] = field(default_factory=dict)


class SequenceAudit:
    """Keeps the account of what came. Owned by one thread."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def add(self, payload: bytes) -> Arrival:
        """Book one message of an event topic.  Raises PayloadError when it is not an event."""
        fact = _event(payload)
        name, seq, event_id = fact["node"], fact["seq"], fact["event_id"]
        node = self._nodes.get(name)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                raise PayloadError(f"more than {MAX_NODES} nodes: {name[:80]} is not followed")
            node = self._nodes[name] = _Node(first=seq, next=seq)
        known = node.ids.get(seq)
        if known == event_id:
            node.duplicates += 1
            return Arrival("duplicate")
        if known is not None or node.seqs.get(event_id, seq) != seq:
            node.conflicts += 1
            return Arrival("conflict", f"{name}: seq {seq} with event_id {event_id}: number or id was used before")
        arrival = self._place(name, node, seq)
        if arrival.is_first:
            node.events += 1
            self._remember(node, seq, event_id)
            if fact["type"] == "events.dropped":
                self._hear_loss(node, fact.get("detail"))
        return arrival

    def results(self) -> tuple[Result, ...]:
        """What is proven so far, one for each node."""
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
                tuple(hole for first, last in node.holes for hole in _split(first, last, node.told)),
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
            del node.holes[:-MAX_HOLES]
            return Arrival("new", f"{name}: hole: seq {expected} to {seq - 1} did not come before {seq}")
        if seq < node.first:
            return Arrival("earlier")  # unconfirmed before we began to listen, and sent again
        at = bisect_right(node.holes, (seq, 1 << 63)) - 1
        if at < 0 or not node.holes[at][0] <= seq <= node.holes[at][1]:
            node.duplicates += 1
            return Arrival("duplicate")  # so long ago that its id is forgotten
        first, last = node.holes[at]
        node.holes[at : at + 1] = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        node.missing -= 1
        if any(low <= seq <= high for low, high, _ in node.told):
            node.returned += 1
            return Arrival("late", f"{name}: seq {seq} came after all")
        node.out_of_order += 1
        return Arrival("late", f"{name}: out of order: seq {seq} came after {node.next - 1}")

    @staticmethod
    def _remember(node: _Node, seq: int, event_id: str) -> None:
        node.ids[seq] = event_id
        node.seqs[event_id] = seq
        if len(node.ids) > MAX_IDS:
            _, old_id = node.ids.popitem(last=False)
            node.seqs.pop(old_id, None)

    @staticmethod
    def _hear_loss(node: _Node, detail: Any) -> None:
        try:
            first, last, cause = int(detail["first_seq"]), int(detail["last_seq"]), str(detail["cause"])[:40]
        except (TypeError, ValueError, KeyError):
            return  # lost before it had a number: that is no hole
        node.told.append((first, last, cause))
        del node.told[:-MAX_HOLES]


def _event(payload: bytes) -> dict[str, Any]:
    try:
        fact = json.loads(payload)
        seq = fact["seq"]
        words = all(isinstance(fact[key], str) for key in ("node", "event_id", "type", "camera"))
        if not words or isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < 1 << 62:
            raise PayloadError("not an event")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PayloadError("not an event") from error
    return dict(fact)


def _split(first: int, last: int, told: list[tuple[int, int, str]]) -> list[Hole]:
    """The hole in parts: what the node told, and what it did not."""
    parts: list[Hole] = []
    at = first
    for low, high, cause in sorted(told):
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
