"""Files that are replaced as a whole."""

import os
import stat

import pytest

from edge.host import atomic_files


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    """The unfinished file is synced while the old one stands, the folder once the new one does."""
    path, synced = tmp_path / "totals.json", []
    path.write_bytes(b"old")
    real = os.fsync

    def fsync(handle):
        real(handle)
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        synced.append((kind, os.fstat(handle).st_size if kind == "file" else None, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_files.replace(path, b"a longer one")
    assert synced == [("file", 12, b"old"), ("folder", None, b"a longer one")]


def test_file_is_readable_by_its_owner_only_unless_it_is_shared(tmp_path):
    """0600 by default; otherwise what the umask leaves."""
    umask = os.umask(0o022)
    try:
        atomic_files.replace(tmp_path / "own", b"")
        atomic_files.replace(tmp_path / "shared", b"", mode=atomic_files.SHARED)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("own", "shared")] == [0o600, 0o644]


def test_file_that_cannot_be_replaced_stays_and_no_unfinished_file_is_left(tmp_path):
    """A folder of that name is in the way."""
    (tmp_path / "totals.json").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_files.replace(tmp_path / "totals.json", b"new")
    assert [place.name for place in tmp_path.iterdir()] == ["totals.json"]


def test_leftovers_of_a_power_cut_do_not_matter(tmp_path):
    """A longer unfinished file from before is overwritten."""
    (tmp_path / "totals.json.new").write_bytes(b"half of something much longer")
    atomic_files.replace(tmp_path / "totals.json", b"whole")
    assert {place.name: place.read_bytes() for place in tmp_path.iterdir()} == {"totals.json": b"whole"}


def test_missing_folder_raises(tmp_path):
    """The caller makes folders, and decides who owns them."""
    with pytest.raises(FileNotFoundError):
        atomic_files.replace(tmp_path / "missing" / "totals.json", b"new")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_files_that_belong_together_are_all_replaced_or_none(tmp_path, monkeypatch, error):
    """The disk is full at the second one, or Ctrl-C comes: the first stays unchanged, too."""
    places = {tmp_path / name: b"new" for name in ("map.png", "top.yaml")}
    (tmp_path / "map.png").write_bytes(b"old")
    synced = []

    def fsync(handle):
        synced.append(handle)
        if len(synced) == 2:
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(type(error)):
        atomic_files.replace_all(places)
    assert {place.name: place.read_bytes() for place in tmp_path.iterdir()} == {"map.png": b"old"}
    atomic_files.replace_all(places)
    assert {place.read_bytes() for place in tmp_path.iterdir()} == {b"new"}
