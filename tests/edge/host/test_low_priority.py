"""Processes beside inspection step back, also where the kernel shares the processor among sessions."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge.host.low_priority import AUTOGROUP_NICE

SCRIPT = """
import os
from edge.host.low_priority import step_back
step_back()
print(os.sched_getscheduler(0) == os.SCHED_IDLE, *open("/proc/self/autogroup").read().split()[-1:])
"""


def _autogroup() -> list[str]:
    """Name and weight.  Nothing without autogroups, and nothing within a control group of the processor."""
    path = Path("/proc/self/autogroup")
    return path.read_text().split() if path.exists() else []


@pytest.mark.skipif(not _autogroup(), reason="no autogroup: the kernel has none, or a control group contains the tests")
@pytest.mark.parametrize("own_session", [True, False])
def test_a_session_of_its_own_steps_back_as_a_whole(own_session):
    """The policy is idle; the session of somebody else keeps its weight."""
    before = _autogroup()[-1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, start_new_session=own_session
    )
    assert done.stdout.split() == ["True", str(AUTOGROUP_NICE) if own_session else before]
