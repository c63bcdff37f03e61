"""The audit that a subscriber got every event."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.sequence_audit import Hole, SequenceAudit
from edge.errors import PayloadError


def message(seq: int, kind: str = "image.bad", event_id: str = "", **rest) -> bytes:
    fields = {"node": "line3", "camera": "top", "type": kind, "seq": seq, "event_id": event_id or f"id-{seq}"}
    return json.dumps({**fields, "detail": None, **rest}).encode()


def lost(seq: int, first: int, last: int, cause: str = "full") -> bytes:
    detail = {"first_seq": first, "last_seq": last, "count": last - first + 1, "cause": cause}
    return message(seq, "events.dropped", detail=detail)


def audited(*payloads: bytes):
    audit = SequenceAudit()
    arrivals = [audit.add(p) for p in payloads]
    return arrivals, audit.results()


def test_gapless_stream_is_complete():
    """Every number once, in order, starting at the first number received."""
    arrivals, (result,) = audited(*(message(n) for n in range(5, 25)))
    assert {a.kind for a in arrivals} == {"new"}
    assert result.complete
    assert (result.first_seq, result.last_seq, result.events) == (5, 24, 20)
    assert "complete: seq 5 to 24" in str(result)


def test_duplicates_are_dropped_and_harm_nothing():
    """A repeated event_id is not a new event."""
    arrivals, (result,) = audited(message(1), message(2), message(2), message(1), message(3))
    assert [a.is_first for a in arrivals] == [True, True, False, False, True]
    assert result.complete
    assert result.duplicates == 2


def test_hole_is_reported_when_it_appears_and_at_the_end():
    """The audit names a number that did not arrive, with the cause that the node reported."""
    arrivals, (result,) = audited(message(1), message(4), lost(5, 3, 3), message(9))
    assert "seq 2 to 3 did not arrive" in arrivals[1].remark
    assert not result.complete
    assert result.missing == 5
    assert result.holes == (Hole(2, 2, None), Hole(3, 3, "full"), Hole(6, 8, None))
    assert "3 (reported by the node: full)" in str(result)


def test_event_that_arrives_after_its_successor_is_out_of_order():
    """The late event is counted, but is no longer missing."""
    arrivals, (result,) = audited(message(1), message(3), message(2))
    assert (arrivals[2].kind, result.missing, result.out_of_order) == ("late", 0, 1)
    assert "out of order" in arrivals[2].remark
    assert not result.complete


def test_retried_dead_letter_closes_its_reported_hole():
    """A refused event that the node had reported as lost and that arrives later is not out of order."""
    _, (result,) = audited(message(1), message(3), lost(4, 2, 2, "refused"), message(2))
    assert result.complete
    assert (result.returned, result.out_of_order) == (1, 0)


def test_number_used_twice_is_a_conflict():
    """A second outbox under the same name is reported, and the result is not complete."""
    arrivals, (result,) = audited(message(1), message(2), message(1, event_id="other"), message(7, event_id="id-2"))
    assert [a.kind for a in arrivals] == ["new", "new", "conflict", "conflict"]
    assert not result.complete
    assert "deleted" in str(result)


def test_events_below_the_first_number_are_shown_and_not_counted():
    """An event unconfirmed before the subscription may arrive again, below the first number received."""
    arrivals, (result,) = audited(message(5), message(4), message(6))
    assert [a.kind for a in arrivals] == ["new", "earlier", "new"]
    assert result.complete


def test_each_node_has_its_own_result():
    """A hole of one node does not affect another."""
    _, results = audited(message(1), message(1, node="line4"), message(2), message(3, node="line4"))
    assert [(r.node, r.complete) for r in results] == [("line3", True), ("line4", False)]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b"{}",
        message(0),
        message(True),
        message(1, node=3),
        b"[" * 5000,
        b'{"seq": 1e9}',
        b"\xff",
    ],
)
def test_message_that_is_not_an_event_is_rejected(payload):
    """A foreign message raises, and changes nothing."""
    audit = SequenceAudit()
    with pytest.raises(PayloadError):
        audit.add(payload)
    assert audit.results() == ()


def test_memory_is_bounded():
    """Holes and ids beyond their limits are only counted; nodes beyond the limit are rejected."""
    audit = SequenceAudit(max_ids=50, max_holes=10, max_nodes=5)
    for n in range(1, 2001, 2):
        audit.add(message(n))
    (result,) = audit.results()
    assert (result.missing, len(result.holes)) == (999, 10)
    assert audit.add(message(1)).kind == "duplicate"
    for n in range(4):
        audit.add(message(1, node=f"n{n}"))
    with pytest.raises(PayloadError):
        audit.add(message(1, node="one-more"))


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_result_is_right_whatever_the_order(seed, count):
    """Missing numbers and first arrivals agree with a plain count, for any order, repetition and loss."""
    choice = random.Random(seed)
    sent = [n for n in range(1, count + 1) if choice.random() < 0.8] or [1]
    stream = [n for n in sent for _ in range(choice.choice((1, 1, 2)))]
    if choice.random() < 0.5:
        choice.shuffle(stream)
    arrivals, (result,) = audited(*(message(n) for n in stream))
    assert sum(a.is_first for a in arrivals) == len(set(sent)) or result.first_seq > min(sent)
    within = {n for n in sent if n >= result.first_seq}
    assert result.missing == result.last_seq - result.first_seq + 1 - len(within)
