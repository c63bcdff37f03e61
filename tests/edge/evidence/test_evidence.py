"""What is kept of a frame, and the thread that keeps it."""

import itertools
import random
import threading
import tracemalloc

import cv2
import numpy as np
import pytest
from fakes import FakeClock
from fakes.delivery import event, until
from pydantic import SecretStr

from edge import config
from edge.errors import EvidenceError
from edge.event import Defect, Evidence
from edge.evidence.archive import Archive, facts_of, pictures, read
from edge.evidence.writer import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    EvidenceSelector,
    EvidenceWriter,
    PendingEvidence,
    Piece,
)
from edge.frame import Frame
from edge.host.clock import SystemClock
from edge.vision.decision import Findings, Region
from edge.vision.inspector import Verdict

CAMERA = config.Camera(name="top", source=SecretStr("strip:"), tile_px=100)
NOTHING = Findings((), ())
SURFACE = np.random.default_rng(5).integers(0, 256, (256, 400), np.uint8)


def frame(number=7, pixels=SURFACE):
    return Frame("top", number, pixels, 0, label="a.png")


def fact(kind="defect.opened", box=(100, 100, 100, 100), track="t-1", **rest):
    if kind.startswith("defect."):
        rest["defect"] = Defect(track, "scratches", 0.97, box, 4, 1)
    return event(kind, **rest)


class Wall:
    """Takes pieces as the keeper does."""

    def __init__(self):
        self.pieces = []

    def __call__(self, piece):
        self.pieces.append(piece)
        exhibit = PendingEvidence()
        exhibit.settle(Evidence(f"{piece.kind}/{len(self.pieces)}.jpg", "0" * 64))
        return exhibit

    def kinds(self):
        return [piece.kind for piece in self.pieces]


def witness(wall, clock=None, **settings):
    return EvidenceSelector(config.Evidence(**settings), wall, clock or FakeClock(), random.Random(1))


# ---- what is taken -------------------------------------------------------------------------------


def test_defect_is_cut_out_with_what_surrounds_it():
    """The crop is a copy of box and margin, as far as the frame reaches, and says where it lay."""
    wall, pixels = Wall(), SURFACE.copy()
    opened = fact(box=(300, 100, 100, 100))
    peak = Findings((Region("scratches", 0.9, (300, 100, 100, 100), 1, (300, 100, 100, 100)),), ())
    exhibit = witness(wall).see(opened, CAMERA, frame(pixels=pixels), peak)
    (piece,) = wall.pieces
    pixels[:] = 0  # the ring's slot is used again
    assert piece.facts["crop_px"] == (275, 75, 125, 150)
    assert (piece.pixels == SURFACE[75:225, 275:400]).all()
    assert piece.facts["peak_px"] == (300, 100, 100, 100)
    assert piece.facts["event_id"] == opened.event_id
    assert (piece.facts["label"], piece.facts["frame"], piece.facts["source"]) == ("scratches", 7, "a.png")
    assert exhibit(0) == Evidence("defect/1.jpg", "0" * 64)


def test_closing_event_repeats_the_picture_of_the_opening_one():
    """Once: a track is closed once, and nothing of it is remembered."""
    wall = Wall()
    eye = witness(wall)
    exhibits = {track: eye.see(fact(track=track), CAMERA, frame(), NOTHING) for track in ("a", "b")}
    assert eye.see(fact("defect.closed", track="b"), CAMERA, None, NOTHING) is exhibits["b"]
    assert eye.see(fact("defect.closed", track="b"), CAMERA, None, NOTHING) is None
    assert wall.kinds() == ["defect", "defect"]


def test_whole_frame_is_kept_where_wanted():
    """With `frames` a second picture, told by the same event id."""
    wall = Wall()
    witness(wall, frames=True).see(fact(), CAMERA, frame(), NOTHING)
    assert wall.kinds() == ["defect", "frame"]
    assert wall.pieces[1].pixels.shape == SURFACE.shape
    assert wall.pieces[0].facts["event_id"] == wall.pieces[1].facts["event_id"]


def test_bad_picture_is_kept_whole():
    """Whoever is told of a bad image wants to see it."""
    wall = Wall()
    witness(wall).see(fact("image.bad", detail={"reason": "dark"}), CAMERA, frame(), NOTHING)
    assert wall.kinds() == ["image"]
    assert wall.pieces[0].facts["reason"] == "dark"


@pytest.mark.parametrize("kind", ["camera.lost", "coverage.gap", "node.started", "image.restored"])
def test_other_events_have_no_picture(kind):
    """They speak of no surface."""
    wall = Wall()
    assert witness(wall).see(fact(kind), CAMERA, frame(), NOTHING) is None
    assert wall.pieces == []


def test_openings_without_an_end_are_forgotten():
    """Tracks that are never closed cost no memory for ever."""
    eye = witness(Wall())
    for track in range(3000):
        eye.see(fact(track=str(track)), CAMERA, frame(), NOTHING)
    assert len(eye._exhibits) == 1024


def boxes():
    return [(x, y, 100, 100) for y in (0, 100) for x in (0, 100, 200, 300)]


def sampled(verdict, hours=200, per_hour=60, **settings):
    wall, clock = Wall(), FakeClock()
    eye = witness(wall, clock, **settings)
    for number in range(hours * per_hour):
        eye.sample(frame(number), verdict, boxes)
        clock.advance(3600 / per_hour)
    return wall.pieces


def test_audit_tiles_come_at_random_as_often_as_wanted():
    """Six an hour on average, all tiles alike, at no fixed distance."""
    pieces = sampled(Verdict("ok", NOTHING, 8), audit_per_hour=6)
    assert 1000 < len(pieces) < 1300  # 1,200 less what falls between two frames
    where = {}
    for piece in pieces:
        where[piece.facts["crop_px"]] = where.get(piece.facts["crop_px"], 0) + 1
    assert set(where) == set(boxes())
    assert min(where.values()) > 90
    assert len({b.facts["frame"] - a.facts["frame"] for a, b in itertools.pairwise(pieces)}) > 10


def test_audit_tile_says_what_inspection_made_of_it():
    """good, unsure, or the class of the region it lies in."""
    findings = Findings((Region("patches", 0.9, (100, 0, 100, 200), 2),), ((200, 0, 100, 100),))
    pieces = sampled(Verdict("defect", findings, 8), audit_per_hour=30, unsure_per_hour=0)
    labels = {piece.facts["crop_px"][:2]: piece.facts["label"] for piece in pieces}
    assert labels[100, 0] == labels[100, 100] == "patches"
    assert labels[200, 0] == "unsure"
    assert labels[0, 0] == labels[300, 100] == "good"


def test_unsure_tiles_are_taken_where_the_doubt_is():
    """Only from frames that have some, and not more than wanted."""
    findings = Findings((), ((200, 0, 100, 100), (300, 0, 100, 100)))
    pieces = sampled(Verdict("unsure", findings, 8), audit_per_hour=0, unsure_per_hour=10)
    assert {piece.facts["crop_px"] for piece in pieces} == set(findings.suspects)
    assert {piece.kind for piece in pieces} == {"unsure"}
    assert 1500 < len(pieces) < 2200
    assert sampled(Verdict("ok", NOTHING, 8), audit_per_hour=0) == []


def test_frame_inspected_in_part_is_no_sample():
    """Its other tiles were not judged, so they have no label."""
    assert sampled(Verdict("unsure", NOTHING, 6, skipped=2)) == []


# ---- the thread ----------------------------------------------------------------------------------


@pytest.fixture
def keeping(tmp_path):
    """A keeper that is stopped at the end."""
    started = []

    def start(archive=None, clock=None, **settings):
        archive = archive or Archive(tmp_path, max_bytes=10**6, min_free_bytes=0)
        keeper = EvidenceWriter(config.Evidence(**settings), archive, clock or SystemClock())
        keeper.start()
        started.append(keeper)
        return keeper

    yield start
    for keeper in started:
        assert keeper.stop(5)


def piece(kind="defect", pixels=SURFACE):
    return Piece(kind, "top", pixels, {"frame": 7})


def test_exhibit_gives_the_reference_when_the_picture_is_on_disk(keeping, tmp_path):
    """Whoever holds the reference can read the picture."""
    kept = keeping().keep(piece())(5)
    data = read(tmp_path, kept.path)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown.shape == SURFACE.shape
    assert facts_of(data)["frame"] == 7


def test_picture_is_made_to_fit_a_command(keeping, tmp_path):
    """No side above longest_px and at most 512 KiB, however large the frame is."""
    large = np.random.default_rng(1).integers(0, 256, (3000, 4000), np.uint8)
    kept = keeping(longest_px=4000, quality=100).keep(piece(pixels=large))(20)
    assert (tmp_path / kept.path).stat().st_size < 512 * 1024 + 1000


class Stuck(Archive):
    """A disk that answers when it is told to."""

    def __init__(self, folder):
        super().__init__(folder, max_bytes=10**7, min_free_bytes=0)
        self.free = threading.Event()
        self.writing = threading.Event()

    def add(self, *args):
        self.writing.set()
        assert self.free.wait(10)
        return super().add(*args)


def test_disk_that_hangs_costs_pictures_and_no_time(keeping, tmp_path):
    """keep() returns at once, what waits is bounded in number and bytes, the rest is counted."""
    archive = Stuck(tmp_path)
    keeper = keeping(archive, per_minute=1000)
    first = keeper.keep(piece())
    assert archive.writing.wait(5)
    waiting = [keeper.keep(piece()) for _ in range(MAX_WAITING + 10)]
    assert first(0) is None
    assert waiting[MAX_WAITING:] == [None] * 10
    assert keeper.lost["queue"] == 10
    archive.free.set()
    assert all(exhibit(10) is not None for exhibit in waiting[:MAX_WAITING])
    assert len(pictures(tmp_path)) == MAX_WAITING + 1


def test_pictures_that_wait_are_bounded_in_bytes(keeping, tmp_path):
    """A few frames of a large sensor fill the memory that is meant for it."""
    archive = Stuck(tmp_path)
    keeper = keeping(archive)
    keeper.keep(piece())
    assert archive.writing.wait(5)
    large = np.zeros((MAX_WAITING_BYTES // 4 // 1000, 1000), np.uint8)
    assert [keeper.keep(piece(pixels=large)) is None for _ in range(6)] == [False] * 4 + [True] * 2
    archive.free.set()


def test_rate_is_bounded(keeping):
    """A bad coil does not wear out the card; with time there is room again."""
    clock = FakeClock()
    keeper = keeping(clock=clock, per_minute=60)
    small = piece(pixels=SURFACE[:16, :16])
    taken = [keeper.keep(small) is not None for _ in range(60)]
    assert all(taken)
    assert keeper.keep(small) is None
    clock.advance(2.0)
    assert [keeper.keep(small) is not None for _ in range(3)] == [True, True, False]
    assert keeper.lost["rate"] == 2


class Failing(Archive):
    """A disk with trouble, until it is mended."""

    trouble: Exception | None = EvidenceError("disk", "no space left")

    def add(self, *args):
        if self.trouble:
            raise self.trouble
        return super().add(*args)


def test_picture_that_cannot_be_written_is_null_told_once_and_counted(keeping, tmp_path, caplog):
    """The exhibit says so at once, and the next picture is tried again."""
    archive = Failing(tmp_path, max_bytes=10**6, min_free_bytes=0)
    keeper = keeping(archive)
    assert [keeper.keep(piece())(5) for _ in range(5)] == [None] * 5
    assert keeper.lost["disk"] == 5
    assert caplog.text.count("evidence is not kept") == 1
    archive.trouble = ZeroDivisionError("ours")
    assert keeper.keep(piece())(5) is None
    assert keeper.lost["error"] == 1
    archive.trouble = None
    assert keeper.keep(piece())(5) is not None


def test_folder_that_cannot_be_had_is_tried_again(keeping, tmp_path):
    """A disk that is mounted late is used from then on."""
    folder = tmp_path / "late"
    folder.write_text("not a folder")
    keeper = keeping(Archive(folder, max_bytes=10**6, min_free_bytes=0))
    assert keeper.keep(piece())(5) is None
    assert keeper.lost["disk"] == 1
    folder.unlink()
    assert keeper.keep(piece())(5) is not None


def test_stop_writes_what_waits(tmp_path):
    """And answers whoever still asks."""
    keeper = EvidenceWriter(config.Evidence(), Archive(tmp_path, max_bytes=10**6, min_free_bytes=0), SystemClock())
    keeper.start()
    exhibits = [keeper.keep(piece()) for _ in range(20)]
    assert keeper.stop(5)
    assert all(exhibit(0) is not None for exhibit in exhibits)
    assert keeper.keep(piece()) is None


def test_stop_leaves_a_disk_that_hangs_behind(tmp_path):
    """Exhibits are settled, so that no event waits for them."""
    archive = Stuck(tmp_path)
    keeper = EvidenceWriter(config.Evidence(), archive, SystemClock())
    keeper.start()
    keeper.keep(piece())
    assert archive.writing.wait(5)
    waiting = [keeper.keep(piece()) for _ in range(3)]
    assert not keeper.stop(0.05)
    assert [exhibit(0) for exhibit in waiting] == [None] * 3
    assert keeper.lost["queue"] == 3
    archive.free.set()
    until(lambda: not keeper.alive)


def test_flood_costs_no_memory(keeping):
    """10,000 pieces offered at once leave what the bound allows."""
    keeper = keeping(per_minute=100_000)
    tracemalloc.start()
    for _ in range(10_000):
        keeper.keep(piece(pixels=SURFACE[:64, :64]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 << 20
