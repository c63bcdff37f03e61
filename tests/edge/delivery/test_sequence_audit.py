"""The proof that a subscriber has everything."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery import sequence_audit
from edge.delivery.sequence_audit import Hole, SequenceAudit
from edge.errors import PayloadError


def said(seq: int, kind: str = "image.bad", event_id: str = "", **rest) -> bytes:
    words = {"node": "line3", "camera": "top", "type": kind, "seq": seq, "event_id": event_id or f"id-{seq}"}
    return json.dumps({**words, "detail": None, **rest}).encode()


def lost(seq: int, first: int, last: int, cause: str = "full") -> bytes:
    detail = {"first_seq": first, "last_seq": last, "count": last - first + 1, "cause": cause}
    return said(seq, "events.dropped", detail=detail)


def played(*payloads: bytes):
    proof = SequenceAudit()
    arrivals = [proof.add(p) for p in payloads]
    return arrivals, proof.results()


def test_gapless_stream_is_complete():
    """Every number once, in order, from wherever listening began."""
    arrivals, (result,) = played(*(said(n) for n in range(5, 25)))
    assert {a.kind for a in arrivals} == {"new"}
    assert result.complete
    assert (result.first_seq, result.last_seq, result.events) == (5, 24, 20)
    assert "complete: seq 5 to 24" in str(result)


def test_duplicates_are_dropped_and_harm_nothing():
    """The same event_id again is no event."""
    arrivals, (result,) = played(said(1), said(2), said(2), said(1), said(3))
    assert [a.is_first for a in arrivals] == [True, True, False, False, True]
    assert result.complete
    assert result.duplicates == 2


def test_hole_is_told_when_it_appears_and_at_the_end():
    """A number that did not come is named, with what the node said of it."""
    arrivals, (result,) = played(said(1), said(4), lost(5, 3, 3), said(9))
    assert "seq 2 to 3 did not come" in arrivals[1].remark
    assert not result.complete
    assert result.missing == 5
    assert result.holes == (Hole(2, 2, None), Hole(3, 3, "full"), Hole(6, 8, None))
    assert "3 (told by the node: full)" in str(result)


def test_event_that_comes_after_its_successor_is_out_of_order():
    """Late, counted, but no longer missing."""
    arrivals, (result,) = played(said(1), said(3), said(2))
    assert (arrivals[2].kind, result.missing, result.out_of_order) == ("late", 0, 1)
    assert "out of order" in arrivals[2].remark
    assert not result.complete


def test_dead_letter_sent_again_closes_its_told_hole():
    """A refused event that the node had told as lost and that comes later is no disorder."""
    _, (result,) = played(said(1), said(3), lost(4, 2, 2, "refused"), said(2))
    assert result.complete
    assert (result.returned, result.out_of_order) == (1, 0)


def test_number_used_twice_is_a_conflict():
    """Another outbox under the same name: told, and not complete."""
    arrivals, (result,) = played(said(1), said(2), said(1, event_id="other"), said(7, event_id="id-2"))
    assert [a.kind for a in arrivals] == ["new", "new", "conflict", "conflict"]
    assert not result.complete
    assert "deleted" in str(result)


def test_earlier_events_than_the_first_are_shown_and_not_judged():
    """What was unconfirmed before listening began may come again below the first number."""
    arrivals, (result,) = played(said(5), said(4), said(6))
    assert [a.kind for a in arrivals] == ["new", "earlier", "new"]
    assert result.complete


def test_nodes_are_told_apart():
    """Each node counts for itself."""
    _, results = played(said(1), said(1, node="line4"), said(2), said(3, node="line4"))
    assert [(r.node, r.complete) for r in results] == [("line3", True), ("line4", False)]


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"[]", b"null", b"{}", said(0), said(True), said(1, node=3), b"[" * 5000, b'{"seq": 1e9}', b"\xff"],
)
def test_what_is_no_event_is_refused(payload):
    """A stranger's message raises, and changes nothing."""
    proof = SequenceAudit()
    with pytest.raises(PayloadError):
        proof.add(payload)
    assert proof.results() == ()


def test_memory_is_bounded(monkeypatch):
    """Holes, ids and nodes beyond their bounds are counted only."""
    monkeypatch.setattr(sequence_audit, "MAX_IDS", 50)
    monkeypatch.setattr(sequence_audit, "MAX_HOLES", 10)
    proof = SequenceAudit()
    for n in range(1, 2001, 2):
        proof.add(said(n))
    (result,) = proof.results()
    assert (result.missing, len(result.holes)) == (999, 10)
    assert proof.add(said(1)).kind == "duplicate"
    for n in range(sequence_audit.MAX_NODES - 1):
        proof.add(said(1, node=f"n{n}"))
    with pytest.raises(PayloadError):
        proof.add(said(1, node="one-more"))


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_account_is_right_whatever_the_order(seed, count):
    """Missing numbers and first arrivals agree with a plain count, for any order, repetition and loss."""
    choice = random.Random(seed)
    sent = [n for n in range(1, count + 1) if choice.random() < 0.8] or [1]
    stream = [n for n in sent for _ in range(choice.choice((1, 1, 2)))]
    if choice.random() < 0.5:
        choice.shuffle(stream)
    arrivals, (result,) = played(*(said(n) for n in stream))
    assert sum(a.is_first for a in arrivals) == len(set(sent)) or result.first_seq > min(sent)
    within = {n for n in sent if n >= result.first_seq}
    assert result.missing == result.last_seq - result.first_seq + 1 - len(within)
