"""From the decision to the disk and to the broker's word."""

from dataclasses import replace

import pytest
from fakes import FakeClock

from edge.event import Event
from edge.pipeline import event_latency
from edge.pipeline.event_latency import EventLatency


def test_trail_measures_from_the_decision():
    """Commit and PUBACK are both counted from the moment the event was decided, under its camera."""
    clock = FakeClock()
    follow = EventLatency(["top", "side"], clock)
    fact = Event.now(clock, "top", "image.bad")
    clock.advance(0.005)
    follow.stored([fact, Event.now(clock, "node", "node.started")])
    clock.advance(0.010)
    follow.acknowledged(fact.event_id)
    follow.acknowledged(fact.event_id)
    assert (len(follow.to_outbox["top"]), len(follow.to_broker["top"]), len(follow.to_broker["side"])) == (1, 1, 0)
    assert follow.to_outbox["top"].summary().max == pytest.approx(5)
    assert follow.to_broker["top"].summary().max == pytest.approx(15)


def test_trail_of_events_that_nobody_confirms_is_bounded(monkeypatch):
    """With the broker away the oldest are forgotten; what comes later is still measured."""
    monkeypatch.setattr(event_latency, "MOST", 100)
    clock = FakeClock()
    follow = EventLatency(["top"], clock)
    fact = Event.now(clock, "top", "image.bad")
    follow.stored(replace(fact, event_id=str(n)) for n in range(1000))
    assert len(follow._decided) == 100
    follow.acknowledged("3")
    follow.acknowledged("999")
    assert len(follow.to_broker["top"]) == 1
