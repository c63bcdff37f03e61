"""The sign of life that a container engine asks for."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.node import Parts
from pydantic import SecretStr

from edge import config
from edge.monitoring.health_check import sign
from edge.monitoring.prometheus import Exporter


def settings(folder: Path, listen: str | None) -> config.Config:
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return config.Config(node="n1", state_dir=folder, metrics=config.Metrics(listen=listen), cameras=(camera,))


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A state directory that a daemon has."""
    handle = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield tmp_path
    os.close(handle)


def test_loop_that_stands_still_is_no_life(held: Path, free_port: int) -> None:
    """A loop that came round lately is alive; one that has not for longer than the watchdog allows is named."""
    parts = Parts()
    exporter = Exporter(("127.0.0.1", free_port), parts.reading)
    assert exporter.start()
    try:
        found = sign(settings(held, f"0.0.0.0:{free_port}"))
        assert (found.alive, found.says) == (True, "1 loops move")
        parts.clock.advance(60)
        found = sign(settings(held, f"127.0.0.1:{free_port}"))
        assert (found.alive, "the loop inspection" in found.says) == (False, True)
    finally:
        exporter.stop()


def test_daemon_that_does_not_run_or_answer_is_no_life(held: Path, tmp_path: Path, free_port: int) -> None:
    """Nobody has the state directory, or somebody has it and says nothing; without metrics the lock has to do."""
    assert not sign(settings(tmp_path / "other", None)).alive
    assert "do not answer" in sign(settings(held, f"127.0.0.1:{free_port}")).says
    assert sign(settings(held, None)).alive


def test_health_check_is_light() -> None:
    """Asked every half minute on a small box: neither OpenCV nor the network nor MQTT is loaded."""
    code = (
        "import sys, edge.monitoring.health_check; print(*{'cv2', 'onnxruntime', 'paho', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
