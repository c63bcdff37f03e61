"""Facts about this machine, from /proc and /sys: memory and processor time of processes, temperatures, throttling.

Nothing here raises OSError: what cannot be read is None or missing. That includes a process that has no file
descriptors left.
"""

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
"""Why the processors are slowed down, in the order of the Raspberry Pi's bits."""
VECTORS: Final = ("sse4", "avx", "fma", "amx", "asimd", "sve", "i8mm", "bf16", "dot")
"""Prefixes of the CPU flags that decide which kernels a network can use."""
CHECK_NS: Final = 2_000_000_000
"""Minimum time between two checks: a Raspberry Pi asks its firmware."""


@dataclass(frozen=True, slots=True)
class Throttling:
    """What slows the processors down, by `REASONS`: at this moment, and at any time since boot."""

    now: tuple[str, ...] = ()
    since_boot: tuple[str, ...] = ()


def resident_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Memory of a process, without shared memory: a ring belongs to both of its ends.  None after its end."""
    try:
        total = 0
        for line in (proc / str(pid) / "status").read_text("utf-8", "replace").splitlines():
            if line.startswith(("RssAnon:", "RssFile:")):
                total += int(line.split()[1]) * 1024
        return total or None  # a zombie has no memory
    except (OSError, ValueError, IndexError):
        return None


def cpu_seconds(pid: int, proc: Path = PROC) -> float | None:
    """Processor time of a process, without its ended children.  None after its end."""
    try:
        fields = (proc / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor(proc: Path = PROC) -> str:
    """The processor's name, and a short hash of what decides how fast and how exactly a network runs."""
    try:
        lines = (proc / "cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0].splitlines()
    except OSError:
        return "unknown"
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or " ".join(
        f"{key.removeprefix('CPU ')} {fields[key]}" for key in ("CPU implementer", "CPU part") if key in fields
    )
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    vectors = sorted(flag for flag in flags if flag.startswith(VECTORS))
    kind = [fields.get(key, "") for key in ("cpu family", "model", "stepping", "CPU variant", "CPU revision")]
    digest = hashlib.sha256(" ".join([*kind, *vectors]).encode()).hexdigest()[:8]
    return f"{name or 'unnamed'} ({digest})"


def temperatures(sys: Path = SYS) -> Iterator[tuple[str, float]]:
    """Sensors and their values, degrees Celsius; none in most containers."""
    for zone in _found(sys / "class" / "thermal", "thermal_zone*"):
        try:
            name = (zone / "type").read_text("utf-8").strip()
            yield f"{zone.name}:{name}", int((zone / "temp").read_text("ascii")) / 1000
        except (OSError, ValueError):
            continue  # the sensor is asleep


def throttlings(sys: Path = SYS) -> int | None:
    """How often the processors were slowed down for their temperature since boot; None without such a counter."""
    total: int | None = None
    for count in _found(sys / "devices" / "system" / "cpu", "cpu[0-9]*/thermal_throttle/core_throttle_count"):
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
    """What slows the processors down; None: unknown.  A PC has a counter only, which tells nothing of this moment."""
    flags = pi_throttled(sys)
    if flags is not None:
        now, since_boot = (
            [name for bit, name in enumerate(REASONS) if bits >> bit & 1] for bits in (flags, flags >> 16)
        )
        return Throttling(tuple(now), tuple(since_boot))
    times = throttlings(sys)
    return None if times is None else Throttling(since_boot=("throttled",) if times else ())


_unreadable: set[Path] = set()
"""Folders whose failure is logged already."""


def _found(folder: Path, pattern: str) -> list[Path]:
    """The files that match; none when the folder cannot be listed: pathlib ignores only missing permissions."""
    try:
        return sorted(folder.glob(pattern))
    except OSError as error:
        if folder not in _unreadable:
            _unreadable.add(folder)
            log.warning("%s cannot be read: %s", folder, error.strerror)
        return []


class PowerWatch:
    """Logs when throttling starts, changes or ends.  Owned by one thread."""

    def __init__(self, sys: Path = SYS) -> None:
        self._sys = sys
        self._checked_ns: int | None = None
        self.found = throttling(sys)

    def check(self, now_ns: int) -> bool:
        """Whether throttling has changed.  Reads at most every CHECK_NS."""
        if self._checked_ns is not None and now_ns - self._checked_ns < CHECK_NS:
            return False
        self._checked_ns = now_ns
        before, self.found = self.found, throttling(self._sys)
        if self.found == before:
            return False
        if self.found is not None and self.found.now:
            log.warning("this machine is slowed down: %s; see `defectd doctor`", ", ".join(self.found.now))
        elif self.found is not None and before is not None and before.now:
            log.info("this machine runs at full speed again")
        return True
