"""The outbox: numbers without a gap, no event lost, every loss reported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from fakes.delivery import draft
from fakes.outbox import counted_bytes, damage, known_bytes, open_outbox, open_reporting, reported, sized
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.outbox.dead_letters import settle_dead_letters
from edge.delivery.outbox.limits import PRUNE_BATCH
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.rows import Draft
from edge.delivery.outbox.store import MIB, Outbox
from edge.errors import OutboxError


@pytest.fixture
def box(tmp_path):
    box = open_outbox(tmp_path)
    yield box
    box.close()


def test_append_numbers_from_one_and_writes_the_number_into_the_payload(box):
    """The stored bytes are compact JSON that carries its own seq."""
    assert box.append([draft(1), draft(2)]) == (1, 2)
    assert box.append([]) == ()
    first, second = box.peek(0, 10)
    assert json.loads(first.payload)["seq"] == first.seq == 1
    assert b" " not in second.payload
    assert box.depth() == 2
    assert box.last_seq == 2


def test_peek_is_in_order_and_starts_after_the_given_number(box):
    """The publisher reads a window in the order of seq."""
    box.append([draft(n) for n in range(5)])
    assert [row.seq for row in box.peek(2, 2)] == [3, 4]


def test_numbers_continue_after_every_event_was_deleted(tmp_path):
    """The next seq comes from a counter, not from the largest row."""
    box = open_outbox(tmp_path, keep_delivered=0)
    box.ack(box.append([draft(n) for n in range(PRUNE_BATCH)]))
    assert box.after(0, 10) == ()
    box.close()
    again = open_outbox(tmp_path)
    assert again.append([draft(0)]) == (PRUNE_BATCH + 1,)
    again.close()


def test_payload_that_is_not_json_stores_nothing_and_uses_no_number(box):
    """A batch is stored whole or not at all."""
    with pytest.raises(ValueError, match="float"):
        box.append([draft(1), Draft("t", {"event_id": "x", "seq": 0, "bad": float("nan")}, "x")])
    assert box.depth() == 0
    assert box.append([draft(2)]) == (1,)


def test_files_belong_to_the_owner_only(tmp_path):
    """The directory has mode 0700, the files 0600."""
    box = open_outbox(tmp_path / "state")
    box.append([draft(1)])
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "state").iterdir()} == {0o600}
    box.close()


def test_refused_event_is_kept_and_its_gap_is_reported_once(tmp_path):
    """A dead letter no longer waits, stays readable, and an events.dropped event reports its number."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(3)])
    assert box.refuse(2, 0x87, "not authorised")
    assert not box.refuse(2, 0x87, "not authorised")
    assert [row.seq for row in box.peek(0, 10)] == [1, 3, 4]
    assert reported(box) == [{"first_seq": 2, "last_seq": 2, "count": 1, "cause": "refused"}]
    dead = read_events(tmp_path / "outbox.db", 0, 10, only_refused=True)
    assert [(e.seq, e.state, e.reason) for e in dead] == [(2, "refused", "not authorised")]
    assert box.refused == 1
    box.close()


def test_refused_report_of_a_loss_causes_no_further_report(tmp_path):
    """Reporting a loss never leads to another loss to report."""
    box = open_reporting(tmp_path)
    box.append([draft(1)])
    box.refuse(1, 0x87, "no")
    (report,) = box.peek(0, 10)
    box.refuse(report.seq, 0x87, "no")
    assert box.depth() == 0
    box.close()


def test_bytes_are_counted_correctly_whatever_changes_them(tmp_path):
    """After ack, refuse and retry, by this process or another, after a failure, a restart and damage."""
    box = open_reporting(tmp_path, max_bytes=MIB)
    path = tmp_path / "outbox.db"

    def check() -> None:
        assert known_bytes(box) == counted_bytes(box)

    box.append([sized(n, 10 * n) for n in range(1, 20)])
    assert box.ack([1, 2, 2, 77]) == 2
    check()
    for seq in (3, 4, 5, 6):
        box.refuse(seq, 0x87, "no")
        check()
    box.retry([4])
    check()
    with pytest.raises(ValueError):
        box.append([sized(30, 5000), Draft("t", {"seq": 0, "x": object()}, "x")])
    check()
    settle_dead_letters(path, "retry", [5, 6])
    assert box.has_returned()
    check()
    box.close()
    box = open_outbox(tmp_path)
    check()
    box.append([sized(n, 1000) for n in range(200)])
    box.close()
    damage(path, path.stat().st_size * 3 // 4 // 4096 * 4096, 4096 * 3)
    box = open_outbox(tmp_path)
    assert list(tmp_path.glob("outbox.db.damaged-*"))
    assert known_bytes(box) > 0
    check()
    box.close()


def numbers_reported(payloads) -> tuple[set[int], int]:
    """The numbers within all reported ranges, and the sum of the reported counts."""
    details = [json.loads(p)["detail"] for p in payloads if b"events.dropped" in p]
    ranges = [range(d["first_seq"], d["last_seq"] + 1) for d in details]
    return {seq for numbers in ranges for seq in numbers}, sum(d["count"] for d in details)


@given(
    max_rows=st.integers(1, 12),
    max_bytes=st.sampled_from([None, 1, 3000, 4000]),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5)),
            st.tuples(st.just("broken"), st.integers(1, 3)),
            st.tuples(st.just("peek"), st.integers(1, 6)),
            st.tuples(st.just("ack"), st.integers(1, 6)),
            st.tuples(st.just("refuse"), st.integers(0, 5)),
            st.tuples(st.just("alarm"), st.integers(1, 1500)),
            st.tuples(st.just("reopen"), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_every_number_is_waiting_delivered_refused_or_reported_as_lost(tmp_path_factory, max_rows, max_bytes, steps):
    """Over any history of use, seq has no gap, and no number vanishes without a report."""
    folder = tmp_path_factory.mktemp("box")
    options = {"max_rows": max_rows, "max_bytes": max_bytes, "keep_delivered": 100_000}
    box = open_reporting(folder, **options)
    used: list[int] = []
    taken: dict[int, bytes] = {}
    for what, number in steps:
        waiting = box.peek(0, 100) if what in ("ack", "refuse") else ()
        if what == "append":
            used += box.append([draft(n) for n in range(number)])
        elif what == "alarm":
            used += box.append([sized(number, number, "alarm")])
            assert max_bytes is None or box.depth() == 1 or known_bytes(box) <= max_bytes
        elif what == "broken":
            with pytest.raises(ValueError):
                box.append([*(draft(n) for n in range(number)), Draft("t", {"seq": 0, "x": object()}, "x")])
        elif what == "peek":
            box.peek(0, number)
        elif what == "ack":
            box.ack([row.seq for row in waiting[:number]])
            taken |= {row.seq: row.payload for row in waiting[:number]}
        elif what == "refuse" and len(waiting) > number:
            box.refuse(waiting[number].seq, 0x99, "no")
        elif what == "reopen":
            box.close()
            box = open_reporting(folder, **options)
        assert known_bytes(box) == counted_bytes(box)
    assert box.depth() <= max_rows + 1  # the report of a refusal may exceed the limit until the next append
    rest = {row.seq: row.payload for row in box.peek(0, 1000)}
    dead = {e.seq: e.payload for e in read_events(folder / "outbox.db", 0, 10**6, only_refused=True)}
    lost, count = numbers_reported([*taken.values(), *rest.values(), *dead.values()])
    every = set(range(1, box.last_seq + 1))
    seen = set(taken) | set(rest)
    assert len(set(used)) == len(used)
    assert used == sorted(used)
    assert every - seen <= lost | set(dead)
    if not dead:
        assert count == len(every - seen)
    box.close()


def test_two_threads_append_and_acknowledge_at_once(tmp_path):
    """The recorder's and the publisher's thread share the outbox without losing a row."""
    box = open_outbox(tmp_path, max_rows=100_000, durability="normal")
    done = threading.Event()
    got: list[int] = []

    def drain() -> None:
        while not done.is_set() or box.depth():
            rows = box.peek(0, 20)
            got.extend(row.seq for row in rows)
            box.ack(row.seq for row in rows)

    thread = threading.Thread(target=drain)
    thread.start()
    for n in range(300):
        box.append([draft(n)])
    done.set()
    thread.join(20)
    assert got == list(range(1, 301))
    box.close()


def test_committed_events_survive_a_kill(tmp_path):
    """kill -9 during an append loses no event that append returned from, and no number."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from edge.host.clock import SystemClock
        from edge.delivery.outbox.rows import Draft
        from edge.delivery.outbox.store import Outbox
        box = Outbox(Path(sys.argv[1]), max_rows=10**6, keep_delivered=10, durability="full", clock=SystemClock())
        while True:
            for seq in box.append([Draft("t", {"event_id": "a", "seq": 0}, "a")] * 3):
                print(seq, flush=True)
        """
    )
    path = tmp_path / "outbox.db"
    last = 0
    for lines in (5, 31):
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(lines):
            line = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait(10)
        child.stdout.close()
        last = max(int(line), *map(int, rest), last) if rest else int(line)
    box = open_outbox(tmp_path, max_rows=10**6)
    rows = box.peek(0, 10**6)
    assert [row.seq for row in rows] == list(range(1, box.last_seq + 1))
    assert last <= box.last_seq <= last + 3
    box.close()


def test_full_disk_is_an_outbox_error_and_passes(tmp_path):
    """An append without space on the disk raises, keeps the count, and works once there is space."""
    box = open_outbox(tmp_path)
    box.append([draft(1)])
    box._db.execute(f"PRAGMA max_page_count={box._db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(OutboxError, match="disk is full"):  # noqa: PT012 (SQLite decides at which row)
        for n in range(1000):
            box.append([draft(n)])
    last = box.last_seq
    box._db.execute("PRAGMA max_page_count=100000")
    assert box.append([draft(2)]) == (last + 1,)
    assert box.depth() == last + 1
    box.close()


def test_closed_outbox_raises_its_own_error(tmp_path):
    """No sqlite3 error leaves the package, and closing twice is safe."""
    box: Outbox = open_outbox(tmp_path)
    box.close()
    box.close()
    with pytest.raises(OutboxError):
        box.append([draft(1)])
