"""Makes the report of each coil that has ended, and publishes its summary.

The thread `coil-reports` looks at the folder of records every few seconds: a coil that the judge has graded and that
has no current report gets one, made by a process of its own. So one that ended while the node was off, or was killed,
gets its report after the next start, and a coil that was released gets a new one. A report that fails is tried again,
then given up until the next start; inspection does not depend on it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_record import PACKED, CoilSummary
from edge.host.backoff import Backoff
from edge.host.child_environment import child_environment
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.redact import redact
from edge.host.text import one_line
from edge.host.worker import Worker
from edge.report.shelf import SUMMARY, SUMMARY_SCHEMA, ReportShelf

log = logging.getLogger(__name__)

TURN_S: Final = 2.0
POLL_S: Final = 0.1
LATEST: Final = 5
"""Newest coils that get a report without being asked for it."""
TIME_S: Final = 900.0
TRIES: Final = 3
MAX_REASON_BYTES: Final = 4096
MAX_LISTED: Final = 12
GRACE_S: Final = 1.0

Launch = Callable[[str, IO[bytes]], "subprocess.Popen[bytes]"]
"""Starts the process for one record; its reasons go to the file.  Raises OSError."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration wants now."""

    is_wanted: bool
    max_bytes: int


class CoilReporter:
    """The thread `coil-reports`."""

    def __init__(
        self,
        folder: Path,
        shelf: ReportShelf,
        wishes: Callable[[], Wishes],
        launch: Launch,
        publish: Callable[[dict[str, Any]], object],
        clock: Clock,
    ) -> None:
        """folder: of the records.  publish: takes the summary of the last coil, for its retained topic."""
        self._folder = folder
        self._shelf = shelf
        self._wishes = wishes
        self._launch = launch
        self._publish = publish
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._published: tuple[str, int] = ("", 0)
        """Id and time of what was published last."""
        self._backoff = Backoff(5.0, 300.0)
        self._again_ns = 0
        self._throttle = LogThrottle(log)
        self._worker = Worker("coil-reports", self._run, clock)

    def start(self) -> None:
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait; a report that is being made is made after the next start."""
        return self._worker.stop(timeout_s)

    @property
    def alive(self) -> bool:
        return self._worker.alive

    # ---- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._worker.is_stopping:
            self._worker.beat()
            try:
                self.turn()
            except Exception as error:  # whatever it is, the next coil has to be reported
                if self._throttle.ready(repr(error), self._clock.monotonic_ns()) is not None:
                    log.exception("reports of coils cannot be made; it is tried again")
            self._worker.wait_for_stop(TURN_S)

    def turn(self) -> None:
        """Make one report that is due, and publish what is new.  Raises OSError."""
        wishes = self._wishes()
        if not wishes.is_wanted or self._clock.monotonic_ns() < self._again_ns:
            return
        packed = [path for path in coil_record.record_paths(self._folder) if path.name.endswith(PACKED)]
        for path in packed[-LATEST:]:
            if self._worker.is_stopping or not self._is_due(path):
                continue
            self._make(path)
            self._shelf.keep({coil_record.record_id(each) for each in packed}, wishes.max_bytes)
            break  # one a turn
        self._publish_newest(packed[-LATEST:])

    def _is_due(self, path: Path) -> bool:
        record_id = coil_record.record_id(path)
        if self._failures[record_id] >= TRIES:
            return False
        judgement = coil_judgement.load(self._folder, record_id)
        if judgement is None or judgement.grade is None:
            return False  # the judge comes first
        return not self._shelf.is_current(self._shelf.path_of(record_id, SUMMARY), self._changed_ns(path))

    def _changed_ns(self, path: Path) -> int:
        judgement = coil_judgement.path_of(self._folder, coil_record.record_id(path))
        return max(path.stat().st_mtime_ns, judgement.stat().st_mtime_ns if judgement.exists() else 0)

    def _make(self, path: Path) -> None:
        record_id = coil_record.record_id(path)
        why = self._run_process(record_id)
        if why is None:
            self._failures.pop(record_id, None)
            self._backoff.reset()
            log.info("the report of the coil is made: %s", record_id)
            return
        if self._worker.is_stopping:
            return
        self._failures[record_id] += 1
        delay_s = self._backoff.next_s()
        self._again_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        log.error("the report of the coil %s cannot be made: %s; inspection goes on", record_id, why)
        if self._failures[record_id] >= TRIES:
            summary = self._without_files(path, why)
            if summary is not None and record_id >= self._published[0]:
                self._published = record_id, 0
                self._publish(summary)

    def _run_process(self, record_id: str) -> str | None:
        """Returns why it failed; None: it did not."""
        with tempfile.TemporaryFile() as said:
            try:
                process = self._launch(record_id, said)
            except OSError as error:
                return error.strerror or str(error)
            end_ns = self._clock.monotonic_ns() + int(TIME_S * NS_PER_S)
            try:
                while process.poll() is None:
                    self._worker.beat()
                    if self._worker.wait_for_stop(POLL_S):
                        return "the node stops"
                    if self._clock.monotonic_ns() > end_ns:
                        return f"it took longer than {TIME_S:g} s"
            finally:
                _end(process)
            if process.returncode == 0:
                return None
            said.seek(0)
            lines = said.read(MAX_REASON_BYTES).decode("utf-8", "replace").strip().splitlines()
            reason = one_line(redact(lines[-1])) if lines else ""
            return reason or f"its process ended with code {process.returncode}"

    def _publish_newest(self, paths: list[Path]) -> None:
        """Publish the summary of the last coil that has one, when it is another one than before."""
        for path in reversed(paths):
            record_id = coil_record.record_id(path)
            file = self._shelf.path_of(record_id, SUMMARY)
            if record_id < self._published[0] or not file.exists():
                continue
            mark = record_id, file.stat().st_mtime_ns
            summary = None if mark == self._published else self._shelf.summary(record_id)
            if summary is not None:
                self._publish(dict(summary))
                self._published = mark
            return

    def _without_files(self, path: Path, why: str) -> dict[str, Any] | None:
        """What is known of a coil whose report cannot be made."""
        record_id = coil_record.record_id(path)
        coil = next((one for one in coil_record.indexed(self._folder) if one.id == record_id), None)
        judgement = coil_judgement.load(self._folder, record_id)
        if judgement is None:
            return None
        if coil is None:
            try:
                coil = coil_record.summary_of(coil_record.items(path))
            except ValueError:
                return None
        return _summary(coil, judgement.grade, judgement.release, len(judgement.roll_marks), why)


def _summary(
    coil: CoilSummary, grade: Mapping[str, Any] | None, release: Mapping[str, Any] | None, marks: int, why: str
) -> dict[str, Any]:
    meters = list(coil.meters.values())
    total = sum(one.whole + one.partial + one.missed + one.unknown for one in meters)
    return {
        "schema": SUMMARY_SCHEMA,
        "id": coil.id,
        "coil": coil.coil,
        "node": coil.node,
        "so_far": coil.ended is None,
        "started": coil.started,
        "ended": coil.ended,
        "length_m": coil.length_m,
        "defects": {severity: coil.severities.get(severity, 0) for severity in ("minor", "major", "critical")},
        "missed_share": sum(one.missed + one.unknown for one in meters) / total if total else None,
        "roll_marks": marks,
        "width_mm": None,
        "is_complete": coil.is_complete,
        "grade": None if grade is None else grade["grade"],
        "reasons": [] if grade is None else list(grade["reasons"])[:MAX_LISTED],
        "released": None if release is None else dict(release),
        "files": [],
        "fetch": {"page": f"/api/v1/coils/{coil.id}.json", "command": f"defectd coil report {coil.id} -o FILE.pdf"},
        "error": why,
    }


def launcher(config_path: Path | None) -> Launch:
    """Starts `defectd coil report`, which ends with this process and runs when nothing else wants to."""

    def launch(record_id: str, said: IO[bytes]) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).resolve().parents[2])
        python_path = os.environ.get("PYTHONPATH")
        config = [] if config_path is None else ["-c", str(config_path)]
        return subprocess.Popen(  # noqa: S603 (our own module)
            [
                *(sys.executable, "-P", "-m", "edge.host.idle_command", str(os.getpid())),
                *("coil", "report", record_id, "--keep", "end", *config),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            env={
                **child_environment(),
                "PYTHONPATH": f"{root}{os.pathsep}{python_path}" if python_path else root,
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )

    return launch


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
