"""`defectd` whose limits a test can change while it runs: lines "KIND VALUE" in the FIFO DEFECTD_LIMITS, -1: as before.

A process may change its own limits without a privilege, and needs no file or thread for it once this one is open.
"""

from __future__ import annotations

import os
import resource
import threading

from edge.cli import main


def follow(fifo: int) -> None:
    before: dict[int, tuple[int, int]] = {}
    for line in os.fdopen(fifo, "r"):
        kind, value = map(int, line.split())
        soft, hard = before.setdefault(kind, resource.getrlimit(kind))
        resource.setrlimit(kind, (soft if value < 0 else value, hard))


if __name__ == "__main__":
    threading.Thread(target=follow, args=(os.open(os.environ["DEFECTD_LIMITS"], os.O_RDWR),), daemon=True).start()
    main()
