"""Lets a process run only when nothing else wants the processor."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_AUTOGROUP: Final = Path("/proc/self/autogroup")
LEAST: Final = "19"


def become_idle() -> None:
    """Give this process and those that it starts the idle priority, as far as the system allows.

    With autogroups the kernel shares the processor between sessions first, whatever the priorities within them: a
    process in a session of its own gets as much as the whole daemon, unless its group has the least weight, too.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        if os.getsid(0) == os.getpid():  # the group of another session is not ours to change
            _AUTOGROUP.write_text(LEAST)
