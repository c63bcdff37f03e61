"""What the machine says of itself: memory and processor time of processes, temperature, throttling."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

PROC: Final = Path("/proc")
SYS: Final = Path("/sys")
REASONS: Final = ("under_voltage", "frequency_capped", "throttled", "hot")
"""Why a box is slower than it should be, in the order of the Raspberry Pi's bits."""
VECTORS: Final = ("sse4", "avx", "fma", "amx", "asimd", "sve", "i8mm", "bf16", "dot")
"""Begins of the flags that say which kernels a network can use."""
LOOK_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Throttling:
    """What slows the box down, by `REASONS`: at this moment, and at any time since boot."""

    now: tuple[str, ...] = ()
    since_boot: tuple[str, ...] = ()


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


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor(proc: Path = PROC) -> str:
    """Which processor this is: its name, and a short hash of what decides how fast and how right a network runs."""
    try:
        lines = (proc / "cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0].splitlines()
    except OSError:
        return "unknown"
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = said.get("model name") or " ".join(
        f"{key.removeprefix('CPU ')} {said[key]}" for key in ("CPU implementer", "CPU part") if key in said
    )
    able = (said.get("flags") or said.get("Features") or "").split()
    vectors = sorted(flag for flag in able if flag.startswith(VECTORS))
    kind = [said.get(key, "") for key in ("cpu family", "model", "stepping", "CPU variant", "CPU revision")]
    digest = hashlib.sha256(" ".join([*kind, *vectors]).encode()).hexdigest()[:8]
    return f"{name or 'unnamed'} ({digest})"


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


def throttling(sys: Path = SYS) -> Throttling | None:
    """What slows this box down; None where nobody knows.  PCs only count: what holds at this moment is not known."""
    flags = pi_throttled(sys)
    if flags is not None:
        now, since_boot = (
            [name for bit, name in enumerate(REASONS) if bits >> bit & 1] for bits in (flags, flags >> 16)
        )
        return Throttling(tuple(now), tuple(since_boot))
    times = throttlings(sys)
    return None if times is None else Throttling(since_boot=("throttled",) if times else ())


class PowerWatch:
    """Notices when what slows the box down begins, changes or ends, and logs it."""

    def __init__(self, sys: Path = SYS) -> None:
        self._sys = sys
        self._looked_ns: int | None = None
        self.found = throttling(sys)

    def look(self, now_ns: int) -> bool:
        """Whether it is another than before.  Reads at most every 2 s: a Raspberry Pi asks its firmware."""
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_NS:
            return False
        self._looked_ns = now_ns
        before, self.found = self.found, throttling(self._sys)
        if self.found == before:
            return False
        if self.found is not None and self.found.now:
            log.warning("the box is slowed down: %s; see `defectd doctor`", ", ".join(self.found.now))
        elif before is not None and before.now:
            log.info("the box runs at full speed again")
        return True
