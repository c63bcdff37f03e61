"""Dead letters: listed, retried and discarded, in the daemon or beside it."""

from __future__ import annotations

import pytest
from fakes.delivery import draft
from fakes.outbox import open_outbox, open_reporting, reported

from edge.delivery.outbox.dead_letters import BATCH, settle_dead_letters
from edge.delivery.outbox.reader import read_dead_letters, read_events
from edge.errors import OutboxError


def test_dead_letters_can_be_listed_retried_and_discarded(tmp_path):
    """Retried, they wait under their old number with their old payload; discarded, they are gone."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(1, 6)])
    for seq in (2, 3, 4):
        box.refuse(seq, 0x87, "not authorised")
    assert [(d.seq, d.code, d.reason) for d in box.dead_letters(2)] == [(n, 0x87, "not authorised") for n in (2, 3)]
    assert not box.has_returned()
    before = box.dead_letters(1)[0]
    assert box.retry([2, 99]) == 1
    assert (box.depth(), box.refused) == (3, 2)
    assert box.has_returned()
    assert not box.has_returned()
    assert (box.peek(1, 1)[0].seq, box.peek(1, 1)[0].payload) == (2, before.payload)
    assert box.discard([3]) == 1
    assert box.discard(None) == 1
    assert (box.refused, box.dead_letters(10)) == (0, ())
    box.close()


def test_dead_letters_are_settled_from_another_process(tmp_path):
    """The open outbox notices what another connection retried, and counts correctly; two writers do not conflict."""
    box = open_outbox(tmp_path)
    path = tmp_path / "outbox.db"
    box.append([draft(n) for n in range(1, 11)])
    for seq in range(1, 9):
        box.refuse(seq, 0x99, "no")
    assert [d.seq for d in read_dead_letters(path, 3)] == [1, 2, 3]
    assert [e.state for e in read_events(path, 0, 100, only_refused=True)] == ["refused"] * 8
    assert settle_dead_letters(path, "retry", [5, 6, 77]) == 2
    assert box.has_returned()
    assert (box.depth(), box.refused) == (4, 6)
    assert settle_dead_letters(path, "discard", None) == 6
    assert not box.has_returned()
    assert box.refused == 0
    box.ack([5, 6])
    assert box.depth() == 2
    assert settle_dead_letters(path, "retry", None) == 0
    box.close()
    assert settle_dead_letters(tmp_path / "none.db", "retry", None) == 0
    assert not (tmp_path / "none.db").exists()


def test_retry_here_does_not_hide_a_retry_by_another_process(tmp_path):
    """The publisher learns of both, though this process recounts the waiting bytes at its own."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(1, 4)])
    box.refuse(2, 0x99, "no")
    assert settle_dead_letters(tmp_path / "outbox.db", "retry", [2]) == 1
    assert box.retry([2]) == 0
    assert box.has_returned()
    assert box.depth() == 3
    box.close()


def test_dead_letters_of_a_file_that_is_no_database_are_refused(tmp_path):
    """A foreign or damaged file stays unchanged, and the caller gets an error."""
    path = tmp_path / "outbox.db"
    path.write_text("not a database at all, but long enough to look like one" * 40)
    with pytest.raises(OutboxError):
        settle_dead_letters(path, "discard", None)
    with pytest.raises(OutboxError):
        read_dead_letters(path, 5)


def test_dead_letters_beyond_the_limit_are_reported_with_their_range(tmp_path):
    """The oldest go, in batches; each batch is counted, logged and reported by an event."""
    box = open_reporting(tmp_path, max_dead=100)
    box.append([draft(n) for n in range(100 + BATCH)])
    for seq in range(1, 101 + BATCH):
        box.refuse(seq, 0x87, "no")
    assert (box.refused, box.dropped) == (100, BATCH)
    assert box.dead_letters(1)[0].seq == BATCH + 1
    assert {"first_seq": 1, "last_seq": BATCH, "count": BATCH, "cause": "full"} in reported(box)
    box.close()


def test_broker_that_refuses_every_report_ends_the_chain_of_reports(tmp_path):
    """A report of deleted dead letters may become one: that must not go on for ever."""
    box = open_reporting(tmp_path, max_dead=10)
    box.append([draft(n) for n in range(1000)])
    refused = 0
    while rows := box.peek(0, 100):
        for row in rows:
            refused += box.refuse(row.seq, 0x87, "no")
        assert refused < 3000
    assert box.refused < 10 + BATCH
    box.close()
