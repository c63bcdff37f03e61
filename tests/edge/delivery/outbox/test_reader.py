"""Reading beside the publisher: from another process, and by readers that hold what they still need."""

from __future__ import annotations

import pytest
from fakes.clock import FakeClock
from fakes.delivery import draft
from fakes.outbox import open_outbox

from edge.delivery.outbox.limits import PRUNE_BATCH
from edge.delivery.outbox.reader import read_events, read_statistics
from edge.delivery.outbox.store import Outbox
from edge.errors import OutboxError
from edge.host.clock import NS_PER_S, stamp

KEPT = 10
"""Delivered events that stay without a reader."""


def open_short(folder, **changes) -> Outbox:
    """An outbox that keeps few delivered events."""
    return open_outbox(folder, keep_delivered=KEPT, durability="normal", **changes)


def deliver(box: Outbox, count: int) -> tuple[int, ...]:
    """Store `count` events and acknowledge each; returns their numbers."""
    seqs = box.append([draft(n) for n in range(count)])
    box.ack(seqs)
    return seqs


def kept(box: Outbox) -> list[int]:
    return [row.seq for row in box.after(0, 10_000)]


def test_slower_of_two_readers_keeps_its_events(tmp_path):
    """A second reader does not overwrite the first: the lowest number of both counts."""
    box = open_short(tmp_path)
    box.hold("slow", 0)
    box.hold("fast", 0)
    seqs = deliver(box, 600)
    box.hold("fast", seqs[-1])
    deliver(box, 1)
    assert [row.seq for row in box.after(0, 600)] == list(seqs)
    box.close()


def test_events_go_when_the_last_reader_has_come_past_them(tmp_path):
    """What no reader needs any more is pruned as if there were none."""
    box = open_short(tmp_path)
    box.hold("slow", 0)
    box.hold("fast", 0)
    seqs = deliver(box, 600)
    box.hold("fast", seqs[-1])
    box.hold("slow", seqs[299])
    (last,) = deliver(box, 1)
    assert kept(box) == [*seqs[300:], last]
    box.hold("slow", last)
    (last,) = deliver(box, 1)
    assert len(kept(box)) == KEPT
    box.close()


def test_released_reader_holds_nothing(tmp_path):
    """A removed output lets its events go; the other reader keeps what it needs."""
    box = open_short(tmp_path)
    box.hold("removed", 0)
    box.hold("other", 500)
    seqs = deliver(box, 600)
    box.release("removed")
    box.release("never there")
    (last,) = deliver(box, 1)
    assert kept(box) == [*seqs[500:], last]
    assert box.lost_by_readers == {"other": 0}
    box.close()


def test_reader_that_does_not_come_back_holds_nothing_after_a_restart(tmp_path):
    """Holds are not stored: an output that was removed from the configuration keeps no events."""
    box = open_short(tmp_path)
    box.hold("removed", 0)
    deliver(box, 600)
    box.close()
    again = open_short(tmp_path)
    deliver(again, 1)
    assert len(kept(again)) == KEPT
    again.close()


def test_slow_reader_loses_the_oldest_when_the_outbox_is_full(tmp_path, caplog):
    """Held events are bounded by `max_rows`; what a reader loses by that is counted for it, and logged once."""
    box = open_short(tmp_path, max_rows=300)
    box.hold("stuck", 100)
    box.hold("current", 0)
    for _ in range(20):
        box.hold("current", deliver(box, 100)[-1])
    assert 300 <= len(kept(box)) <= 300 + PRUNE_BATCH
    assert box.lost_by_readers == {"stuck": kept(box)[0] - 1 - 100, "current": 0}
    assert caplog.text.count("stuck") == 1
    assert "current" not in caplog.text
    box.close()


def test_reader_that_caught_up_and_falls_behind_again_is_logged_again(tmp_path, caplog):
    """One line for each time that a reader starts to lose events."""
    box = open_short(tmp_path, max_rows=300)
    for _ in range(2):
        box.hold("slow", box.last_seq)
        for _ in range(10):
            deliver(box, 100)
    box.hold("slow", box.last_seq)
    assert caplog.text.count("the reader slow") == 2
    assert box.lost_by_readers["slow"] == 2 * (1000 - 300)
    box.close()


def test_events_since_a_time_are_the_newest_oldest_first(tmp_path):
    """`--since` is about when an event was stored."""
    clock, path = FakeClock(), tmp_path / "outbox.db"
    box = open_outbox(tmp_path, clock=clock)
    box.append([draft(1)])
    clock.advance(60)
    box.append([draft(2), draft(3)])
    since = clock.wall_ns() - NS_PER_S
    assert [e.seq for e in read_events(path, since, 10)] == [2, 3]
    assert [e.seq for e in read_events(path, 0, 2)] == [2, 3]
    box.close()


def test_events_are_read_from_outside_while_the_outbox_is_open(tmp_path):
    """`defectd events` works beside the daemon, after it, and without any database."""
    path = tmp_path / "outbox.db"
    assert read_events(path, 0, 10) == ()
    box = open_outbox(tmp_path)
    box.append([draft(1), draft(2)])
    box.ack([1])
    assert [(e.seq, e.state) for e in read_events(path, 0, 10)] == [(1, "delivered"), (2, "waiting")]
    box.close()
    assert len(read_events(path, 0, 10)) == 2
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(OutboxError):
        read_events(path, 0, 10)


def test_statistics_count_what_waits_and_since_when(tmp_path):
    """The support bundle shows depth, bytes and age of the outbox from another process."""
    clock, path = FakeClock(), tmp_path / "outbox.db"
    assert read_statistics(path) is None
    box = open_outbox(tmp_path, clock=clock)
    box.append([draft(n) for n in range(4)])
    stored = stamp(clock.wall_ns())
    clock.advance(60)
    box.append([draft(5)])
    box.ack([1])
    box.refuse(2, 0x87, "no")
    found = read_statistics(path)
    assert found is not None
    assert (found.last_seq, found.waiting, found.delivered, found.refused) == (5, 3, 1, 1)
    assert found.oldest_waiting == stored
    box.close()
