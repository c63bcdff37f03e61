"""Fixtures that start a fresh service for each system test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto import Mosquitto, need_mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker without access control; it holds no message at the start."""
    need_mosquitto()
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Mosquitto(folder)
    try:
        yield running.start()
    finally:
        running.stop()
