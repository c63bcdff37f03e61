"""The only module that reads the time.  All others receive a `Clock` or a `now`."""

from __future__ import annotations

import ctypes
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Monotonic time for ages and deadlines; wall time for stamps only."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in ns: the same in every process of this boot."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 in UTC; may step: never used for an age."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


def stamp(wall_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds, as events carry it."""
    seconds, rest = divmod(wall_ns, NS_PER_S)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // NS_PER_MS:03d}Z"


def local_time(wall_ns: int) -> str:
    """Time of day with its zone, for people: `14:03:22.417 CET`."""
    at, rest = time.localtime(wall_ns // NS_PER_S), wall_ns % NS_PER_S
    return f"{time.strftime('%H:%M:%S', at)}.{rest // NS_PER_MS:03d} {at.tm_zone}"


def local_date_time(wall_ns: int) -> str:
    """The same with its date, for what may be old: `2026-11-22 14:03:22.417 CET`."""
    return f"{time.strftime('%Y-%m-%d', time.localtime(wall_ns // NS_PER_S))} {local_time(wall_ns)}"


def wall_ns_of(text: str) -> int:
    """The wall time of a `stamp`.  Raises ValueError."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000) * NS_PER_MS


def boot_id() -> str:
    """The kernel's id of this boot: monotonic stamps of different boots cannot be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"


def clock_synced() -> bool:
    """Whether the wall clock is disciplined by NTP.

    systemd-timesyncd leaves a file, which can be read under ProtectClock=yes, too. For chrony and ntpd, a read-only
    adjtimex asks the kernel (its result 5, TIME_ERROR, means unsynchronised).
    """
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    query = ctypes.create_string_buffer(512)  # struct timex with modes = 0; larger than any ABI's
    state: int = libc.adjtimex(query)
    return 0 <= state < 5


def uuid7(wall_ns: int, random_bytes: bytes | None = None) -> str:
    """A time-ordered UUID, version 7.  random_bytes: 10, for tests.  Source: RFC 9562, section 5.7."""
    noise = int.from_bytes(random_bytes or secrets.token_bytes(10), "big")
    ms = (wall_ns // NS_PER_MS) & ((1 << 48) - 1)
    rand_a = (noise >> 62) & 0xFFF
    rand_b = noise & ((1 << 62) - 1)
    value = ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
