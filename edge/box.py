"""What the machine says of itself: memory and processor time of processes, temperature, throttling."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
SYS: Final = Path("/sys")


def resident_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Memory that a process holds, without shared memory: a ring belongs to both of its ends.  None when it is gone."""
    try:
        total = 0
        for line in (proc / str(pid) / "status").read_text("utf-8", "replace").splitlines():
            if line.startswith(("RssAnon:", "RssFile:")):
                total += int(line.split()[1]) * 1024
        return total or None  # a zombie has no memory
    except (OSError, ValueError, IndexError):
        return None


def cpu_seconds(pid: int, proc: Path = PROC) -> float | None:
    """Processor time that a process has used, its ended children not counted; None when it is gone."""
    try:
        fields = (proc / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def temperatures(sys: Path = SYS) -> Iterator[tuple[str, float]]:
    """Sensors of the box and what they show, degrees Celsius; none in most containers."""
    for zone in sorted((sys / "class" / "thermal").glob("thermal_zone*")):
        try:
            name = (zone / "type").read_text("utf-8").strip()
            yield f"{zone.name}:{name}", int((zone / "temp").read_text("ascii")) / 1000
        except (OSError, ValueError):
            continue  # a sensor that is asleep


def throttlings(sys: Path = SYS) -> int | None:
    """How often the processors were slowed down for their temperature since boot; None where nobody counts it."""
    total: int | None = None
    for count in (sys / "devices" / "system" / "cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        try:
            total = (total or 0) + int(count.read_text("ascii"))
        except (OSError, ValueError):
            continue
    return total


def pi_throttled(sys: Path = SYS) -> int | None:
    """The Raspberry Pi's flags: bit 0 under-voltage now, 1 capped, 2 throttled, 3 hot; 16 to 19 since boot."""
    try:
        text = (sys / "devices/platform/soc/soc:firmware/get_throttled").read_text("ascii")
        return int(text, 16)
    except (OSError, ValueError):
        return None
