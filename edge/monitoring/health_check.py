"""Whether a daemon runs and moves, asked from outside: for a container's health check, or a person in doubt.

Light on purpose: it is asked every half minute, on small boxes too, so neither OpenCV nor the network is loaded.
"""

from __future__ import annotations

import fcntl
import os
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge import config
from edge.host.watchdog import LIMIT_S, LOOP_AGE

ANSWER_S: Final = 5.0
MAX_BYTES: Final = 4 << 20

_LOOP: Final = re.compile(rf'^{LOOP_AGE}\{{loop="([^"]*)"\}} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sign:
    """alive: every loop that can be looked at moves."""

    alive: bool
    says: str


def sign(settings: config.Config) -> Sign:
    """Of the daemon that has this state directory.  Cameras and the broker may be away: that is told elsewhere."""
    if not daemon_runs(settings.state_dir):
        return Sign(alive=False, says=f"no daemon runs on {settings.state_dir}")
    if settings.metrics.address is None:
        return Sign(alive=True, says="the daemon runs; metrics.listen is null, so its loops cannot be looked at")
    try:
        page = metrics(settings.metrics).decode("utf-8", "replace")
        found = [(name, float(age)) for name, age in _LOOP.findall(page)]
    except (OSError, ValueError) as error:
        return Sign(alive=False, says=f"the daemon runs, but its metrics do not answer: {error}")
    if not found:
        return Sign(alive=False, says=f"another program answers on metrics.listen, {settings.metrics.listen}")
    name, age_s = max(found, key=lambda loop: loop[1])
    if age_s > LIMIT_S:
        return Sign(alive=False, says=f"the loop {name} has not moved for {age_s:.0f} s")
    return Sign(alive=True, says=f"{len(found)} loops move")


def metrics(settings: config.Metrics) -> bytes:
    """The page of the daemon on this machine, its first 4 MiB.  Raises OSError, or ValueError where there is none."""
    if settings.address is None:
        raise ValueError("metrics.listen is null")
    host, port = settings.address
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (asked, not listened on)
    where = f"[{host}]" if ":" in host else host
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with directly.open(f"http://{where}:{port}/metrics", timeout=ANSWER_S) as answer:
        page: bytes = answer.read(MAX_BYTES)
    return page


def daemon_runs(state_dir: Path) -> bool:
    """Whether a daemon holds this state directory."""
    try:
        handle = os.open(state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
