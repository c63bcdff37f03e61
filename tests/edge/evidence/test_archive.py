"""The folder of evidence: quota, order of deletion, repair after a power cut, paths that stay true."""

import contextlib
import hashlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from fakes.waiting import until
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EvidenceError
from edge.evidence.archive import (
    KINDS,
    RANKS,
    Archive,
    facts_of,
    pictures,
    read,
    with_facts,
)

NOISE = np.random.default_rng(3).integers(0, 256, (300, 300), np.uint8)


def jpeg(side=40):
    return cv2.imencode(".jpg", NOISE[:side, :side])[1].tobytes()


def opened(folder, max_bytes=10**6, free=10**12, **more):
    archive = Archive(folder, max_bytes=max_bytes, min_free_bytes=1000, free_bytes=lambda _: free, **more)
    archive.open()
    return archive


def on_disk(folder):
    """Every file below the folder but the lock."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def size_of(folder):
    return sum(path.stat().st_size for path in on_disk(folder))


def test_reference_names_the_picture(tmp_path):
    """Path and SHA-256 name the bytes on disk: a JPEG with its facts inside."""
    archive = opened(tmp_path)
    kept = archive.add("defect", "top", jpeg(), {"event_id": "e-1", "box_px": (1, 2, 3, 4)})
    data = read(tmp_path, kept.path)
    assert hashlib.sha256(data).hexdigest() == kept.sha256
    assert facts_of(data) == {
        "schema": "defectd.evidence/1",
        "kind": "defect",
        "camera": "top",
        "event_id": "e-1",
        "box_px": [1, 2, 3, 4],
    }
    plain = cv2.imdecode(np.frombuffer(jpeg(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) == plain).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(8, 300)), max_size=60), st.integers(2_000, 60_000))
def test_quota_holds_to_the_byte_at_any_moment(tmp_path_factory, flood, quota):
    """After each picture, kept or not, the folder holds at most the quota, and the totals are those of the disk."""
    folder = tmp_path_factory.mktemp("evidence")
    archive = opened(folder, quota)
    for kind, side in flood:
        with contextlib.suppress(EvidenceError):  # all other pictures rank higher
            archive.add(kind, "top", jpeg(side), {})
        assert size_of(folder) == archive.bytes <= quota
    assert sum(archive.files.values()) == len(on_disk(folder))
    archive.close()


def test_quota_is_used_up(tmp_path):
    """A flood leaves less space free than one picture takes."""
    one = len(with_facts(jpeg(), {"schema": "defectd.evidence/1", "kind": "defect", "camera": "top"}))
    archive = opened(tmp_path, 10 * one)
    for _ in range(25):
        archive.add("defect", "top", jpeg(), {})
    assert archive.bytes == size_of(tmp_path) == 10 * one
    assert archive.evicted == 15


def test_tiles_are_deleted_before_frames_before_defects_the_oldest_first(tmp_path):
    """Each new picture replaces the oldest picture of the lowest rank."""
    archive = opened(tmp_path, 10 * 2_000)
    kinds = ["defect", "audit", "frame", "unsure", "image", "defect"]
    for kind in kinds:
        archive.add(kind, "top", jpeg(), {})
    before = {stored.path for stored in pictures(tmp_path)}
    deleted = []
    for _ in range(40):
        archive.add("defect", "top", jpeg(), {})
        now = {stored.path for stored in pictures(tmp_path)}
        deleted += sorted(before - now, key=lambda path: path.split("/")[1])
        before = now
    first = [path.split("/")[0] for path in deleted[:6]]
    assert first == ["audit", "unsure", "frame", "image", "defect", "defect"]
    numbers = [int(path.split("/")[1][:10]) for path in deleted if path.startswith("defect")]
    assert numbers == sorted(numbers)


def test_tile_never_replaces_a_defect(tmp_path):
    """When defects fill the quota, the archive refuses a tile."""
    archive = opened(tmp_path, 20_000)
    for _ in range(30):
        archive.add("defect", "top", jpeg(), {})
    before = pictures(tmp_path)
    with pytest.raises(EvidenceError, match="matter more") as refused:
        archive.add("audit", "top", jpeg(100), {})
    assert refused.value.cause == "quota"
    assert pictures(tmp_path) == before


def test_tiles_keep_their_reserved_share(tmp_path):
    """With tiles_bytes, defects leave that share to tiles, and tiles replace tiles."""
    archive = opened(tmp_path, 20_000, tiles_bytes=6_000)
    for _ in range(30):
        archive.add("audit", "top", jpeg(), {})
    for _ in range(30):
        archive.add("defect", "top", jpeg(), {})
    tiles = [stored for stored in pictures(tmp_path) if stored.kind == "audit"]
    assert 3_000 < sum(stored.size_bytes for stored in tiles) <= 6_000
    archive.add("audit", "top", jpeg(), {})
    assert size_of(tmp_path) == archive.bytes <= 20_000


def test_minimum_free_space_is_respected(tmp_path):
    """A nearly full disk takes nothing; a disk that fills up gets space back, tiles first."""
    free = [10**9]
    archive = Archive(tmp_path, max_bytes=10**6, min_free_bytes=50_000, free_bytes=lambda _: free[0])
    archive.open()
    for kind in ("defect", "audit", "audit", "defect"):
        archive.add(kind, "top", jpeg(), {})
    free[0] = 50_000 - pictures(tmp_path)[1].size_bytes - 1
    assert archive.trim() == 2
    assert [stored.kind for stored in pictures(tmp_path)] == ["defect", "defect"]
    free[0] = 0
    with pytest.raises(EvidenceError, match="min_free_mb") as refused:
        archive.add("audit", "top", jpeg(), {})
    assert refused.value.cause == "disk"
    assert size_of(tmp_path) == archive.bytes


def test_start_counts_the_pictures_on_disk(tmp_path):
    """A second run counts the pictures of the first, continues its numbers, and leaves foreign files alone."""
    first = opened(tmp_path)
    kept = [first.add(kind, "top", jpeg(), {}) for kind in KINDS]
    first.close()
    (tmp_path / "defect" / "holiday.jpg").write_bytes(b"x" * 10**7)
    second = opened(tmp_path)
    assert second.files == dict.fromkeys(KINDS, 1)
    assert second.bytes == size_of(tmp_path) - 10**7
    more = second.add("defect", "top", jpeg(), {})
    assert more.path.split("/")[1] > max(one.path.split("/")[1] for one in kept)


def test_smaller_quota_holds_from_the_start(tmp_path):
    """The start deletes what is above the quota, in the same order."""
    first = opened(tmp_path)
    for kind in ("defect", "audit", "defect"):
        first.add(kind, "top", jpeg(), {})
    sizes = [stored.size_bytes for stored in pictures(tmp_path)]
    first.close()
    second = Archive(tmp_path, max_bytes=sizes[0] + sizes[2], min_free_bytes=0)
    assert second.open().evicted == 1
    assert [stored.kind for stored in pictures(tmp_path)] == ["defect", "defect"]


def test_start_deletes_what_a_power_cut_damaged(tmp_path):
    """It deletes truncated and unfinished pictures; whole ones stay."""
    first = opened(tmp_path)
    kept = [first.add("defect", "top", jpeg(), {}) for _ in range(3)]
    first.close()
    (tmp_path / kept[0].path).write_bytes(b"")
    os.truncate(tmp_path / kept[1].path, 500)
    (tmp_path / ".unfinished").write_bytes(jpeg())
    second = Archive(tmp_path, max_bytes=10**6, min_free_bytes=0)
    repair = second.open()
    assert (repair.files, repair.damaged) == (1, 2)
    assert [path.name for path in on_disk(tmp_path)] == [kept[2].path.split("/")[1]]
    assert repair.size_bytes == second.bytes == size_of(tmp_path)


WRITER = """
import sys
from pathlib import Path
from edge.evidence.archive import Archive
archive = Archive(Path(sys.argv[1]), max_bytes=300_000, min_free_bytes=0)
archive.open()
data = b"\\xff\\xd8" + bytes(20_000) + b"\\xff\\xd9"
print("ready", flush=True)
while True:
    archive.add("defect", "top", data, {})
"""


def test_killed_writer_leaves_whole_pictures_within_the_quota(tmp_path):
    """After kill -9 at any moment each picture is whole, and the totals of the next run are right."""
    for more in (1, 40, 3, 25, 8):
        last = max((stored.number for stored in pictures(tmp_path)), default=0)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "ready\n"
        until(lambda goal=last + more: max((stored.number for stored in pictures(tmp_path)), default=0) >= goal)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert size_of(tmp_path) <= 300_000
        archive = Archive(tmp_path, max_bytes=300_000, min_free_bytes=0)
        assert archive.open().damaged == 0
        assert archive.bytes == size_of(tmp_path)
        archive.close()


def test_failed_write_leaves_no_file_and_raises(tmp_path):
    """A deleted folder costs one picture, not the next one."""
    archive = opened(tmp_path)
    (tmp_path / "defect").rmdir()
    with pytest.raises(EvidenceError) as failed:
        archive.add("defect", "top", jpeg(), {})
    assert failed.value.cause == "disk"
    assert on_disk(tmp_path) == []
    assert archive.bytes == 0
    archive.add("defect", "top", jpeg(), {})
    assert archive.bytes == size_of(tmp_path) > 0


def test_picture_deleted_by_hand_stops_nothing(tmp_path):
    """The archive goes on when its oldest file is gone already."""
    archive = opened(tmp_path, 12_000)
    first = archive.add("defect", "top", jpeg(), {})
    (tmp_path / first.path).unlink()
    for _ in range(20):
        archive.add("defect", "top", jpeg(), {})
    assert size_of(tmp_path) == archive.bytes <= 12_000


def test_folder_has_one_writer(tmp_path):
    """Two daemons in one folder would break each other's quota."""
    opened(tmp_path)
    with pytest.raises(EvidenceError, match="another defectd"):
        Archive(tmp_path, max_bytes=10**6, min_free_bytes=0).open()


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "defect/../../x.jpg", "/etc/passwd", "defect/0000000001-top-0.jpg", "", "defect/.lock"]
)
def test_only_paths_of_evidence_are_read(tmp_path, path):
    """No command reads other files of this machine over MQTT."""
    with pytest.raises(EvidenceError) as refused:
        read(tmp_path, path)
    assert refused.value.cause == "path"


def test_deleted_picture_raises(tmp_path):
    """A reference may outlive its picture; the error states that."""
    with pytest.raises(EvidenceError) as gone:
        read(tmp_path, f"defect/0000000001-top-{'0' * 16}.jpg")
    assert gone.value.cause == "gone"


def test_changed_picture_raises(tmp_path):
    """A picture with one flipped bit is no evidence."""
    kept = opened(tmp_path).add("defect", "top", jpeg(), {})
    data = bytearray((tmp_path / kept.path).read_bytes())
    data[-20] ^= 1
    (tmp_path / kept.path).write_bytes(data)
    with pytest.raises(EvidenceError) as damaged:
        read(tmp_path, kept.path)
    assert damaged.value.cause == "damaged"


@given(st.binary(max_size=300))
def test_any_bytes_give_facts_or_none(data):
    """Random bytes have no facts, and raise nothing."""
    assert facts_of(data) == {}


def test_every_kind_has_a_rank():
    """The archive deletes tiles first and defects last."""
    assert set(RANKS) == set(KINDS)
    assert RANKS["audit"] == RANKS["unsure"] == min(RANKS.values())
    assert [kind for kind in KINDS if RANKS[kind] == max(RANKS.values())] == ["defect"]
