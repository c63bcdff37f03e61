"""A process of a session of its own that becomes idle leaves the processor to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
from edge.host.idle_priority import become_idle
become_idle()
print(os.sched_getscheduler(0) == os.SCHED_IDLE, open("/proc/self/autogroup").read().split()[-1])
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups")
def test_both_its_own_and_its_group_have_the_least_priority() -> None:
    """Otherwise the kernel gives its session as much as the session of the daemon."""
    command = [sys.executable, "-c", CODE]
    made = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    assert made.stdout.split() == ["True", "19"]


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups")
def test_the_group_of_another_session_is_left_alone() -> None:
    """A command in a terminal must not slow down the terminal."""
    before = Path("/proc/self/autogroup").read_text().split()[-1]
    subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert Path("/proc/self/autogroup").read_text().split()[-1] == before
