"""`defectd run`: what a person at a terminal is shown."""

from __future__ import annotations

from pathlib import Path

from fakes.clock import FakeClock

from edge.cli.run import _link_printer
from edge.web import entry_links

LINK = "http://127.0.0.1:8480/"


def test_who_starts_the_daemon_by_hand_may_open_the_page(tmp_path: Path) -> None:
    """The printed link works once; where none can be made, the address is printed, for those who only look."""
    clock = FakeClock()
    said: list[str] = []
    _link_printer(tmp_path / "web", clock, said.append)(LINK)
    words, _, token = said.pop().strip().partition(f"{LINK}enter?token=")
    assert words == "Open the page: "
    assert entry_links.take(tmp_path / "web", token, clock.wall_ns())
    assert not entry_links.take(tmp_path / "web", token, clock.wall_ns())
    (tmp_path / "file").touch()
    _link_printer(tmp_path / "file" / "web", clock, said.append)(LINK)
    assert said.pop().strip() == f"Open the page: {LINK}"
