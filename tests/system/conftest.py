"""What system tests start anew for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto import Mosquitto, need_mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker that lets everyone in, empty at first."""
    need_mosquitto()
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Mosquitto(folder)
    try:
        yield running.start()
    finally:
        running.stop()
