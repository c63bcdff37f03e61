"""Damage to the files of an outbox: what is readable stays, what is lost is reported, and a kill changes neither."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys

import pytest
from fakes.delivery import draft
from fakes.outbox import damage, open_outbox, open_reporting, reported

from edge.delivery.outbox import wal
from edge.delivery.outbox.reader import read_dead_letters
from edge.errors import OutboxError

PAGE = 4096
FRAME = 24 + PAGE


def killed(folder, count=23):
    """The files of an outbox whose process was killed, and the rows that it held."""
    box = open_reporting(folder / "alive")
    for n in range(count):
        box.append([draft(n)])
    rows = box.peek(0, 10_000)
    shutil.copytree(folder / "alive", folder / "killed")
    box.close()
    return folder / "killed", rows


def flip(path, at, bit=0):
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.mark.parametrize("place", [0, 16, 24, 32 + 16, 32 + 24 + 2000, 32 + FRAME + 8, 32 + 10 * FRAME + 100])
def test_flipped_bit_in_the_log_loses_nothing(tmp_path, place):
    """Wherever the bit is: the frames behind it are read, and they hold the newer images of the same pages."""
    folder, rows = killed(tmp_path)
    flip(folder / "outbox.db-wal", place)
    box = open_reporting(folder)
    assert box.peek(0, 100) == rows
    assert box.append([draft(99)]) == (24,)
    assert reported(box) == []
    box.close()


def test_log_that_is_cut_off_loses_what_it_lacks_and_reports_it(tmp_path):
    """Nothing in the file says that there was more; the mark beside it does."""
    folder, rows = killed(tmp_path)
    path = folder / "outbox.db-wal"
    os.truncate(path, path.stat().st_size // 3)
    box = open_reporting(folder)
    left = box.peek(0, 100)
    assert 0 < len(left) < len(rows)
    assert left == rows[: len(left)]
    assert box.append([draft(99)]) == (24,)
    lost = {"first_seq": len(left) + 1, "last_seq": 23, "count": 23 - len(left), "cause": "damaged"}
    assert reported(box) == [lost]
    box.close()


def test_missing_log_without_a_mark_does_not_repeat_numbers(tmp_path):
    """After an update from 0.1 there is no mark: then the reserved block decides."""
    folder, _ = killed(tmp_path)
    (folder / "outbox.db.mark").unlink()
    path = folder / "outbox.db-wal"
    os.truncate(path, path.stat().st_size // 3)
    box = open_reporting(folder)
    assert box.append([draft(99)])[0] > 23
    (detail,) = reported(box)
    assert detail["last_seq"] >= 23
    box.close()


def test_unharmed_files_of_a_kill_are_opened_as_they_are(tmp_path):
    """No salvage, no jump, no report."""
    folder, rows = killed(tmp_path)
    box = open_reporting(folder)
    assert box.peek(0, 100) == rows
    assert box.append([draft(99)]) == (24,)
    assert not list(folder.glob("*damaged*"))
    box.close()


def test_checksum_agrees_with_sqlite(tmp_path):
    """Every frame that SQLite wrote is intact for us; one flipped bit is one frame less."""
    folder, _ = killed(tmp_path)
    path = folder / "outbox.db-wal"
    found = wal.read(path)
    assert (found.is_used, found.is_damaged, found.is_suspect) == (True, False, False)
    assert wal.read(folder / "none") == wal.Wal()
    flip(path, path.stat().st_size - 1)
    found = wal.read(path)
    assert (found.is_damaged, found.is_suspect) == (False, True)


def test_loss_is_reported_though_the_process_dies_before_the_report(tmp_path):
    """What a start finds lost is in the database until an event reports it."""
    folder, _ = killed(tmp_path)
    os.truncate(folder / "outbox.db-wal", 32 + 20 * FRAME)
    box = open_outbox(folder)
    (left,) = box._db.execute("SELECT max(seq) FROM event").fetchone()
    assert box.last_seq == 23
    box._db.close()  # a kill
    for _ in range(2):
        open_outbox(folder).close()
    box = open_reporting(folder)
    assert box.append([draft(99)]) == (24,)
    assert reported(box) == [{"first_seq": left + 1, "last_seq": 23, "count": 23 - left, "cause": "damaged"}]
    box.close()
    box = open_reporting(folder)
    box.append([draft(99)])
    assert len(reported(box)) == 1
    box.close()


def test_rows_behind_a_damaged_page_are_saved(tmp_path):
    """One page costs its own rows; the reported count is that of the rows that are gone."""
    box = open_outbox(tmp_path, max_rows=10_000)
    box.append([draft(n) for n in range(2000)])
    rows = box.peek(0, 10_000)
    box.close()
    damage(tmp_path / "outbox.db", 20 * PAGE, PAGE)
    box = open_reporting(tmp_path, max_rows=10_000)
    saved = box.peek(0, 10_000)
    lost = {row.seq for row in rows} - {row.seq for row in saved}
    assert 0 < len(lost) < 30
    assert (saved[0].seq, saved[-1].seq) == (1, 2000)
    assert box.append([draft(0)]) == (2001,)
    assert reported(box) == [
        {"first_seq": min(lost), "last_seq": max(lost), "count": len(lost), "cause": "damaged"},
    ]
    box.close()


def test_dead_letters_and_delivered_events_survive_a_salvage(tmp_path):
    """What an operator may still retry, and what `defectd events` shows."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(50)])
    for seq in range(1, 21):
        box.refuse(seq, 0x87, "not authorised")
    box.ack(range(21, 31))
    letters = box.dead_letters(100)
    box.close()
    damage(tmp_path / "outbox.db", 0, 100)
    box = open_reporting(tmp_path)
    assert (box.refused, box.depth()) == (20, 21)
    assert box.dead_letters(100) == letters == read_dead_letters(tmp_path / "outbox.db", 100)
    assert [row.seq for row in box.after(20, 10)] == list(range(21, 31))
    assert box.retry(None) == 20
    box.close()


def test_report_that_is_lost_itself_is_made_again(tmp_path):
    """The numbers of a lost events.dropped event are reported by the next one."""
    box = open_reporting(tmp_path, max_rows=4)
    for n in range(40):
        box.append([draft(n)])
    rows = box.peek(0, 100)
    box.close()
    path = tmp_path / "outbox.db"
    for page in range(1, path.stat().st_size // PAGE):
        content = path.read_bytes()[page * PAGE : (page + 1) * PAGE]
        if content[0] == 0x0D and b"events.dropped" in content:
            damage(path, page * PAGE, PAGE)
    box = open_reporting(tmp_path, max_rows=1000)
    box.append([draft(1)])
    (detail,) = reported(box)
    assert (detail["first_seq"], detail["last_seq"]) == (1, rows[-1].seq)
    box.close()


def _steps(folder, limit):
    """Open the outbox in a child that dies at that file operation; returns whether it came to the end."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def hook(name, _arguments):
            nonlocal seen
            if name in ("os.rename", "os.remove", "open", "sqlite3.connect"):
                seen += 1
                if seen > limit:
                    os._exit(9)

        sys.addaudithook(hook)
        open_reporting(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("name", ["outbox.db-wal", "outbox.db"])
def test_kill_at_any_step_of_a_salvage_loses_nothing(tmp_path, name):
    """Either the damaged files are untouched, or the new database is complete."""
    folder, rows = killed(tmp_path)
    if name == "outbox.db":
        open_outbox(folder).close()
        damage(folder / name, 0, 100)
    else:
        flip(folder / name, 32 + 10 * FRAME + 100)
    limit, has_ended = 0, False
    while not has_ended:
        case = tmp_path / f"killed at {limit}"
        shutil.copytree(folder, case)
        has_ended = _steps(case, limit)
        box = open_reporting(case)
        assert box.peek(0, 100) == rows
        assert box.append([draft(99)]) == (24,)
        assert reported(box) == []
        box.close()
        limit += 1
    assert limit > 10


def test_damage_on_a_full_disk_waits_for_space(tmp_path):
    """The damaged files stay as they are until the new database can be written; then the same object works again."""
    box = open_reporting(tmp_path, max_rows=10_000)
    box.append([draft(n) for n in range(1000)])
    box._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    box._db.execute("PRAGMA cache_size=0")
    rows = box.peek(0, 10_000)
    damage(tmp_path / "outbox.db", 20 * PAGE, PAGE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        for _ in range(3):
            with pytest.raises(OutboxError):
                box.peek(0, 10_000)
            with pytest.raises(OutboxError):
                box.append([draft(1)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob("*damaged*"))
    assert box.append([draft(1)]) == (1001,)
    saved = [row for row in box.peek(0, 10_000) if row.seq <= 1000]
    assert len(saved) > 950
    assert set(saved) < set(rows)
    box.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", ".seq", ".mark", ".part", ".seq.new"])
@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_moved_aside(tmp_path, suffix, kind):
    """A FIFO does not block the start, a folder does not end it, and no number repeats."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(5)])
    box.close()
    path = tmp_path / f"outbox.db{suffix}"
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    box = open_reporting(tmp_path)
    assert box.append([draft(9)]) == (6,)
    assert list(tmp_path.glob(f"outbox.db{suffix}.damaged-*"))
    assert len(reported(box)) == (suffix == "")
    box.close()


def test_second_damage_in_the_same_second_keeps_the_first_files(tmp_path):
    """No name is used twice for what was moved aside."""
    for _ in range(3):
        box = open_reporting(tmp_path)
        box.append([draft(1)])
        box.close()
        damage(tmp_path / "outbox.db", 0, 100)
    open_reporting(tmp_path).close()
    assert len(list(tmp_path.glob("outbox.db.damaged-*"))) == 3


def test_counter_that_is_behind_its_rows_does_not_close_the_store(tmp_path):
    """A number that is in use already is damage, not an error for ever."""
    box = open_outbox(tmp_path)
    box.append([draft(n) for n in range(9)])
    box._db.execute("UPDATE counter SET last_seq = 4")
    box.close()
    box = open_reporting(tmp_path)
    assert box.append([draft(1)]) == (10,)
    assert reported(box) == []
    box.close()


def test_row_that_is_not_readable_is_lost_alone_and_reported(tmp_path):
    """It stops neither the rows behind it nor the next start."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(9)])
    box._db.execute("UPDATE event SET payload = ? WHERE seq = 4", (b"{",))
    with pytest.raises(OutboxError):
        box.peek(0, 100)
    assert [row.seq for row in box.peek(0, 100)] == [1, 2, 3, 5, 6, 7, 8, 9]
    box.append([draft(1)])
    assert reported(box) == [{"first_seq": 4, "last_seq": 4, "count": 1, "cause": "damaged"}]
    box.close()


def test_mark_that_cannot_be_trusted_is_ignored(tmp_path):
    """A wrong checksum, and a record of another boot that may be old: the database decides."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(9)])
    box.close()
    path = tmp_path / "outbox.db.mark"
    record = path.read_bytes()
    assert json.loads(record[9:])["stored"] == 9
    flip(path, 30)
    box = open_reporting(tmp_path)
    assert box.append([draft(1)]) == (10,)
    assert reported(box) == []
    box.close()


@pytest.mark.parametrize("is_acknowledged", [False, True])
def test_given_up_events_are_reported_by_the_next_start(tmp_path, is_acknowledged):
    """Also when the publisher still marks events as delivered between that and the end."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(5)])
    assert box.give_up(3)
    if is_acknowledged:
        box.ack([1])
    box.close()
    box = open_reporting(tmp_path)
    assert box.append([draft(9)]) == (9,)
    assert reported(box) == [{"first_seq": 6, "last_seq": 8, "count": 3, "cause": "memory"}]
    box.close()


@pytest.mark.parametrize("bit", [0, 1, 2, 3])
def test_event_that_only_seems_delivered_is_sent(tmp_path, bit):
    """One bit turns the NULL of an event that waits into a time; its entry in the index tells."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(9)])
    rows = box.peek(0, 100)
    box.close()
    path = tmp_path / "outbox.db"
    record = path.read_bytes().index(rows[4].event_id.encode())
    flip(path, record - 1, bit)  # the type of the last column stands before the first text
    box = open_reporting(tmp_path)
    assert box.peek(0, 100) == rows
    box.close()


def test_unharmed_files_of_version_0_1_are_opened_as_they_are(tmp_path):
    """A kill and then an update: there is a log and no mark, and that is no damage."""
    folder, rows = killed(tmp_path)
    (folder / "outbox.db.mark").unlink()
    box = open_reporting(folder)
    assert box.peek(0, 100) == rows
    assert box.append([draft(99)]) == (24,)
    assert reported(box) == []
    box.close()


@pytest.mark.parametrize("at", [0, 16, 18, 19, 20, 21, 47, 52, 59, 60, 63])
@pytest.mark.parametrize("bit", [0, 2, 5])
def test_flipped_bit_in_the_header_loses_nothing(tmp_path, at, bit):
    """Some of them make SQLite refuse the file, or only read it, for ever."""
    box = open_reporting(tmp_path)
    box.append([draft(n) for n in range(9)])
    rows = box.peek(0, 100)
    box.close()
    flip(tmp_path / "outbox.db", at, bit)
    box = open_reporting(tmp_path)
    assert box.peek(0, 100) == rows
    assert box.append([draft(1)]) == (10,)
    assert reported(box) == []
    box.close()
