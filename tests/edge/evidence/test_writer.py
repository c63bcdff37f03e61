"""The thread that codes and writes pictures."""

import threading
import tracemalloc

import cv2
import numpy as np
import pytest
from fakes.clock import FakeClock
from fakes.waiting import until

from edge import config
from edge.errors import EvidenceError
from edge.evidence.archive import Archive, facts_of, pictures, read
from edge.evidence.writer import MAX_WAITING, MAX_WAITING_BYTES, EvidenceWriter, Piece
from edge.host.clock import SystemClock

SURFACE = np.random.default_rng(5).integers(0, 256, (256, 400), np.uint8)


@pytest.fixture
def start_writer(tmp_path):
    """Starts evidence writers and stops them at the end of the test."""
    started = []

    def start(archive=None, clock=None, **settings):
        archive = archive or Archive(tmp_path, max_bytes=10**6, min_free_bytes=0)
        writer = EvidenceWriter(config.Evidence(**settings), archive, clock or SystemClock())
        writer.start()
        started.append(writer)
        return writer

    yield start
    for writer in started:
        assert writer.stop(5)


def piece(kind="defect", pixels=SURFACE):
    return Piece(kind, "top", pixels, {"frame": 7})


def test_pending_evidence_gives_the_reference_once_the_picture_is_on_disk(start_writer, tmp_path):
    """The reference leads to the picture and its facts."""
    kept = start_writer().keep(piece())(5)
    data = read(tmp_path, kept.path)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown.shape == SURFACE.shape
    assert facts_of(data)["frame"] == 7


def test_picture_is_shrunk_to_fit_a_command_reply(start_writer, tmp_path):
    """No side above longest_px and at most 512 KiB, however large the frame is."""
    large = np.random.default_rng(1).integers(0, 256, (3000, 4000), np.uint8)
    kept = start_writer(longest_px=4000, quality=100).keep(piece(pixels=large))(20)
    assert (tmp_path / kept.path).stat().st_size < 512 * 1024 + 1000


class Stuck(Archive):
    """A disk that hangs until `free` is set."""

    def __init__(self, folder):
        super().__init__(folder, max_bytes=10**7, min_free_bytes=0)
        self.free = threading.Event()
        self.writing = threading.Event()

    def add(self, *args):
        self.writing.set()
        assert self.free.wait(10)
        return super().add(*args)


def test_hanging_disk_loses_pictures_and_delays_nothing(start_writer, tmp_path):
    """keep() returns at once; the queue is bounded; pictures that do not fit are counted."""
    archive = Stuck(tmp_path)
    writer = start_writer(archive, per_minute=1000)
    first = writer.keep(piece())
    assert archive.writing.wait(5)
    waiting = [writer.keep(piece()) for _ in range(MAX_WAITING + 10)]
    assert first(0) is None
    assert waiting[MAX_WAITING:] == [None] * 10
    assert writer.lost["queue"] == 10
    archive.free.set()
    assert all(one(10) is not None for one in waiting[:MAX_WAITING])
    assert len(pictures(tmp_path)) == MAX_WAITING + 1


def test_queue_is_bounded_in_bytes(start_writer, tmp_path):
    """A few frames of a large sensor fill the queue."""
    archive = Stuck(tmp_path)
    writer = start_writer(archive)
    writer.keep(piece())
    assert archive.writing.wait(5)
    large = np.zeros((MAX_WAITING_BYTES // 4 // 1000, 1000), np.uint8)
    assert [writer.keep(piece(pixels=large)) is None for _ in range(6)] == [False] * 4 + [True] * 2
    archive.free.set()


def test_rate_is_bounded(start_writer):
    """A bad coil does not wear out the SD card; the rate recovers with time."""
    clock = FakeClock()
    writer = start_writer(clock=clock, per_minute=60)
    small = piece(pixels=SURFACE[:16, :16])
    taken = [writer.keep(small) is not None for _ in range(60)]
    assert all(taken)
    assert writer.keep(small) is None
    clock.advance(2.0)
    assert [writer.keep(small) is not None for _ in range(3)] == [True, True, False]
    assert writer.lost["rate"] == 2


class Failing(Archive):
    """A disk that fails until `trouble` is None."""

    trouble: Exception | None = EvidenceError("disk", "no space left")

    def add(self, *args):
        if self.trouble:
            raise self.trouble
        return super().add(*args)


def test_failed_write_gives_null_and_is_counted_and_logged_once(start_writer, tmp_path, caplog):
    """The pending evidence resolves to None at once, and the next picture is tried again."""
    archive = Failing(tmp_path, max_bytes=10**6, min_free_bytes=0)
    writer = start_writer(archive)
    assert [writer.keep(piece())(5) for _ in range(5)] == [None] * 5
    assert writer.lost["disk"] == 5
    assert caplog.text.count("evidence is not kept") == 1
    archive.trouble = ZeroDivisionError("ours")
    assert writer.keep(piece())(5) is None
    assert writer.lost["error"] == 1
    archive.trouble = None
    assert writer.keep(piece())(5) is not None


def test_folder_that_cannot_be_opened_is_tried_again(start_writer, tmp_path):
    """The writer uses a disk that is mounted late."""
    folder = tmp_path / "late"
    folder.write_text("not a folder")
    writer = start_writer(Archive(folder, max_bytes=10**6, min_free_bytes=0))
    assert writer.keep(piece())(5) is None
    assert writer.lost["disk"] == 1
    folder.unlink()
    assert writer.keep(piece())(5) is not None


def test_stop_writes_waiting_pictures(tmp_path):
    """Their references are there after the stop; keep() then takes nothing."""
    writer = EvidenceWriter(config.Evidence(), Archive(tmp_path, max_bytes=10**6, min_free_bytes=0), SystemClock())
    writer.start()
    pending = [writer.keep(piece()) for _ in range(20)]
    assert writer.stop(5)
    assert all(one(0) is not None for one in pending)
    assert writer.keep(piece()) is None


def test_stop_does_not_wait_for_a_hanging_disk(tmp_path):
    """Pending evidence resolves to None, so that no event waits for it."""
    archive = Stuck(tmp_path)
    writer = EvidenceWriter(config.Evidence(), archive, SystemClock())
    writer.start()
    writer.keep(piece())
    assert archive.writing.wait(5)
    waiting = [writer.keep(piece()) for _ in range(3)]
    assert not writer.stop(0.05)
    assert [one(0) for one in waiting] == [None] * 3
    assert writer.lost["queue"] == 3
    archive.free.set()
    until(lambda: not writer.alive)


def test_flood_of_pictures_costs_no_memory(start_writer):
    """10,000 pictures at once take no more memory than the queue may hold."""
    writer = start_writer(per_minute=100_000)
    tracemalloc.start()
    for _ in range(10_000):
        writer.keep(piece(pixels=SURFACE[:64, :64]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 << 20
