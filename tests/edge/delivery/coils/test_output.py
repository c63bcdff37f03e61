"""The record of a coil: what is in the outbox is in it once, whatever happens, and it says what is missing."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.coils import RecordScene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.coverage import coil_record
from edge.coverage.strip_trace import RunsNote, SpeedNote, StripTrace, WidthNote


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[RecordScene]:
    made = RecordScene(tmp_path)
    yield made
    made.output._book.close()
    made.box.close()


@contextmanager
def full_disk(spare_bytes: int, path: Path) -> Iterator[None]:
    """No file grows beyond the present size of this one, and a little."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + spare_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def a_coil(scene: RecordScene, name: str = "A4711", length_m: float | None = 30.0) -> None:
    scene.start_coil(name)
    scene.turn()
    scene.runs((0.0, 10.0, "whole"), (10.0, 11.0, "missed"), (11.0, 30.0, "whole"), coil=name)
    scene.defect(4.0, coil=name)
    scene.defect(20.0, coil=name, class_name="patches")
    scene.note(WidthNote("top", name, 3.0, 1250.2, 1249.0, 1251.0), SpeedNote(name, 0.0, 2.0))
    scene.turn()
    scene.end_coil(name, length_m)


def test_record_of_a_coil_is_whole(scene: RecordScene) -> None:
    """Defects with their final values, runs, width, speed, sums, and the proof that no event is missing."""
    a_coil(scene)
    scene.start_coil("B1")
    scene.settle()
    record = scene.record("A4711")
    assert [(each.from_m, each.to_m, each.class_name, each.is_open) for each in record.defects] == [
        (4.0, 4.02, "scratches", False),
        (20.0, 20.02, "patches", False),
    ]
    assert record.defects[0].across_mm == (100.0, 120.0)
    assert record.defects[0].evidence == "defect/top.jpg"
    assert [(run.from_m, run.to_m, run.kind) for run in record.runs["top"]] == [
        (0.0, 10.0, "whole"),
        (10.0, 11.0, "missed"),
        (11.0, 30.0, "whole"),
    ]
    assert record.width["top"][0].median_mm == 1250.2
    assert record.speed[0].m_per_s == 2.0
    summary = record.summary
    assert (summary.length_m, summary.defects, dict(summary.classes)) == (30.0, 2, {"patches": 1, "scratches": 1})
    assert summary.meters["top"] == coil_record.CameraMeters(29.0, 0.0, 1.0, 0.0)
    assert summary.is_complete
    assert (summary.seq.first, summary.seq.last) == (1, summary.seq.seen)
    assert record.header.cameras[0].operator_side == "left"
    assert record.header.model["name"] == "student"
    assert [each.coil for each in coil_record.summaries(scene.coils)] == ["B1", "A4711"]
    assert [path.name.split("-", 1)[1] for path in coil_record.record_paths(scene.coils)] == [
        "no-coil.jsonl",
        "A4711.jsonl.gz",
        "no-coil.jsonl",
        "B1.jsonl",
    ]


def test_change_of_model_or_configuration_is_in_the_record(scene: RecordScene) -> None:
    """With the event that was decided by it first."""
    scene.start_coil("A")
    scene.turn()
    scene.origin = replace(scene.origin, config_sha256="ef" * 32)
    scene.defect(1.0, coil="A")
    scene.turn()
    (setup,) = scene.record("A").setups
    assert (setup.config_sha256, setup.seq) == ("ef" * 32, scene.box.last_seq - 1)


def test_camera_down_the_line_ends_the_record(scene: RecordScene) -> None:
    """Runs and defects that come after the end of the coil belong to it; it is packed when all cameras are past it."""
    scene.start_coil("A")
    scene.turn()
    scene.runs((0.0, 8.0, "whole"), coil="A", camera="bottom")
    scene.put("coil.ended", detail={"coil": "A", "length_m": 10.0, "by": "topic"})
    scene.start_coil("B")
    scene.turn(20.0)
    scene.runs((8.0, 10.0, "partial"), coil="A", camera="bottom")
    scene.defect(9.0, coil="A", camera="bottom")
    scene.runs((0.0, 1.0, "whole"), coil="B")
    scene.turn(20.0)
    assert not list(scene.coils.glob("*-A.jsonl.gz"))
    scene.runs((0.0, 0.1, "whole"), coil="B", camera="bottom")
    scene.settle()
    record = scene.record("A")
    assert list(scene.coils.glob("*-A.jsonl.gz"))
    assert [each.from_m for each in record.defects] == [9.0]
    assert record.summary.meters["bottom"] == coil_record.CameraMeters(8.0, 2.0, 0.0, 0.0)


def test_strip_without_a_coil_has_a_bounded_record(scene: RecordScene) -> None:
    """After some length the next record starts, and only the last two stay."""
    for start in range(0, 6000, 500):
        scene.runs((start, start + 500, "whole"), coil=None)
        scene.defect(start + 10.0, coil=None)
        scene.turn(10.0)
    paths = coil_record.record_paths(scene.coils)
    assert 1 <= len(paths) <= 2
    newest = scene.record(coil_record.record_id(paths[-1]))
    assert newest.header.coil is None
    assert newest.summary.is_complete
    assert max(run.to_m for run in newest.runs["top"]) == 6000


def test_coil_without_positions_has_a_record(scene: RecordScene) -> None:
    """Speed unknown: places are null, the defects are there."""
    scene.start_coil("A")
    scene.defect(None, coil="A", length_mm=None)
    scene.end_coil("A", None)
    scene.settle()
    record = scene.record("A")
    assert [(each.from_m, each.to_m) for each in record.defects] == [(None, None)]
    assert (record.runs, record.summary.length_m, record.summary.is_complete) == ({}, None, True)


# ---- faults --------------------------------------------------------------------------------------------


def test_kill_loses_runs_and_says_so_but_no_event(scene: RecordScene) -> None:
    """What was in the outbox is in the record once; the meters in between are unknown."""
    scene.start_coil("A")
    scene.turn()
    scene.runs((0.0, 5.0, "whole"), coil="A")
    scene.defect(3.0, coil="A")
    scene.turn()
    scene.runs((5.0, 7.0, "whole"), coil="A")
    scene.defect(6.0, coil="A", closed=False)
    scene.kill()
    scene.turn()
    scene.runs((9.0, 12.0, "whole"), coil="A")
    scene.defect(10.0, coil="A")
    scene.turn()
    scene.end_coil("A", 12.0)
    scene.settle()
    record = scene.record("A")
    assert [(each.from_m, each.is_open) for each in record.defects] == [(3.0, False), (6.0, True), (10.0, False)]
    assert [(run.from_m, run.to_m, run.kind, run.cause) for run in record.runs["top"]] == [
        (0.0, 5.0, "whole", None),
        (5.0, 9.0, "unknown", "record"),
        (9.0, 12.0, "whole", None),
    ]
    assert record.summary.meters["top"].unknown == 4.0
    assert len(record.resumed) == 1
    assert record.summary.seq.is_complete


def test_torn_and_damaged_lines_are_left_out(scene: RecordScene) -> None:
    """The rest of a record that lost its end stays readable, and the events of that end are read again."""
    scene.start_coil("A")
    scene.turn()
    scene.defect(3.0, coil="A")
    scene.turn()
    whole = coil_record.current(scene.coils)
    assert whole is not None
    size = whole.stat().st_size
    scene.defect(4.0, coil="A")
    scene.turn()
    scene.output._book.close()
    for damage in (size + 40, size - 3, size + 1):
        content = whole.read_bytes()
        whole.write_bytes(content[:damage] + b"\0" * 300)
        scene.trace = StripTrace()
        scene.started()
        scene.turn()
        record = scene.record("A")
        assert [each.from_m for each in record.defects] == [3.0, 4.0]
        assert record.summary.is_complete
        scene.output._book.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 6000))
def test_record_cut_anywhere_goes_on_without_a_hole(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Each event is in it once, wherever the end was lost."""
    scene = RecordScene(tmp_path_factory.mktemp("cut"))
    scene.start_coil("A")
    scene.turn()
    path = coil_record.current(scene.coils)
    assert path is not None
    synced = path.stat().st_size
    for number in range(6):
        scene.defect(float(number), coil="A")
        scene.turn()
    scene.output._book.close()
    path.write_bytes(path.read_bytes()[: synced + cut])
    scene.trace = StripTrace()
    scene.started()
    scene.turn()
    found = [item for each in coil_record.record_paths(scene.coils) for item in coil_record.items(each)]
    seqs = [item.seq for item in found if isinstance(item, coil_record.Defect)]
    assert len(seqs) == len(set(seqs))
    assert set(range(2, 14)) - set(seqs) == set()
    scene.output._book.close()
    scene.box.close()


def test_full_disk_costs_no_event(scene: RecordScene) -> None:
    """Nothing is half written; when there is room again, all is there, and the record is complete."""
    scene.start_coil("A")
    scene.turn()
    scene.defect(1.0, coil="A")
    scene.runs((0.0, 2.0, "whole"), coil="A")
    path = coil_record.current(scene.coils)
    assert path is not None
    before = path.read_bytes()
    with full_disk(100, path):
        for _ in range(3):
            with pytest.raises(OSError, match="File too large"):
                scene.turn()
        assert path.read_bytes() == before
    scene.defect(2.0, coil="A")
    scene.turn()
    record = scene.record("A")
    assert [each.from_m for each in record.defects] == [1.0, 2.0]
    assert record.summary.is_complete
    assert [(run.from_m, run.to_m) for run in record.runs["top"]] == [(0.0, 2.0)]


def test_notes_that_a_full_disk_displaced_are_unknown(scene: RecordScene) -> None:
    """Memory is bounded: the record says that notes are missing, and their meters are unknown."""
    scene.start_coil("A")
    scene.turn()
    scene.trace._max_notes = 4
    for meter in range(10):
        scene.runs((float(meter), meter + 1.0, "whole"), coil="A")
    scene.turn()
    scene.end_coil("A", 10.0)
    scene.settle()
    record = scene.record("A")
    assert [(run.from_m, run.to_m, run.kind) for run in record.runs["top"]] == [
        (0.0, 6.0, "unknown"),
        (6.0, 10.0, "whole"),
    ]
    assert record.summary.seq.is_complete
    assert not record.summary.is_complete
    assert "notes" in record.summary.losses[0]


def test_events_that_the_record_never_saw_are_missing(scene: RecordScene) -> None:
    """The outbox dropped them first, or they never had a number: the proof fails, and names them."""
    scene.start_coil("A")
    scene.turn()
    first = scene.box.last_seq + 1
    for at in range(3):
        scene.defect(float(at), coil="A")
    scene.box._db.execute("DELETE FROM event WHERE seq IN (?, ?)", (first + 1, first + 2))
    scene.put("events.dropped", detail={"first_seq": None, "last_seq": None, "count": 7, "cause": "memory"})
    scene.turn()
    proof = scene.record("A").summary.seq
    assert proof.missing == ((first + 1, first + 2),)
    assert (proof.last - proof.first + 1 - proof.seen, proof.lost) == (2, 7)
    assert not proof.is_complete


def test_full_record_says_what_it_lacks(tmp_path: Path) -> None:
    """A coil has half of the space; then its record ends, never as if nothing more had happened."""
    scene = RecordScene(tmp_path, max_mb=8)
    scene.start_coil("A")
    scene.turn()
    for record in scene.output._book._records:
        record._max_bytes = 20_000
    for at in range(100):
        scene.defect(float(at), coil="A")
        scene.runs((float(at), at + 1.0, "whole"), coil="A")
        scene.turn()
    scene.end_coil("A", 100.0)
    scene.settle()
    record = scene.record("A")
    assert 10 < record.summary.defects < 60
    assert record.summary.meters["top"].unknown > 30
    assert not record.summary.is_complete
    assert "full" in record.summary.losses[0]
    scene.output._book.close()
    scene.box.close()


def test_oldest_coils_go_first(tmp_path: Path) -> None:
    """By number and by bytes; the index has what is there, and is mended after a kill."""
    scene = RecordScene(tmp_path, max_coils=3)
    for name in "ABCDE":
        a_coil(scene, name)
        scene.settle()
    named = [each.coil for each in coil_record.summaries(scene.coils) if each.coil]
    assert named == ["E", "D", "C"]
    (scene.coils / "index.json").write_text("{")
    scene.kill()
    scene.turn()
    assert [each.coil for each in coil_record.indexed(scene.coils)] == ["C", "D", "E"]
    shelf = scene.output._shelf
    shelf.keep_quota()
    shelf._max_bytes = sum(path.stat().st_size for path in coil_record.record_paths(scene.coils)) - 1
    shelf.keep_quota()
    assert [each.coil for each in coil_record.indexed(scene.coils)] == ["D", "E"]
    scene.output._book.close()
    scene.box.close()


def test_kill_while_packing_leaves_one_record(scene: RecordScene) -> None:
    """Between the two steps of packing, and before them."""
    a_coil(scene)
    scene.settle()
    (packed,) = scene.coils.glob("*.gz")
    plain = packed.with_name(packed.name.removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    (scene.coils / "x.jsonl.gz.new").write_bytes(b"half")
    scene.kill()
    scene.turn()
    assert [path.name for path in scene.coils.glob("*A4711*")] == [packed.name]
    assert not list(scene.coils.glob("*.new"))


def test_coil_that_was_named_before_the_first_record_has_one(tmp_path: Path) -> None:
    """After an upgrade the running coil gets its record at once."""
    scene = RecordScene(tmp_path)
    scene.output._book.close()
    for path in coil_record.record_paths(scene.coils):
        path.unlink()
    scene.settings.state.coil.write_text(
        '{"schema": "defectd.coil/1", "coil": "A", "since": "2026-11-22T13:46:11.482Z"}'
    )
    scene.started()
    scene.defect(None, coil="A")
    scene.turn()
    assert scene.record("A").summary.defects == 1
    scene.output._book.close()
    scene.box.close()


@pytest.mark.parametrize("name", ["../../etc/passwd", "Blech Ä 7", "带钢", "Ταινία/1", "x" * 300, ".", "\n"])
def test_any_name_of_a_coil_gives_a_safe_file(scene: RecordScene, name: str) -> None:
    """The file is in the folder, and the record has the name as it is."""
    scene.start_coil(name)
    scene.defect(1.0, coil=name)
    scene.turn()
    path = coil_record.find(scene.coils, name)
    assert path is not None
    assert path.parent == scene.coils
    assert scene.record(name).header.coil == name


def test_output_thread_writes_and_stops(scene: RecordScene) -> None:
    """As the daemon runs it: what was stored before the stop is in the record."""
    scene.output._book.close()
    output = scene.started()
    output.start()
    scene.start_coil("A")
    scene.defect(1.0, coil="A")
    scene.note(RunsNote("top", "A", ()))
    output.wake()
    assert output.stop(5.0)
    assert scene.record("A").summary.defects == 1
