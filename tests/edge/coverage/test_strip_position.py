"""Where the strip stands: simulated lines with known truth."""

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
    """A line that threads, runs up, breathes, slows down for a weld, runs on and stops.  Truth in steps of 1 ms."""

    KNOTS = ((0, 0.3), (5, 0.3), (15, 4.0), (35, 4.0), (38, 0.8), (44, 0.8), (50, 5.0), (70, 5.0), (78, 0.0), (82, 0.0))

    def __init__(self):
        self.metres = [0.0]
        for ms in range(82_000):
            self.metres.append(self.metres[-1] + (self.speed(ms / 1000) + self.speed((ms + 1) / 1000)) / 2000)

    def speed(self, s):
        for (s0, v0), (s1, v1) in zip(self.KNOTS, self.KNOTS[1:], strict=False):
            if s0 <= s <= s1:
                v = v0 + (v1 - v0) * (s - s0) / (s1 - s0)
                return v * (1 + 0.05 * math.sin(2 * math.pi * 0.7 * s))
        return 0.0


DRIVES = [(0.1, 0.03, 0.05, 0.0), (0.25, 0.08, 0.1, 0.02), (0.5, 0.15, 0.08, 0.02)]
"""Seconds between messages, jitter of that, delay, share that is lost."""


def followed(every_s, jitter_s, delay_s, lost, seed, later_s=0.0):
    """How wrong the position is in each frame after the first 10 m, as a share.  later_s: asked after the frame.

    Speeds come late, unevenly and not all of them, with noise.
    """
    rng, line, strip = random.Random(seed), drive(), travel(stale_s=2.5)
    told = []
    at = 0.0
    while at < 82:
        if rng.random() >= lost:
            noise = 1 + rng.gauss(0, 0.01)
            told.append((at + delay_s * rng.uniform(0.5, 1.5), line.speed(at) * noise))
        at += every_s + rng.uniform(-jitter_s, jitter_s)
    told.sort()
    errors, waiting, origin = [], list(told), None
    for frame in range(81 * 30):
        s = frame / 30
        while waiting and waiting[0][0] <= s + later_s:
            arrived, v = waiting.pop(0)
            strip.sample(ns(arrived - delay_s), v)
        mark, truth = strip.at(ns(s)), line.metres[round(s * 1000)]
        if mark is not None and origin is None:
            origin = truth - mark.m
        if mark is not None and truth - origin > 10:
            errors.append(abs(mark.m - (truth - origin)) / (truth - origin))
    return errors


@pytest.mark.parametrize("messages", DRIVES)
@pytest.mark.parametrize("seed", range(2))
def test_position_of_a_line_whose_speed_varies_is_right_within_half_a_percent(messages, seed):
    """At the end and in 95 of 100 frames, with ten messages a second in every frame."""
    errors = followed(*messages, seed)
    assert len(errors) > 1800
    assert errors[-1] < 0.005
    assert sorted(errors)[int(0.95 * len(errors))] < 0.005
    assert max(errors) < (0.005 if messages[0] == 0.1 else 0.02)


@pytest.mark.parametrize("messages", DRIVES[1:])
def test_position_is_more_right_once_the_next_speed_has_come(messages):
    """What is worst in the frame itself is the speed since the last message: the next one says what it was."""
    at_once, later = (max(max(followed(*messages, seed, s)) for seed in range(4)) for s in (0.0, 1.0))
    assert later < 0.75 * at_once


def test_constant_speed_needs_no_messages():
    """A fixed speed is known from the start on, and never stale."""
    strip = PositionTracker(config.Travel(speed_m_per_s=0.18), START)
    assert strip.at(START - 1) is None
    assert strip.at(ns(100)).m == pytest.approx(18.0)
    assert strip.look(ns(10_000)) is None
    assert strip.reading(ns(10)).as_json() == {
        "speed": "known",
        "speed_m_per_s": 0.18,
        "coil": None,
        "position_m": 1.8,
        "stale": 0,
        "kept_since": None,
    }


def test_ramp_between_two_messages_is_followed():
    """Between two speeds the strip is where an even ramp puts it, also for a frame grabbed before the second came."""
    strip = travel()
    strip.sample(ns(0), 1.0)
    assert strip.at(ns(1)).m == pytest.approx(1.0)
    strip.sample(ns(2), 3.0)
    assert [strip.at(ns(s)).m for s in (0, 1, 2, 3)] == pytest.approx([0, 1.5, 4, 7])


def test_source_that_tells_changes_only_is_held():
    """hold: the speed stays until the next message."""
    strip = travel(interpolation="previous", stale_s=3600)
    strip.sample(ns(0), 2.0)
    strip.sample(ns(100), 1.0)
    assert [strip.at(ns(s)).m for s in (50, 100, 110)] == pytest.approx([100, 200, 210])


def test_position_is_unknown_while_the_speed_is():
    """After stale_s nothing is known; what follows is a leg of its own, that cannot be compared."""
    strip = travel(stale_s=1.0)
    assert strip.at(ns(0)) is None
    strip.sample(ns(0), 2.0)
    assert strip.at(ns(1)).m == pytest.approx(2.0)
    assert strip.at(ns(1.01)) is None
    strip.sample(ns(5), 2.0)
    assert strip.at(ns(3)) is None
    assert strip.at(ns(0.5)).m == pytest.approx(1.0)
    mark = strip.at(ns(6))
    assert mark.since(strip.at(ns(0.5))) is None
    assert mark.since(strip.at(ns(5))) == pytest.approx(2.0)
    assert strip.on_coil(mark) == (None, None)
    strip.begin("A", ns(5.5))
    assert strip.on_coil(strip.at(ns(6))) == ("A", pytest.approx(1.0))


def test_stale_is_told_once_and_restored_only_when_it_lasts():
    """A source that drips one message per stale_s is stale once, not each time."""
    strip = travel(stale_s=1.0)
    assert strip.look(ns(0.9)) is None
    assert strip.look(ns(1.1)) == "stale"
    for drip in range(2, 60, 2):
        strip.sample(ns(drip), 1.0)
        assert strip.look(ns(drip + 0.1)) is None
        assert strip.look(ns(drip + 1.5)) is None
    for s in (60.0, 60.5, 61.0):
        strip.sample(ns(s), 1.0)
    assert strip.look(ns(61)) == "restored"
    assert strip.reading(ns(61)).state == "known"
    assert strip.look(ns(63)) == "stale"
    assert strip.reading(ns(63)).stale == 2


def test_burst_keeps_what_older_frames_need():
    """Ten thousand messages within 100 ms take the place of ten, and memory is bounded."""
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
    """A speed that is older than the last is left out."""
    strip = travel()
    strip.sample(ns(1), 1.0)
    strip.sample(ns(0), 50.0)
    assert strip.at(ns(2)).m == pytest.approx(1.0)


def test_each_coil_begins_at_0_and_keeps_what_is_still_on_it():
    """A camera 20 m down the line sees the coil before for 20 m more."""
    strip = travel()
    strip.sample(ns(0), 2.0)
    strip.sample(ns(4), 2.0)
    assert strip.begin("A", ns(5)) == Coil(None, pytest.approx(10.0))
    strip.sample(ns(8), 2.0)
    strip.sample(ns(12), 2.0)
    assert strip.begin("B", ns(15)) == Coil("A", pytest.approx(20.0))
    mark = strip.at(ns(16))
    assert strip.on_coil(mark) == ("B", pytest.approx(2.0))
    assert strip.on_coil(mark.plus(-20)) == ("A", pytest.approx(2.0))
    assert strip.on_coil(mark.plus(-60)) == (None, None)
    assert strip.end(ns(16)) == Coil("B", pytest.approx(2.0))
    assert strip.on_coil(strip.at(ns(16.5))) == (None, None)


def test_only_a_change_that_was_witnessed_begins_a_coil():
    """The first name, and one that the broker kept, may be old: the coil is known, the position not."""
    strip = travel(coil_topic="coil")
    strip.sample(ns(0), 1.0)
    assert strip.on_coil(strip.at(ns(1))) == (None, None)
    strip.hear(CoilNamed(ns(1), "A", retained=True))
    assert strip.on_coil(strip.at(ns(2))) == ("A", None)
    assert strip.hear(CoilNamed(ns(2), "A")) is None
    assert strip.hear(CoilNamed(ns(3), "B")) == Coil("A", None)
    assert strip.on_coil(strip.at(ns(4))) == ("B", pytest.approx(1.0))
    strip.hear(CoilNamed(ns(4), "C", retained=True))
    assert strip.on_coil(strip.at(ns(5))) == ("C", None)
    strip.sample(ns(5), 1.0)
    strip.hear(CoilNamed(ns(5), None))
    assert strip.coil is None
    strip.hear(CoilNamed(ns(5.5), "D"))
    assert strip.on_coil(strip.at(ns(6))) == ("D", pytest.approx(0.5))


BEFORE = "2026-11-22T13:46:11.482Z"


@pytest.mark.parametrize(
    "settings", [{"speed_m_per_s": 2.0}, {"topic": "drive"}, {"topic": "drive", "coil_topic": "coil"}]
)
def test_coil_of_before_a_restart_has_its_name_and_no_position(settings):
    """Nobody knows how far it ran meanwhile, not even at a fixed speed; the next coil begins at 0 m."""
    strip = PositionTracker(config.Travel(**settings), START, RestoredCoil("A", BEFORE))
    strip.sample(ns(0), 2.0)
    assert strip.on_coil(strip.at(ns(1))) == ("A", None)
    assert (strip.reading(ns(1)).coil, strip.reading(ns(1)).kept_since) == ("A", BEFORE)
    assert strip.begin("B", ns(1)) == Coil("A", None)
    assert strip.on_coil(strip.at(ns(2))) == ("B", pytest.approx(2.0))
    assert strip.on_coil(strip.at(ns(0.5))) == ("A", None), "a camera far down the line"
    assert strip.reading(ns(2)).kept_since is None


def test_coil_that_was_stopped_before_a_restart_stays_stopped():
    """Positions do not begin to count by themselves."""
    strip = PositionTracker(config.Travel(speed_m_per_s=2.0), START, RestoredCoil(None, BEFORE))
    assert strip.on_coil(strip.at(ns(1))) == (None, None)
    assert (strip.reading(ns(1)).coil, strip.reading(ns(1)).kept_since) == (None, None)
    assert strip.end(ns(2)) == Coil(None, None)


@pytest.mark.parametrize("retained", [True, False])
def test_topic_goes_before_the_coil_of_before_a_restart(retained):
    """The same name says that it is still there; another one, or none, that it is not; its begin was not seen."""
    strip = PositionTracker(config.Travel(topic="drive", coil_topic="coil"), START, RestoredCoil("A", BEFORE))
    strip.sample(ns(0), 2.0)
    assert strip.hear(CoilNamed(ns(0), "A", retained)) is None
    assert strip.reading(ns(0)).kept_since is None
    assert strip.on_coil(strip.at(ns(1))) == ("A", None)
    strip = PositionTracker(config.Travel(topic="drive", coil_topic="coil"), START, RestoredCoil("A", BEFORE))
    strip.sample(ns(0), 2.0)
    assert strip.hear(CoilNamed(ns(0), "B", retained)) == Coil("A", None)
    assert strip.on_coil(strip.at(ns(1))) == ("B", None)
    assert strip.hear(CoilNamed(ns(1), None, retained)) == Coil("B", None)


def test_without_a_speed_nothing_is_on():
    """No keys: no positions, no stale speed, and coils have names all the same."""
    strip = PositionTracker(config.Travel(), START)
    assert strip.at(ns(1)) is None
    assert strip.look(ns(1000)) is None
    strip.begin("A", ns(1))
    assert strip.reading(ns(1)).as_json()["coil"] == "A"


def test_span_with_a_sighting_that_has_no_place_has_no_length():
    """A length is told only when no sighting is missing from it."""

    def seen(segment, m):
        return Span(FramePoint(StripPosition(segment, m), 0.0), FramePoint(StripPosition(segment, m), 0.2))

    span = seen(0, 1.0).joined(seen(0, 0.9))
    assert (span.near.place, span.length_mm) == (StripPosition(0, 0.9), 300.0)
    assert span.joined(None).length_mm is None
    assert span.joined(seen(1, 0.0)).joined(seen(0, 1.0)).length_mm is None


def test_span_is_settled_by_what_was_told_after_it_was_seen():
    """The strip ran up between two messages: where it stood in between is known with the second."""
    strip = travel()
    strip.sample(ns(0), 1.0)
    first, last = strip.at(ns(1)), strip.at(ns(2))
    seen = Span(FramePoint(first, 0.5), FramePoint(last, 0.7))
    assert (strip.settled(seen).near.place.m, strip.settled(seen).length_mm) == pytest.approx((1.5, 1200.0))
    strip.sample(ns(2), 3.0)
    settled = strip.settled(seen)
    assert (settled.near.place.m, settled.length_mm) == pytest.approx((2.0, 2700.0))
    for n in range(MAX_KNOTS):
        strip.sample(ns(2.1) + n * 20 * NS_PER_MS, 3.0)
    assert strip.settled(seen) == seen, "long ago"
