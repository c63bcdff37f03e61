"""Further readers of the outbox: each keeps what it needs, none keeps it for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes import FakeClock
from fakes.delivery import draft

from edge.delivery.outbox.store import PRUNE_BATCH, Outbox


def open_outbox(folder: Path, **changes: Any) -> Outbox:
    options: dict[str, Any] = {"max_rows": 1000, "keep_delivered": 10, "durability": "normal"} | changes
    return Outbox(folder / "outbox.db", clock=FakeClock(), **options)


def deliver(box: Outbox, count: int) -> tuple[int, ...]:
    """Store `count` events and acknowledge each; returns their numbers."""
    seqs = box.append([draft(n) for n in range(count)])
    box.ack(seqs)
    return seqs


def kept(box: Outbox) -> list[int]:
    return [row.seq for row in box.after(0, 10_000)]


def test_slower_of_two_readers_keeps_its_events(tmp_path):
    """A second reader does not overwrite the first: the lowest number of both counts."""
    box = open_outbox(tmp_path)
    box.hold("slow", 0)
    box.hold("fast", 0)
    seqs = deliver(box, 600)
    box.hold("fast", seqs[-1])
    deliver(box, 1)
    assert [row.seq for row in box.after(0, 600)] == list(seqs)
    box.close()


def test_events_go_when_the_last_reader_has_come_past_them(tmp_path):
    """What no reader needs any more is pruned as if there were none."""
    box = open_outbox(tmp_path)
    box.hold("slow", 0)
    box.hold("fast", 0)
    seqs = deliver(box, 600)
    box.hold("fast", seqs[-1])
    box.hold("slow", seqs[299])
    (last,) = deliver(box, 1)
    assert kept(box) == [*seqs[300:], last]
    box.hold("slow", last)
    (last,) = deliver(box, 1)
    assert len(kept(box)) == 10
    box.close()


def test_released_reader_holds_nothing(tmp_path):
    """A removed output lets its events go; the other reader keeps what it needs."""
    box = open_outbox(tmp_path)
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
    box = open_outbox(tmp_path)
    box.hold("removed", 0)
    deliver(box, 600)
    box.close()
    again = open_outbox(tmp_path)
    deliver(again, 1)
    assert len(kept(again)) == 10
    again.close()


def test_slow_reader_loses_the_oldest_when_the_outbox_is_full(tmp_path, caplog):
    """Held events are bounded by `max_rows`; what a reader loses by that is counted for it, and logged once."""
    box = open_outbox(tmp_path, max_rows=300)
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
    """One line for each time that a reader begins to lose events."""
    box = open_outbox(tmp_path, max_rows=300)
    for _ in range(2):
        box.hold("slow", box.last_seq)
        for _ in range(10):
            deliver(box, 100)
    box.hold("slow", box.last_seq)
    assert caplog.text.count("the reader slow") == 2
    assert box.lost_by_readers["slow"] == 2 * (1000 - 300)
    box.close()
