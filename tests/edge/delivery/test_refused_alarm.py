"""Refused events raise one alarm a minute."""

from __future__ import annotations

from fakes import FakeClock

from edge.delivery.outbox.rows import Row
from edge.delivery.refused_alarm import EVERY_S, RejectedAlarm


def row(seq: int, kind: str = "image.bad", topic: str = "defectd/line3/top/event") -> Row:
    return Row(seq, f"id-{seq}", topic, "info", b'{"type":"%s","seq":%d}' % (kind.encode(), seq), 0)


def test_first_refusal_is_told_at_once_and_the_next_are_counted():
    """One alarm, then one a minute with the number, the range, the codes and the topics."""
    clock, told = FakeClock(), []
    refusals = RejectedAlarm(told.append, clock)
    refusals.note(row(3), 0x87, "not authorised")
    for n in range(4, 14):
        refusals.note(row(n, topic=f"t/{n}"), 0x99 if n % 2 else 0x87, "mqtt://u:secret@h no")
    assert [e.detail["count"] for e in told] == [1]
    clock.advance(EVERY_S)
    assert refusals.tell()
    detail = told[1].detail
    assert (told[1].type, told[1].camera) == ("events.refused", "node")
    assert (detail["first_seq"], detail["last_seq"], detail["count"]) == (4, 13, 10)
    assert detail["codes"] == {"0x87": 5, "0x99": 5}
    assert len(detail["topics"]) == 5
    assert "secret" not in detail["reason"]
    clock.advance(EVERY_S)
    assert not refusals.tell()


def test_end_does_not_wait_for_the_minute():
    """What was counted is told before a stop."""
    clock, told = FakeClock(), []
    refusals = RejectedAlarm(told.append, clock)
    refusals.note(row(1), 0x87, "no")
    refusals.note(row(2), 0x87, "no")
    assert refusals.tell(at_once=True)
    assert len(told) == 2


def test_refused_alarm_raises_no_alarm():
    """A broker that refuses node events cannot start a chain."""
    told = []
    RejectedAlarm(told.append, FakeClock()).note(row(1, "events.refused"), 0x87, "no")
    assert told == []
