"""Coverage totals that survive a restart: per run, per day and overall, in one small file.

The inspection loop adds a window at each report; the daemon saves at most once a minute, and when it stops. After
`kill -9` the last minute is missing from the totals, and the run is marked as not ended.
"""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any, Final

from edge.coverage.state_file import StateFile
from edge.host import atomic_files
from edge.host.clock import NS_PER_S, Clock, stamp, wall_ns_of

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.totals/1"
SAVE_EVERY_NS: Final = 60 * NS_PER_S
MAX_DAYS: Final = 31
MAX_RUNS: Final = 20
MAX_BYTES: Final = 1 << 22

Tally = dict[str, Any]
"""The keys of a coverage message: delivered, frames by state, tiles, partial, no_signal_s and others."""


class CoverageTotals:
    """The totals of one node.  The inspection loop calls `add`, the main thread `save`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Reads the file.  An unreadable file is logged and renamed; the totals then start from zero."""
        self._file = StateFile(path, log, "the coverage totals cannot be saved", mode=atomic_files.SHARED)
        self._clock = clock
        self._lock = threading.Lock()
        self._saved_ns = clock.monotonic_ns()
        known = _load(self._file)
        now = stamp(clock.wall_ns())
        self._ever: dict[str, Tally] = known.get("ever", {})
        self._days: dict[str, dict[str, Tally]] = known.get("days", {})
        self._runs: list[dict[str, Any]] = known.get("runs", [])[-(MAX_RUNS - 1) :]
        self.previous_alive_ns = wall_ns_of(self._runs[-1]["to"]) if self._runs else None
        """Wall time at which the previous run was last saved: at its end, or up to a minute before it was killed."""
        self._run: dict[str, Any] = {"from": now, "to": now, "ended": False, "cameras": {}}
        self._runs.append(self._run)

    def add(self, camera: str, message: dict[str, Any]) -> dict[str, Any]:
        """Add the window of a coverage message.  Returns the message with the totals of this day (UTC) added."""
        now = stamp(self._clock.wall_ns())
        with self._lock:
            day = self._days.setdefault(now[:10], {})
            for cameras in (self._ever, day, self._run["cameras"]):
                cameras[camera] = _sum(cameras.get(camera), message)
            self._run["to"] = now
            while len(self._days) > MAX_DAYS:
                del self._days[min(self._days)]
            return {**message, "today": {"date": now[:10], **day[camera]}}

    def save(self, *, ended: bool = False) -> None:
        """Write the file if a minute has passed, and at the end of the run."""
        now_ns = self._clock.monotonic_ns()
        if not ended and now_ns - self._saved_ns < SAVE_EVERY_NS:
            return
        self._saved_ns = now_ns
        with self._lock:
            self._run["ended"] = ended
            whole = {"schema": SCHEMA, "ever": self._ever, "days": self._days, "runs": self._runs}
            text = json.dumps(whole, separators=(",", ":"))
        self._file.save(text)  # not under the lock: the disk may be slow, and the inspection loop must not wait


def _sum(known: Tally | None, more: Tally) -> Tally:
    strip = _sum_meters((known or {}).get("strip"), more.get("strip"))
    known = known or {"delivered": 0, "frames": {}, "tiles": {}, "partial": 0, "no_signal_s": 0.0}
    return {
        "delivered": known["delivered"] + more["delivered"],
        "frames": {state: known["frames"].get(state, 0) + n for state, n in more["frames"].items()},
        "tiles": {what: known["tiles"].get(what, 0) + n for what, n in more["tiles"].items()},
        "partial": known["partial"] + more["partial"],
        "no_signal_s": round(known["no_signal_s"] + more["no_signal_s"], 3),
        "paused_s": round(known.get("paused_s", 0.0) + more.get("paused_s", 0.0), 3),
        "paused_frames": known.get("paused_frames", 0) + more.get("paused_frames", 0),
        "strip": strip,
    }


def _sum_meters(known: Tally | None, more: Tally | None) -> Tally | None:
    if known is None or more is None:
        return known or more
    return {what: round(known[what] + n, 3) for what, n in more.items()}


def _load(file: StateFile) -> dict[str, Any]:
    try:
        known = file.load(MAX_BYTES)
        if known["schema"] != SCHEMA:
            raise ValueError(f"its schema is {known['schema']}")
        empty: Tally = {"delivered": 0, "frames": {}, "tiles": {}, "partial": 0, "no_signal_s": 0.0}
        for cameras in (known["ever"], *known["days"].values(), *(run["cameras"] for run in known["runs"])):
            for tally in cameras.values():
                _sum(tally, empty)
        for run in known["runs"]:
            wall_ns_of(run["to"])
        return dict(known)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("the coverage totals of earlier runs cannot be read, they start from zero: %s", error)
        try:
            file.path.replace(file.path.with_suffix(".unreadable"))
        except OSError:
            pass  # the next save replaces the file
        return {}
