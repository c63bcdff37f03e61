"""The latency of events from their decision to the disk and to the broker."""

from dataclasses import replace

import pytest
from fakes.clock import FakeClock

from edge.event import Event
from edge.pipeline.event_latency import EventLatency


def test_latency_is_measured_from_the_decision():
    """Commit and PUBACK are both counted from the moment the event was decided, under its camera."""
    clock = FakeClock()
    latency = EventLatency(["top", "side"], clock)
    fact = Event.now(clock, "top", "image.bad")
    clock.advance(0.005)
    latency.stored([fact, Event.now(clock, "node", "node.started")])
    clock.advance(0.010)
    latency.acknowledged(fact.event_id)
    latency.acknowledged(fact.event_id)
    assert (len(latency.to_outbox["top"]), len(latency.to_broker["top"]), len(latency.to_broker["side"])) == (1, 1, 0)
    assert latency.to_outbox["top"].summary().max == pytest.approx(5)
    assert latency.to_broker["top"].summary().max == pytest.approx(15)


def test_unconfirmed_events_are_latencyed_in_bounded_number():
    """While the broker is away the oldest events are forgotten; later ones are still measured."""
    clock = FakeClock()
    latency = EventLatency(["top"], clock, max_followed=100)
    fact = Event.now(clock, "top", "image.bad")
    latency.stored(replace(fact, event_id=str(n)) for n in range(1000))
    assert len(latency._decided) == 100
    latency.acknowledged("3")
    latency.acknowledged("999")
    assert len(latency.to_broker["top"]) == 1
