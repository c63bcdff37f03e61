"""Atomic replacement of files."""

import os
import stat

import pytest

from edge.host import atomic_files


def test_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    """The new file is synced while the old one is still there, the folder once the new one has its name."""
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
    """The mode is 0600 by default, and that of the umask for shared files."""
    umask = os.umask(0o022)
    try:
        atomic_files.replace(tmp_path / "own", b"")
        atomic_files.replace(tmp_path / "shared", b"", mode=atomic_files.SHARED)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("own", "shared")] == [0o600, 0o644]


def test_file_that_cannot_be_replaced_stays_and_no_unfinished_file_is_left(tmp_path):
    """A folder with the name of the file stops the replacement."""
    (tmp_path / "totals.json").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_files.replace(tmp_path / "totals.json", b"new")
    assert [place.name for place in tmp_path.iterdir()] == ["totals.json"]


def test_unfinished_file_of_a_power_cut_is_overwritten(tmp_path):
    """Nothing of a longer unfinished file remains."""
    (tmp_path / "totals.json.new").write_bytes(b"half of something much longer")
    atomic_files.replace(tmp_path / "totals.json", b"whole")
    assert {place.name: place.read_bytes() for place in tmp_path.iterdir()} == {"totals.json": b"whole"}


def test_missing_folder_raises(tmp_path):
    """Only the caller makes folders, because it decides who owns them."""
    with pytest.raises(FileNotFoundError):
        atomic_files.replace(tmp_path / "missing" / "totals.json", b"new")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_files_that_belong_together_are_all_replaced_or_none(tmp_path, monkeypatch, error):
    """If the disk is full at the second file, or Ctrl-C comes, the first stays unchanged, too."""
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
