"""`defectd run`: what a person at a terminal is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.clock import FakeClock

from edge.cli.run import _link_printer
from edge.web import entry_links

LINK = "http://127.0.0.1:8480/"


def test_who_starts_the_daemon_by_hand_may_open_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed link works once; where none can be made, the address is printed, for those who only look."""
    clock = FakeClock()
    _link_printer(tmp_path / "web", clock)(LINK)
    words, _, token = capsys.readouterr().err.strip().partition(f"{LINK}enter?token=")
    assert words == "Open the page: "
    assert entry_links.take(tmp_path / "web", token, clock.wall_ns())
    assert not entry_links.take(tmp_path / "web", token, clock.wall_ns())
    (tmp_path / "file").touch()
    _link_printer(tmp_path / "file" / "web", clock)(LINK)
    assert capsys.readouterr().err.strip() == f"Open the page: {LINK}"
