"""Stamps, ids, the system clock and the fake clock of the tests."""

import re
import uuid
from datetime import UTC, datetime

import pytest
from fakes.clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from edge.host import clock

LAST_NS = 253_402_300_799_999_999_999  # the end of the year 9999


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999_999, "1970-01-01T00:00:00.000Z"),
        (1_000_000, "1970-01-01T00:00:00.001Z"),
        (999_999_999, "1970-01-01T00:00:00.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_795_355_171_482_000_000, "2026-11-22T13:46:11.482Z"),
        (LAST_NS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_stamp_cuts_to_milliseconds(ns, text):
    """A stamp is RFC 3339 in UTC and never rounds up into the next millisecond, second or year."""
    assert clock.stamp(ns) == text


@given(st.integers(0, LAST_NS))
def test_stamp_reads_back_within_a_millisecond(ns):
    """Parsing a stamp gives the same time, truncated to a millisecond."""
    read = datetime.fromisoformat(clock.stamp(ns)).astimezone(UTC)
    assert int(read.timestamp()) * 1000 + read.microsecond // 1000 == ns // 1_000_000


@given(st.integers(0, (1 << 48) * 1_000_000 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_the_form_of_rfc_9562(wall_ns, noise):
    """Version 7, the RFC's variant, lower case, and the millisecond in the first 48 bits."""
    text = clock.uuid7(wall_ns, noise)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
    value = uuid.UUID(text)
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert value.int >> 80 == wall_ns // 1_000_000


def test_uuid7_sorts_by_time():
    """Ids of different milliseconds sort as text in the order of time, whatever their random part."""
    ids = [clock.uuid7(ms * 1_000_000) for ms in range(1_790_000_000_000, 1_790_000_000_300)]
    assert ids == sorted(ids)


def test_uuid7_does_not_repeat_within_a_millisecond():
    """Many ids of one moment differ."""
    assert len({clock.uuid7(1_790_000_000_000_000_000) for _ in range(10_000)}) == 10_000


def test_uuid7_accepts_any_time():
    """A clock before 1970 or far away still gives a valid id."""
    assert uuid.UUID(clock.uuid7(-5)).version == 7
    assert uuid.UUID(clock.uuid7(1 << 200)).version == 7


def test_boot_id_is_the_same_for_the_whole_boot():
    """Two readings agree and are not empty."""
    assert clock.boot_id() == clock.boot_id() != ""


def test_clock_synced_answers_without_raising():
    """The answer is a plain bool on any machine, in a container too."""
    assert isinstance(clock.clock_synced(), bool)


def test_system_clock_runs_forward():
    """Monotonic time never goes back, and wall time is after the writing of this test."""
    system = clock.SystemClock()
    first, second = system.monotonic_ns(), system.monotonic_ns()
    assert first <= second
    assert system.wall_ns() > 1_700_000_000 * clock.NS_PER_S


def test_fake_clock_moves_only_when_advanced():
    """It stands still, and `advance` moves both times by the same step."""
    fake = FakeClock(wall_ns=10, monotonic_ns=20)
    assert (fake.wall_ns(), fake.monotonic_ns()) == (10, 20)
    fake.advance(1.002)
    assert (fake.wall_ns(), fake.monotonic_ns()) == (1_002_000_010, 1_002_000_020)
