"""The state directory: one daemon at a time uses it, and anyone can find out whether one does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.config import StateDir
from edge.errors import ConfigError


def test_lock_is_held_by_one_daemon(tmp_path: Path) -> None:
    """A second one is refused with the remedy; after the first one has ended the directory is free again."""
    state = StateDir(tmp_path / "var")
    assert not state.is_locked()
    with state.locked():
        assert state.is_locked()
        with pytest.raises(ConfigError, match="another node name"), StateDir(tmp_path / "var").locked():
            pass
        assert state.is_locked()
    assert not state.is_locked()


def test_question_about_the_lock_creates_nothing(tmp_path: Path) -> None:
    """A health check may run before the daemon ever did."""
    assert not StateDir(tmp_path / "var").is_locked()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_lock_that_cannot_be_read_counts_as_held(tmp_path: Path) -> None:
    """Missing rights are an error, and do not mean that the directory is free."""
    state = StateDir(tmp_path)
    state.lock_file.touch(mode=0)
    assert state.is_locked()


def test_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """With the key and a remedy: the start ends with 78."""
    (tmp_path / "var").write_text("a file")
    with pytest.raises(ConfigError, match="state_dir"), StateDir(tmp_path / "var").locked():
        pass
