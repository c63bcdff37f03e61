"""Positions on the strip, checked on simulated lines with known truth."""

from __future__ import annotations

import functools
import math
import random

import pytest

from edge import config
from edge.coverage.strip_position import (
    MAX_KNOTS,
    Coil,
    CoilNamed,
    FramePoint,
    PositionTracker,
    RestoredCoil,
    Span,
    StripPosition,
)
from edge.host.clock import NS_PER_MS, NS_PER_S

START = 5 * NS_PER_S


def travel(**settings):
    return PositionTracker(config.Travel.model_validate({"topic": "drive", **settings}), START)


def ns(s):
    return START + int(s * NS_PER_S)


@functools.cache
def drive():
    return Drive()


class Drive:
    """A line that threads, speeds up, oscillates, slows down for a weld, speeds up and stops.  Truth per 1 ms."""

    KNOTS = ((0, 0.3), (5, 0.3), (15, 4.0), (35, 4.0), (38, 0.8), (44, 0.8), (50, 5.0), (70, 5.0), (78, 0.0), (82, 0.0))

    def __init__(self):
        self.meters = [0.0]
        for ms in range(82_000):
            self.meters.append(self.meters[-1] + (self.speed(ms / 1000) + self.speed((ms + 1) / 1000)) / 2000)

    def speed(self, s):
        for (s0, v0), (s1, v1) in zip(self.KNOTS, self.KNOTS[1:], strict=False):
            if s0 <= s <= s1:
                v = v0 + (v1 - v0) * (s - s0) / (s1 - s0)
                return v * (1 + 0.05 * math.sin(2 * math.pi * 0.7 * s))
        return 0.0


DRIVES = [(0.1, 0.03, 0.05, 0.0), (0.25, 0.08, 0.1, 0.02), (0.5, 0.15, 0.08, 0.02)]
"""Seconds between messages, their jitter, delay, share of lost messages."""


def followed(every_s, jitter_s, delay_s, lost, seed, later_s=0.0):
    """Relative error of the position in each frame after the first 10 m.  later_s: delay of the query after the frame.

    Speeds arrive late and unevenly, some are lost, all have noise.
    """
    rng, line, strip = random.Random(seed), drive(), travel(stale_s=2.5)
    messages = []
    at = 0.0
    while at < 82:
        if rng.random() >= lost:
            noise = 1 + rng.gauss(0, 0.01)
            messages.append((at + delay_s * rng.uniform(0.5, 1.5), line.speed(at) * noise))
        at += every_s + rng.uniform(-jitter_s, jitter_s)
    messages.sort()
    errors, waiting, origin = [], list(messages), None
    for frame in range(81 * 30):
        s = frame / 30
        while waiting and waiting[0][0] <= s + later_s:
            arrived, v = waiting.pop(0)
            strip.sample(ns(arrived - delay_s), v)
        position, truth = strip.at(ns(s)), line.meters[round(s * 1000)]
        if position is not None and origin is None:
            origin = truth - position.m
        if position is not None and truth - origin > 10:
            errors.append(abs(position.m - (truth - origin)) / (truth - origin))
    return errors


@pytest.mark.parametrize("messages", DRIVES)
@pytest.mark.parametrize("seed", range(2))
def test_position_at_varying_speed_is_right_within_half_a_percent(messages, seed):
    """At the end and in 95 % of the frames; with ten messages per second, in every frame."""
    errors = followed(*messages, seed)
    assert len(errors) > 1800
    assert errors[-1] < 0.005
    assert sorted(errors)[int(0.95 * len(errors))] < 0.005
    assert max(errors) < (0.005 if messages[0] == 0.1 else 0.02)


@pytest.mark.parametrize("messages", DRIVES[1:])
def test_position_is_better_once_the_next_speed_has_come(messages):
    """The largest error is the unknown speed since the last message; the next message removes it."""
    at_once, later = (max(max(followed(*messages, seed, s)) for seed in range(4)) for s in (0.0, 1.0))
    assert later < 0.75 * at_once


def test_constant_speed_needs_no_messages():
    """A fixed speed is known from the start, and never stale."""
    strip = PositionTracker(config.Travel(speed_m_per_s=0.18), START)
    assert strip.at(START - 1) is None
    assert strip.at(ns(100)).m == pytest.approx(18.0)
    assert strip.check_stale(ns(10_000)) is None
    assert strip.reading(ns(10)).as_json() == {
        "speed": "known",
        "speed_m_per_s": 0.18,
        "coil": None,
        "position_m": 1.8,
        "stale": 0,
        "kept_since": None,
    }


def test_speed_between_two_messages_is_a_ramp():
    """The tracker assumes a linear ramp between two speeds, even for a frame from before the second."""
    strip = travel()
    strip.sample(ns(0), 1.0)
    assert strip.at(ns(1)).m == pytest.approx(1.0)
    strip.sample(ns(2), 3.0)
    assert [strip.at(ns(s)).m for s in (0, 1, 2, 3)] == pytest.approx([0, 1.5, 4, 7])


def test_interpolation_previous_holds_the_speed():
    """The speed stays the same until the next message."""
    strip = travel(interpolation="previous", stale_s=3600)
    strip.sample(ns(0), 2.0)
    strip.sample(ns(100), 1.0)
    assert [strip.at(ns(s)).m for s in (50, 100, 110)] == pytest.approx([100, 200, 210])


def test_position_is_unknown_while_the_speed_is_unknown():
    """It is unknown after stale_s; the next speed starts a new segment, whose positions cannot be compared."""
    strip = travel(stale_s=1.0)
    assert strip.at(ns(0)) is None
    strip.sample(ns(0), 2.0)
    assert strip.at(ns(1)).m == pytest.approx(2.0)
    assert strip.at(ns(1.01)) is None
    strip.sample(ns(5), 2.0)
    assert strip.at(ns(3)) is None
    assert strip.at(ns(0.5)).m == pytest.approx(1.0)
    position = strip.at(ns(6))
    assert position.since(strip.at(ns(0.5))) is None
    assert position.since(strip.at(ns(5))) == pytest.approx(2.0)
    assert strip.on_coil(position) == (None, None)
    strip.start_coil("A", ns(5.5))
    assert strip.on_coil(strip.at(ns(6))) == ("A", pytest.approx(1.0))


def test_stale_is_reported_once_and_restored_only_when_it_lasts():
    """A source with one message per stale_s becomes stale once, not each time."""
    strip = travel(stale_s=1.0)
    assert strip.check_stale(ns(0.9)) is None
    assert strip.check_stale(ns(1.1)) == "stale"
    for drip in range(2, 60, 2):
        strip.sample(ns(drip), 1.0)
        assert strip.check_stale(ns(drip + 0.1)) is None
        assert strip.check_stale(ns(drip + 1.5)) is None
    for s in (60.0, 60.5, 61.0):
        strip.sample(ns(s), 1.0)
    assert strip.check_stale(ns(61)) == "restored"
    assert strip.reading(ns(61)).state == "known"
    assert strip.check_stale(ns(63)) == "stale"
    assert strip.reading(ns(63)).stale == 2


def test_burst_keeps_the_speeds_of_older_frames():
    """Ten thousand messages within 100 ms take the memory of ten, and the memory is bounded."""
    strip = travel()
    for s in range(10):
        strip.sample(ns(s), 1.0)
    for n in range(10_000):
        strip.sample(ns(9) + n * 10_000, 1.0)
    assert strip.at(ns(0.5)).m == pytest.approx(0.5)
    assert strip.at(ns(9.2)).m == pytest.approx(9.2)
    for n in range(3 * MAX_KNOTS):
        strip.sample(ns(20) + n * 20 * NS_PER_MS, 1.0)
    assert len(strip._knots) == MAX_KNOTS
    assert strip.at(ns(21)) is None, "long ago"


def test_late_message_changes_nothing():
    """A speed that is older than the last is ignored."""
    strip = travel()
    strip.sample(ns(1), 1.0)
    strip.sample(ns(0), 50.0)
    assert strip.at(ns(2)).m == pytest.approx(1.0)


def test_each_coil_starts_at_0_and_keeps_its_positions():
    """A camera 20 m down the line sees the previous coil for 20 m more."""
    strip = travel()
    strip.sample(ns(0), 2.0)
    strip.sample(ns(4), 2.0)
    assert strip.start_coil("A", ns(5)) == Coil(None, pytest.approx(10.0))
    strip.sample(ns(8), 2.0)
    strip.sample(ns(12), 2.0)
    assert strip.start_coil("B", ns(15)) == Coil("A", pytest.approx(20.0))
    position = strip.at(ns(16))
    assert strip.on_coil(position) == ("B", pytest.approx(2.0))
    assert strip.on_coil(position.plus(-20)) == ("A", pytest.approx(2.0))
    assert strip.on_coil(position.plus(-60)) == (None, None)
    assert strip.end_coil(ns(16)) == Coil("B", pytest.approx(2.0))
    assert strip.on_coil(strip.at(ns(16.5))) == (None, None)


def test_only_a_change_of_name_starts_a_coil():
    """The first name, and a retained one, may be old: the coil is known, its positions are not."""
    strip = travel(coil_topic="coil")
    strip.sample(ns(0), 1.0)
    assert strip.on_coil(strip.at(ns(1))) == (None, None)
    strip.name_coil(CoilNamed(ns(1), "A", retained=True))
    assert strip.on_coil(strip.at(ns(2))) == ("A", None)
    assert strip.name_coil(CoilNamed(ns(2), "A")) is None
    assert strip.name_coil(CoilNamed(ns(3), "B")) == Coil("A", None)
    assert strip.on_coil(strip.at(ns(4))) == ("B", pytest.approx(1.0))
    strip.name_coil(CoilNamed(ns(4), "C", retained=True))
    assert strip.on_coil(strip.at(ns(5))) == ("C", None)
    strip.sample(ns(5), 1.0)
    strip.name_coil(CoilNamed(ns(5), None))
    assert strip.coil is None
    strip.name_coil(CoilNamed(ns(5.5), "D"))
    assert strip.on_coil(strip.at(ns(6))) == ("D", pytest.approx(0.5))


SINCE = "2026-11-22T13:46:11.482Z"


@pytest.mark.parametrize(
    "settings", [{"speed_m_per_s": 2.0}, {"topic": "drive"}, {"topic": "drive", "coil_topic": "coil"}]
)
def test_coil_from_before_a_restart_has_a_name_and_no_position(settings):
    """The strip may have moved meanwhile, even at a fixed speed; the next coil starts at 0 m."""
    strip = PositionTracker(config.Travel(**settings), START, RestoredCoil("A", SINCE))
    strip.sample(ns(0), 2.0)
    assert strip.on_coil(strip.at(ns(1))) == ("A", None)
    assert (strip.reading(ns(1)).coil, strip.reading(ns(1)).kept_since) == ("A", SINCE)
    assert strip.start_coil("B", ns(1)) == Coil("A", None)
    assert strip.on_coil(strip.at(ns(2))) == ("B", pytest.approx(2.0))
    assert strip.on_coil(strip.at(ns(0.5))) == ("A", None), "a camera far down the line"
    assert strip.reading(ns(2)).kept_since is None


def test_ended_coil_stays_ended_after_a_restart():
    """Positions do not start to count by themselves."""
    strip = PositionTracker(config.Travel(speed_m_per_s=2.0), START, RestoredCoil(None, SINCE))
    assert strip.on_coil(strip.at(ns(1))) == (None, None)
    assert (strip.reading(ns(1)).coil, strip.reading(ns(1)).kept_since) == (None, None)
    assert strip.end_coil(ns(2)) == Coil(None, None)


@pytest.mark.parametrize("retained", [True, False])
def test_topic_overrides_the_coil_from_before_a_restart(retained):
    """The same name confirms the coil; another one, or none, ends it; the start of the next one is unknown."""
    strip = PositionTracker(config.Travel(topic="drive", coil_topic="coil"), START, RestoredCoil("A", SINCE))
    strip.sample(ns(0), 2.0)
    assert strip.name_coil(CoilNamed(ns(0), "A", retained)) is None
    assert strip.reading(ns(0)).kept_since is None
    assert strip.on_coil(strip.at(ns(1))) == ("A", None)
    strip = PositionTracker(config.Travel(topic="drive", coil_topic="coil"), START, RestoredCoil("A", SINCE))
    strip.sample(ns(0), 2.0)
    assert strip.name_coil(CoilNamed(ns(0), "B", retained)) == Coil("A", None)
    assert strip.on_coil(strip.at(ns(1))) == ("B", None)
    assert strip.name_coil(CoilNamed(ns(1), None, retained)) == Coil("B", None)


def test_without_a_speed_there_are_no_positions():
    """Without the keys of a speed it never becomes stale, and coils still have names."""
    strip = PositionTracker(config.Travel(), START)
    assert strip.at(ns(1)) is None
    assert strip.check_stale(ns(1000)) is None
    strip.start_coil("A", ns(1))
    assert strip.reading(ns(1)).as_json()["coil"] == "A"


def test_span_with_an_unplaced_sighting_has_no_length():
    """A length is given only when no sighting is missing from the span."""

    def sighting(segment, m):
        return Span(FramePoint(StripPosition(segment, m), 0.0), FramePoint(StripPosition(segment, m), 0.2))

    span = sighting(0, 1.0).joined(sighting(0, 0.9))
    assert (span.near.position, span.length_mm) == (StripPosition(0, 0.9), 300.0)
    assert span.joined(None).length_mm is None
    assert span.joined(sighting(1, 0.0)).joined(sighting(0, 1.0)).length_mm is None


def test_span_is_recomputed_with_later_speeds():
    """The strip sped up between two messages: the second one gives the positions in between."""
    strip = travel()
    strip.sample(ns(0), 1.0)
    first, last = strip.at(ns(1)), strip.at(ns(2))
    seen = Span(FramePoint(first, 0.5), FramePoint(last, 0.7))
    assert (strip.recomputed(seen).near.position.m, strip.recomputed(seen).length_mm) == pytest.approx((1.5, 1200.0))
    strip.sample(ns(2), 3.0)
    updated = strip.recomputed(seen)
    assert (updated.near.position.m, updated.length_mm) == pytest.approx((2.0, 2700.0))
    for n in range(MAX_KNOTS):
        strip.sample(ns(2.1) + n * 20 * NS_PER_MS, 3.0)
    assert strip.recomputed(seen) == seen, "long ago"
