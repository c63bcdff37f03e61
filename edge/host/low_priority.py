"""The priority of processes that must not slow inspection down: the page, its jobs, the reports of coils."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

AUTOGROUP_NICE: Final = 10
"""About a tenth of the processor beside a busy session of the usual weight."""


def step_back() -> None:
    """Use the processor when nothing else of the node needs it.  Where the machine forbids that, nothing changes.

    Within a control group or a session, SCHED_IDLE is enough. Outside control groups the kernel first shares the
    processor among sessions, whatever their policies (sched(7), "The autogroup feature"): this session steps back, too.
    It must be one of its own.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(AUTOGROUP_NICE), "ascii")
