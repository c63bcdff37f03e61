"""The event store: gapless numbers, nothing lost, every loss told."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from fakes import FakeClock
from fakes.delivery import draft
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.outbox import store
from edge.delivery.outbox.store import Draft, Loss, Outbox, read_dead_letters, read_events, settle_dead_letters
from edge.errors import OutboxError
from edge.host.clock import NS_PER_S


def open_outbox(folder: Path, **changes) -> Outbox:
    options = {"max_rows": 1000, "keep_delivered": 50, "durability": "full", "clock": FakeClock(), **changes}
    return Outbox(folder / "outbox.db", **options)


def loss_draft(loss: Loss) -> Draft:
    detail = {"first_seq": loss.first_seq, "last_seq": loss.last_seq, "count": loss.count, "cause": loss.cause}
    return Draft("n/event", {"event_id": "loss", "seq": 0, "type": "events.dropped", "detail": detail}, "loss", "alarm")


def details(box: Outbox) -> list[dict]:
    payloads = [json.loads(row.payload) for row in box.peek(0, 10_000)]
    return [p["detail"] for p in payloads if p.get("type") == "events.dropped"]


@pytest.fixture
def box(tmp_path):
    box = open_outbox(tmp_path)
    yield box
    box.close()


def test_append_numbers_from_one_and_writes_the_number_into_the_payload(box):
    """The stored bytes are compact JSON that carries their own seq."""
    assert box.append([draft(1), draft(2)]) == (1, 2)
    assert box.append([]) == ()
    first, second = box.peek(0, 10)
    assert json.loads(first.payload)["seq"] == first.seq == 1
    assert b" " not in second.payload
    assert box.depth() == 2
    assert box.last_seq == 2


def test_peek_is_in_order_and_starts_after_the_given_number(box):
    """A window is read in the order of seq."""
    box.append([draft(n) for n in range(5)])
    assert [row.seq for row in box.peek(2, 2)] == [3, 4]


def test_acknowledged_events_are_history_and_pruned_in_batches(box):
    """Delivered events stay readable up to keep_delivered."""
    total = 50 + store.PRUNE_BATCH
    seqs = box.append([draft(n) for n in range(total)])
    assert box.ack(seqs[:-1]) == total - 1
    assert len(box.history(0, 10_000)) == total
    assert box.ack(seqs) == 1
    assert box.depth() == 0
    kept = box.history(0, 10_000)
    assert [e.seq for e in kept] == list(seqs[-50:])
    assert {e.state for e in kept} == {"delivered"}


def test_numbers_go_on_after_everything_was_deleted(tmp_path):
    """seq is a counter, not the largest row."""
    box = open_outbox(tmp_path, keep_delivered=0)
    box.ack(box.append([draft(n) for n in range(store.PRUNE_BATCH)]))
    assert box.history(0, 10) == ()
    box.close()
    again = open_outbox(tmp_path)
    assert again.append([draft(0)]) == (store.PRUNE_BATCH + 1,)
    again.close()


def test_payload_that_is_no_json_stores_nothing_and_uses_no_number(box):
    """A batch is stored whole or not at all."""
    with pytest.raises(ValueError, match="float"):
        box.append([draft(1), Draft("t", {"event_id": "x", "seq": 0, "bad": float("nan")}, "x")])
    assert box.depth() == 0
    assert box.append([draft(2)]) == (1,)


def test_files_are_for_the_owner_only(tmp_path):
    """Directory 0700, files 0600."""
    box = open_outbox(tmp_path / "state")
    box.append([draft(1)])
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "state").iterdir()} == {0o600}
    box.close()


def test_refused_event_is_kept_and_its_gap_is_told_once(box):
    """A dead letter leaves the queue, stays in the history, and its number is in an events.dropped."""
    box.tell_losses_by(loss_draft)
    box.append([draft(n) for n in range(3)])
    assert box.refuse(2, 0x87, "not authorised")
    assert not box.refuse(2, 0x87, "not authorised")
    assert [row.seq for row in box.peek(0, 10)] == [1, 3, 4]
    assert details(box) == [{"first_seq": 2, "last_seq": 2, "count": 1, "cause": "refused"}]
    dead = [e for e in box.history(0, 10) if e.state == "refused"]
    assert [(e.seq, e.reason) for e in dead] == [(2, "not authorised")]
    assert box.refused == 1


def test_refused_loss_event_is_not_told_by_another(box):
    """Telling a loss never leads to a loss to be told."""
    box.tell_losses_by(loss_draft)
    box.append([draft(1)])
    box.refuse(1, 0x87, "no")
    (told,) = box.peek(0, 10)
    box.refuse(told.seq, 0x87, "no")
    assert box.depth() == 0


def test_full_outbox_drops_the_oldest_and_tells_it_in_one_row(tmp_path):
    """However many appends overflow, one untransmitted row holds the whole range."""
    box = open_outbox(tmp_path, max_rows=10)
    box.tell_losses_by(loss_draft)
    for n in range(10):
        box.append([draft(n)])
    for n in range(6):
        box.append([draft(n)])
    assert box.depth() == 10
    assert box.dropped == 7
    assert details(box) == [{"first_seq": 1, "last_seq": 7, "count": 7, "cause": "full"}]
    numbers = [row.seq for row in box.peek(0, 100)]
    assert numbers == list(range(8, 18))
    box.close()


def test_loss_row_that_was_handed_out_is_never_changed(tmp_path):
    """What may be on the wire stays as it is; the next loss gets a row of its own."""
    box = open_outbox(tmp_path, max_rows=10)
    box.tell_losses_by(loss_draft)
    box.append([draft(n) for n in range(11)])
    before = [row.payload for row in box.peek(0, 100) if b"events.dropped" in row.payload]
    box.append([draft(99)])
    after = [row.payload for row in box.peek(0, 100) if b"events.dropped" in row.payload]
    assert len(after) == 2
    assert after[0] == before[0]
    box.close()


def numbers_told(payloads) -> tuple[set[int], int]:
    """The numbers within told ranges, and the sum of the told counts."""
    told = [json.loads(p)["detail"] for p in payloads if b"events.dropped" in p]
    ranges = [range(d["first_seq"], d["last_seq"] + 1) for d in told]
    return {seq for numbers in ranges for seq in numbers}, sum(d["count"] for d in told)


def counted_bytes(box: Outbox) -> int:
    """Payload of the undelivered events, as the store itself has it."""
    query = "SELECT coalesce(sum(length(payload)), 0) FROM event WHERE delivered_ns IS NULL"
    return box._db.execute(query).fetchone()[0]


def sized(number: int, size_bytes: int, severity: str = "info") -> Draft:
    """An event of at least so many bytes."""
    return Draft("t", {"event_id": f"e{number}", "seq": 0, "fill": "x" * size_bytes}, f"e{number}", severity)


def test_bytes_are_bounded_and_what_goes_is_told(tmp_path):
    """Few large events fill the outbox as well as many small ones."""
    box = open_outbox(tmp_path, max_bytes=store.MIB)
    box.tell_losses_by(loss_draft)
    for n in range(30):
        box.append([sized(n, 100_000)])
        assert box.waiting_bytes() == counted_bytes(box) <= store.MIB
    (told,) = details(box)
    waiting = [row.seq for row in box.peek(0, 100)]
    lost = set(range(1, box.last_seq + 1)) - set(waiting)
    assert (told["first_seq"], told["last_seq"], told["count"]) == (1, max(lost), len(lost))
    assert box.dropped == len(lost) == 20
    box.close()


def test_events_of_no_consequence_go_before_a_defect(tmp_path):
    """Of severity info the oldest go first, for rows and for bytes; when none is left, the oldest of all."""
    box = open_outbox(tmp_path, max_bytes=store.MIB, max_rows=20)
    box.tell_losses_by(loss_draft)
    box.append([sized(n, 200_000, severity) for n, severity in enumerate(("alarm", "info", "warning", "info"))])
    box.append([sized(5, 200_000, "alarm"), sized(6, 100_000, "alarm")])
    assert [row.seq for row in box.peek(0, 10)] == [1, 3, 4, 5, 6, 7]
    assert details(box) == [{"first_seq": 2, "last_seq": 2, "count": 1, "cause": "full"}]
    box.append([sized(7, 400_000, "alarm")])
    assert [row.seq for row in box.peek(0, 10)] == [3, 5, 6, 7, 8, 9]
    assert details(box)[1] == {"first_seq": 1, "last_seq": 4, "count": 2, "cause": "full"}
    box.append([draft(n) for n in range(30)])
    assert [row.seq for row in box.peek(0, 10)][:6] == [3, 5, 6, 7, 8, 9]
    assert box.depth() == 20
    box.close()


def test_bytes_are_counted_right_whatever_happens_to_them(tmp_path):
    """After acknowledging, refusing, taking back, by this process or another, a failure, a new opening, a damage."""
    box = open_outbox(tmp_path, max_bytes=store.MIB)
    box.tell_losses_by(loss_draft)
    path = tmp_path / "outbox.db"

    def agree() -> None:
        assert box.waiting_bytes() == counted_bytes(box)

    box.append([sized(n, 10 * n) for n in range(1, 20)])
    assert box.ack([1, 2, 2, 77]) == 2
    agree()
    for seq in (3, 4, 5, 6):
        box.refuse(seq, 0x87, "no")
        agree()
    box.retry([4])
    agree()
    with pytest.raises(ValueError):
        box.append([sized(30, 5000), Draft("t", {"seq": 0, "x": object()}, "x")])
    agree()
    settle_dead_letters(path, "retry", [5, 6])
    assert box.has_returned()
    agree()
    box.close()
    box = open_outbox(tmp_path)
    agree()
    box.append([sized(n, 1000) for n in range(200)])
    box.close()
    spoil(path, path.stat().st_size * 3 // 4 // 4096 * 4096, 4096 * 3)
    box = open_outbox(tmp_path)
    assert box.recovered_from is not None
    assert box.waiting_bytes() > 0
    agree()
    box.close()


def test_full_outbox_finds_what_goes_first_without_a_search(tmp_path):
    """A store full of alarms is not walked through for each event that comes."""
    box = open_outbox(tmp_path)
    plan = box._db.execute(
        "EXPLAIN QUERY PLAN SELECT seq, length(payload) FROM event"
        " WHERE delivered_ns IS NULL AND severity = 'info' ORDER BY seq"
    ).fetchall()
    assert "event_minor" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    box.close()


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
def test_every_number_is_waiting_delivered_refused_or_told_as_lost(tmp_path_factory, max_rows, max_bytes, steps):
    """Over any history of use, seq has no gap, and no number vanishes without being told."""
    folder = tmp_path_factory.mktemp("box")
    options = {"max_rows": max_rows, "max_bytes": max_bytes, "keep_delivered": 100_000}
    box = open_outbox(folder, **options)
    box.tell_losses_by(loss_draft)
    given_out: list[int] = []
    taken: dict[int, bytes] = {}
    for what, number in steps:
        waiting = box.peek(0, 100) if what in ("ack", "refuse") else ()
        if what == "append":
            given_out += box.append([draft(n) for n in range(number)])
        elif what == "alarm":
            given_out += box.append([sized(number, number, "alarm")])
            assert max_bytes is None or box.depth() == 1 or box.waiting_bytes() <= max_bytes
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
            box = open_outbox(folder, **options)
            box.tell_losses_by(loss_draft)
        assert box.waiting_bytes() == counted_bytes(box)
    assert box.depth() <= max_rows + 1  # a refusal may be told beyond the limit, until the next append
    rest = {row.seq: row.payload for row in box.peek(0, 1000)}
    dead = {e.seq: e.payload for e in box.history(0, 10**6) if e.state == "refused"}
    told, count = numbers_told([*taken.values(), *rest.values(), *dead.values()])
    every = set(range(1, box.last_seq + 1))
    seen = set(taken) | set(rest)
    assert len(set(given_out)) == len(given_out)
    assert given_out == sorted(given_out)
    assert every - seen <= told | set(dead)
    if not dead:
        assert count == len(every - seen)
    box.close()


def test_two_threads_append_and_acknowledge_at_once(tmp_path):
    """The recorder's and the publisher's thread share the store without losing a row."""
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
    """kill -9 in the middle of appending loses nothing that append returned from, and no number."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from edge.host.clock import SystemClock
        from edge.delivery.outbox.store import Draft, Outbox
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


# ---- damage ------------------------------------------------------------------------------------------


def spoil(path: Path, offset: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(os.urandom(length))


def test_damaged_header_is_moved_aside_and_counting_goes_on(tmp_path, caplog):
    """A file that is no database any more costs its rows, is told, and no number comes twice."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(5)])
    box.close()
    spoil(tmp_path / "outbox.db", 0, 4096)
    again = open_outbox(tmp_path)
    again.tell_losses_by(loss_draft)
    assert again.recovered_from is not None
    assert again.recovered_from.exists()
    assert "is damaged" in caplog.text
    (seq,) = again.append([draft(9)])
    assert seq > 5
    (told,) = details(again)
    assert (told["first_seq"], told["last_seq"], told["cause"]) == (1, seq - 1, "damaged")
    again.close()


def test_rows_before_the_damage_are_saved(tmp_path):
    """What can still be read of a damaged store is brought over, unchanged."""
    box = open_outbox(tmp_path, max_rows=10_000)
    box.append([draft(n) for n in range(2000)])
    rows = box.peek(0, 10_000)
    box.close()
    path = tmp_path / "outbox.db"
    spoil(path, path.stat().st_size * 3 // 4 // 4096 * 4096, 4096 * 3)
    again = open_outbox(tmp_path, max_rows=10_000)
    saved = again.peek(0, 10_000)
    assert again.recovered_from is not None
    assert len(saved) > 100
    assert set(saved) <= set(rows)
    again.tell_losses_by(loss_draft)
    (fresh,) = again.append([draft(0)])
    assert fresh > 2000
    (told,) = details(again)
    lost = {row.seq for row in rows} - {row.seq for row in saved}
    assert all(told["first_seq"] <= seq <= told["last_seq"] for seq in lost)
    again.close()


def test_damage_found_while_running_is_mended_by_the_next_append(tmp_path):
    """The caller sees one OutboxError; then the store works again."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(500)])
    box._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    box._db.execute("PRAGMA cache_size=0")
    path = tmp_path / "outbox.db"
    spoil(path, 4096, path.stat().st_size - 4096)
    with pytest.raises(OutboxError):  # noqa: PT012 (which of them meets the damage is up to sqlite)
        for n in range(1000):
            box.append([draft(n)])
            box.peek(0, 1000)
    assert box.append([draft(1)])[0] > 500
    assert box.recovered_from is not None
    box.close()


def test_database_deleted_by_hand_does_not_repeat_numbers(tmp_path):
    """The side file remembers what may have been used."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(15)])
    box.close()
    for path in tmp_path.glob("outbox.db*"):
        if path.suffix != ".seq":
            path.unlink()
    again = open_outbox(tmp_path)
    assert again.append([draft(1)])[0] > 15
    again.close()


def test_power_cut_without_sync_does_not_repeat_numbers(tmp_path, monkeypatch):
    """With durability normal, another boot after an unclean end skips what may have been sent."""
    box = open_outbox(tmp_path, durability="normal")
    box.append([draft(1)])
    box._db.close()  # no clean end
    monkeypatch.setattr(store, "boot_id", lambda: "another boot")
    again = open_outbox(tmp_path)
    again.tell_losses_by(loss_draft)
    (seq,) = again.append([draft(2)])
    assert seq > store.SEQ_BLOCK
    assert details(again)[0]["cause"] == "power"
    again.close()
    third = open_outbox(tmp_path)
    assert third.append([draft(3)]) == (seq + 2,)  # one number told the loss
    third.close()


def test_newer_format_is_refused(tmp_path):
    """A database of a later version is left alone."""
    db = sqlite3.connect(tmp_path / "outbox.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(OutboxError, match="newer defectd"):
        open_outbox(tmp_path)


def test_full_disk_is_an_outbox_error_and_passes(tmp_path):
    """An append that finds no room raises, keeps the count, and works once there is room."""
    box = open_outbox(tmp_path)
    box.append([draft(1)])
    box._db.execute(f"PRAGMA max_page_count={box._db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(OutboxError, match="disk is full"):  # noqa: PT012 (at some row)
        for n in range(1000):
            box.append([draft(n)])
    last = box.last_seq
    box._db.execute("PRAGMA max_page_count=100000")
    assert box.append([draft(2)]) == (last + 1,)
    assert box.depth() == last + 1
    box.close()


def test_state_directory_that_cannot_be_made_is_an_outbox_error(tmp_path):
    """A file where a directory should be: one error that names it."""
    (tmp_path / "state").write_text("")
    with pytest.raises(OutboxError, match="state"):
        open_outbox(tmp_path / "state")


def test_closed_outbox_raises_its_own_error(tmp_path):
    """No sqlite3 error crosses the door, and closing twice is safe."""
    box = open_outbox(tmp_path)
    box.close()
    box.close()
    with pytest.raises(OutboxError):
        box.append([draft(1)])


# ---- history -----------------------------------------------------------------------------------------


def test_history_gives_the_newest_since_a_time_oldest_first(tmp_path):
    """`--since` is about when an event was stored."""
    clock = FakeClock()
    box = open_outbox(tmp_path, clock=clock)
    box.append([draft(1)])
    clock.advance(60)
    box.append([draft(2), draft(3)])
    since = clock.wall_ns() - NS_PER_S
    assert [e.seq for e in box.history(since, 10)] == [2, 3]
    assert [e.seq for e in box.history(0, 2)] == [2, 3]
    assert box.oldest_ns() == clock.wall_ns() - 60 * NS_PER_S
    box.close()


def test_events_are_read_from_outside_while_the_store_is_open(tmp_path):
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


def test_dead_letters_can_be_listed_put_back_and_deleted(box):
    """Put back they wait under their old number and words; deleted they are gone."""
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


def test_dead_letters_are_settled_from_another_process(tmp_path):
    """The open store notices what another connection put back, and counts right; two writers do not disturb."""
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


def test_dead_letters_of_a_store_that_is_none_are_refused(tmp_path):
    """A foreign or damaged file is left alone and told."""
    path = tmp_path / "outbox.db"
    path.write_text("not a database at all, but long enough to look like one" * 40)
    with pytest.raises(OutboxError):
        settle_dead_letters(path, "discard", None)
    with pytest.raises(OutboxError):
        read_dead_letters(path, 5)
