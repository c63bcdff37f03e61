"""defectd with a loop that hangs on demand: the loop that the file $DEFECTD_STUCK names stands still.

The daemon itself has no such switch: this entry point wraps one function that each loop calls in every round.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from edge.camera.supervisor import Supervisor
from edge.cli import main
from edge.delivery.mqtt.connection import Connection
from edge.delivery.outbox.store import Outbox
from edge.pipeline.loop import InspectionLoop

ORDER = Path(os.environ["DEFECTD_STUCK"])
PLACES: dict[str, tuple[type, str]] = {
    "inspection": (InspectionLoop, "turn"),
    "recorder": (Outbox, "append"),
    "publisher": (Connection, "receive"),
    "cameras": (Supervisor, "_turn"),
}


def hangs_on_demand(thread: str, owner: type, name: str) -> None:
    whole = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        ordered = ORDER.exists() and ORDER.read_text().strip() == thread
        if ordered and threading.current_thread().name == thread:
            threading.Event().wait()
        return whole(*args, **kwargs)

    setattr(owner, name, wrapped)


for thread, (owner, name) in PLACES.items():
    hangs_on_demand(thread, owner, name)
sys.exit(main())
