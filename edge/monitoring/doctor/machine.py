"""The machine: disk, memory, clock, power and heat, and the systemd unit that starts the daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import edge
from edge.host import machine
from edge.host.child_environment import child_environment
from edge.host.clock import clock_synced
from edge.host.rights import nearest
from edge.monitoring.doctor.finding import Finding, Grade

MIN_DISK_BYTES: Final = 500 << 20
MIN_MEMORY_BYTES: Final = 300 << 20
UNIT: Final = "defectd.service"
UNIT_FOLDERS: Final = (
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
"""Where systemd looks for units, in its order."""
SHIPPED: Final = (Path(edge.__file__).parents[1] / "systemd" / UNIT, Path(sys.prefix) / "share" / "defectd" / UNIT)
"""In a checkout, and in an installation."""
ANSWER_S: Final = 5.0


def disk(state_dir: Path) -> Finding:
    there = nearest(state_dir)
    if not os.access(there, os.W_OK):
        return Finding("disk", "fail", f"{there} is not writable", "Give it to the user that runs defectd")
    free = shutil.disk_usage(there).free
    says = f"{free >> 20} MiB free at {there}"
    if free < MIN_DISK_BYTES:
        return Finding("disk", "warning", says, "Free disk space: events and totals are stored there")
    return Finding("disk", "ok", says)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text("ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError) as error:
        return Finding("memory", "warning", f"cannot be read: {error}", "Run `free -m`")
    says = f"{free >> 20} MiB available"
    if free < MIN_MEMORY_BYTES:
        return Finding("memory", "warning", says, "A camera takes up to 90 MiB: stop something, or use fewer cameras")
    return Finding("memory", "ok", says)


def clock() -> Finding:
    if clock_synced():
        return Finding("clock", "ok", "synchronised")
    return Finding("clock", "warning", "not synchronised", "Set up NTP: timedatectl set-ntp true, or chrony")


def power_and_heat(sysfs: Path = machine.SYS) -> Iterator[Finding]:
    found = machine.throttling(sysfs)
    if found is None:
        return
    grade: Grade = "fail" if found.now else "warning" if found.since_boot else "ok"
    causes = "; ".join(
        f"{', '.join(reasons)} {when}"
        for reasons, when in ((found.now, "now"), (found.since_boot, "since boot"))
        if reasons
    )
    weak = "under_voltage" in (*found.now, *found.since_boot)
    remedy = (
        "Use the official power supply and a short, thick cable"
        if weak
        else "Check the fan and the heat sink, and remove dust"
    )
    yield Finding("power and heat", grade, causes or "not slowed down since boot", remedy if causes else "")


def unit(root: Path = Path("/"), shipped: tuple[Path, ...] = SHIPPED) -> Iterator[Finding]:
    """Whether the unit that systemd uses is the one of this version; nothing where none is installed."""
    installed = installed_unit(root)
    expected = next((path for path in shipped if path.is_file()), None)
    if installed is None or expected is None:
        return
    if directives(installed) != directives(expected):
        remedy = f"diff {installed} {expected}; keep your changes in a drop-in: systemctl edit {UNIT}"
        yield Finding("unit", "warning", f"{installed} is not the unit of this version", remedy)
        return
    own = drop_ins(root)
    if root == Path("/") and _is_stale():
        yield Finding("unit", "warning", f"{installed} was changed after systemd read it", "systemctl daemon-reload")
        return
    with_own = f", with {', '.join(path.name for path in own)}" if own else ""
    yield Finding("unit", "ok", f"{installed} is the unit of this version{with_own}")


def installed_unit(root: Path = Path("/")) -> Path | None:
    """The unit file that systemd uses."""
    places = (root / folder / UNIT for folder in UNIT_FOLDERS)
    return next((path for path in places if path.is_file()), None)


def drop_ins(root: Path = Path("/")) -> list[Path]:
    """The site's changes to the unit, as `systemctl edit` makes them."""
    return sorted((root / UNIT_FOLDERS[0] / f"{UNIT}.d").glob("*.conf"))


def directives(path: Path) -> list[str]:
    """The directives of a unit, without comments and blank lines; continued lines are joined."""
    lines = (line.strip() for line in path.read_text("utf-8", "replace").replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith(("#", ";"))]


def _is_stale() -> bool:
    command = ["systemctl", "show", UNIT, "--property=NeedDaemonReload", "--value"]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False, env=child_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "yes"
