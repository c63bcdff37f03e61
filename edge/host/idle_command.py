"""One command as a child of the process that starts it, and not longer, when the machine has nothing else to do.

`python -m edge.host.idle_command PARENT ARGUMENTS...`
"""

from __future__ import annotations

import runpy
import sys
from typing import Final

from edge.host.low_priority import step_back
from edge.host.parent_process import die_with

EXIT_ORPHAN: Final = 4
COMMAND: Final = "edge.cli"
"""Run by name: who starts it loads nothing of it."""


def main(arguments: list[str]) -> int:
    """Run `defectd` with the arguments after the first.  Does not return where the command runs."""
    if not die_with(int(arguments[0])):
        return EXIT_ORPHAN
    step_back()
    sys.argv = ["defectd", *arguments[1:]]
    runpy.run_module(COMMAND, run_name="__main__", alter_sys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
