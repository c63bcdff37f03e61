"""Makes a camera process leak memory without end as soon as /run/defectd/leak exists."""

import sys
import threading
import time
from pathlib import Path

ORDER = Path("/run/defectd/leak")


def leak() -> None:
    while not ORDER.exists():
        time.sleep(0.05)
    ORDER.unlink()
    held = []
    while True:
        held.append(bytearray(b"x") * (8 << 20))
        time.sleep(0.01)


if "edge.camera.process" in sys.orig_argv:
    threading.Thread(target=leak, daemon=True).start()
