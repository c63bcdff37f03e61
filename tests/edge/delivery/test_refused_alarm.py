"""Refused events raise at most one alarm a minute."""

from __future__ import annotations

from fakes.clock import FakeClock

from edge.delivery.outbox.rows import Row
from edge.delivery.refused_alarm import INTERVAL_S, RejectedAlarm


def row(seq: int, kind: str = "image.bad", topic: str = "defectd/line3/top/event") -> Row:
    return Row(seq, f"id-{seq}", topic, "info", b'{"type":"%s","seq":%d}' % (kind.encode(), seq), 0)


def test_first_refusal_raises_an_alarm_at_once_and_the_next_are_counted():
    """One alarm, then one a minute with the number, the range, the codes and the topics."""
    clock, emitted = FakeClock(), []
    alarm = RejectedAlarm(emitted.append, clock)
    alarm.note(row(3), 0x87, "not authorised")
    for n in range(4, 14):
        alarm.note(row(n, topic=f"t/{n}"), 0x99 if n % 2 else 0x87, "mqtt://u:secret@h no")
    assert [e.detail["count"] for e in emitted] == [1]
    clock.advance(INTERVAL_S)
    assert alarm.emit()
    detail = emitted[1].detail
    assert (emitted[1].type, emitted[1].camera) == ("events.refused", "node")
    assert (detail["first_seq"], detail["last_seq"], detail["count"]) == (4, 13, 10)
    assert detail["codes"] == {"0x87": 5, "0x99": 5}
    assert len(detail["topics"]) == 5
    assert "secret" not in detail["reason"]
    clock.advance(INTERVAL_S)
    assert not alarm.emit()


def test_stop_does_not_wait_for_the_minute():
    """The alarm reports the refusals counted so far before a stop."""
    clock, emitted = FakeClock(), []
    alarm = RejectedAlarm(emitted.append, clock)
    alarm.note(row(1), 0x87, "no")
    alarm.note(row(2), 0x87, "no")
    assert alarm.emit(at_once=True)
    assert len(emitted) == 2


def test_refused_alarm_raises_no_alarm():
    """A broker that refuses node events cannot start a chain of alarms."""
    emitted = []
    RejectedAlarm(emitted.append, FakeClock()).note(row(1, "events.refused"), 0x87, "no")
    assert emitted == []
