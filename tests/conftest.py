"""Shared fixtures; the folders of fakes and of system-test players can be imported from everywhere."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # beside other workers, pools of threads are only in each other's way
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(pool, "1")

for folder in ("", "bench", "docs", "system", "trainer", "plant", "web"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

# A shell that starts the suite in the background lets it ignore Ctrl-C, and every process that it starts with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("repeatable", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    from fakes.ports import free_port as found

    return found()
