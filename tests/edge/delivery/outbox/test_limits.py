"""The limits of the outbox: what goes first, and how the loss is reported."""

from __future__ import annotations

from fakes.delivery import draft
from fakes.outbox import counted_bytes, known_bytes, open_outbox, open_reporting, reported, sized

from edge.delivery.outbox.limits import PRUNE_BATCH
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.store import MIB


def test_acknowledged_events_stay_readable_and_are_pruned_in_batches(tmp_path):
    """Delivered events stay readable up to keep_delivered."""
    box, path = open_outbox(tmp_path), tmp_path / "outbox.db"
    total = 50 + PRUNE_BATCH
    seqs = box.append([draft(n) for n in range(total)])
    assert box.ack(seqs[:-1]) == total - 1
    assert len(read_events(path, 0, 10_000)) == total
    assert box.ack(seqs) == 1
    assert box.depth() == 0
    kept = read_events(path, 0, 10_000)
    assert [e.seq for e in kept] == list(seqs[-50:])
    assert {e.state for e in kept} == {"delivered"}
    box.close()


def test_full_outbox_drops_the_oldest_and_reports_it_in_one_row(tmp_path):
    """However many appends overflow, one row that no reader has seen reports the whole range."""
    box = open_reporting(tmp_path, max_rows=10)
    for n in range(10):
        box.append([draft(n)])
    for n in range(6):
        box.append([draft(n)])
    assert box.depth() == 10
    assert box.dropped == 7
    assert reported(box) == [{"first_seq": 1, "last_seq": 7, "count": 7, "cause": "full"}]
    numbers = [row.seq for row in box.peek(0, 100)]
    assert numbers == list(range(8, 18))
    box.close()


def test_report_that_was_peeked_is_never_changed(tmp_path):
    """A row that may be on its way to the broker stays as it is; the next loss gets its own row."""
    box = open_reporting(tmp_path, max_rows=10)
    box.append([draft(n) for n in range(11)])
    before = [row.payload for row in box.peek(0, 100) if b"events.dropped" in row.payload]
    box.append([draft(99)])
    after = [row.payload for row in box.peek(0, 100) if b"events.dropped" in row.payload]
    assert len(after) == 2
    assert after[0] == before[0]
    box.close()


def test_bytes_are_limited_and_the_loss_is_reported(tmp_path):
    """Few large events fill the outbox as well as many small ones."""
    box = open_reporting(tmp_path, max_bytes=MIB)
    for n in range(30):
        box.append([sized(n, 100_000)])
        assert known_bytes(box) == counted_bytes(box) <= MIB
    (detail,) = reported(box)
    waiting = [row.seq for row in box.peek(0, 100)]
    lost = set(range(1, box.last_seq + 1)) - set(waiting)
    assert (detail["first_seq"], detail["last_seq"], detail["count"]) == (1, max(lost), len(lost))
    assert box.dropped == len(lost) == 20
    box.close()


def test_events_of_severity_info_go_before_a_defect(tmp_path):
    """The oldest of severity info go first, for rows and for bytes; when none is left, the oldest of all."""
    box = open_reporting(tmp_path, max_bytes=MIB, max_rows=20)
    box.append([sized(n, 200_000, severity) for n, severity in enumerate(("alarm", "info", "warning", "info"))])
    box.append([sized(5, 200_000, "alarm"), sized(6, 100_000, "alarm")])
    assert [row.seq for row in box.peek(0, 10)] == [1, 3, 4, 5, 6, 7]
    assert reported(box) == [{"first_seq": 2, "last_seq": 2, "count": 1, "cause": "full"}]
    box.append([sized(7, 400_000, "alarm")])
    assert [row.seq for row in box.peek(0, 10)] == [3, 5, 6, 7, 8, 9]
    assert reported(box)[1] == {"first_seq": 1, "last_seq": 4, "count": 2, "cause": "full"}
    box.append([draft(n) for n in range(30)])
    assert [row.seq for row in box.peek(0, 10)][:6] == [3, 5, 6, 7, 8, 9]
    assert box.depth() == 20
    box.close()


def test_full_outbox_finds_the_first_victim_without_a_search(tmp_path):
    """An outbox full of alarms is not searched from end to end for each new event."""
    box = open_outbox(tmp_path)
    plan = box._db.execute(
        "EXPLAIN QUERY PLAN SELECT seq, length(payload) FROM event"
        " WHERE delivered_ns IS NULL AND severity = 'info' ORDER BY seq"
    ).fetchall()
    assert "event_minor" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    box.close()
