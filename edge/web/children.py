"""Heavy work: `defectd` commands as children of the page process, one at a time, with their progress.

A handler names a command and its arguments as a list: no shell, and nothing of a request becomes an option unless the
handler puts it there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

from edge.host.child_environment import child_environment
from edge.host.clock import Clock, stamp
from edge.host.redact import redact
from edge.host.text import one_line
from edge.web.refusal import Refusal

log = logging.getLogger(__name__)

MAX_WAITING: Final = 4
MAX_KEPT: Final = 20
"""Jobs that have ended and can still be asked for."""
TIME_S: Final = 600.0
MAX_OUTPUT_BYTES: Final = 4 << 20
MAX_LINES: Final = 50
MAX_LINE_CHARACTERS: Final = 500
GRACE_S: Final = 2.0
READ_BYTES: Final = 1 << 16
JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(eq=False, slots=True)
class Job:
    """One command.  Times are UTC stamps."""

    id: str
    label: str
    """What it does, for people."""
    by: str
    """Name of the user."""
    arguments: tuple[str, ...]
    time_s: float
    queued: str
    state: JobState = "waiting"
    started: str | None = None
    ended: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    """Why it failed: the last line that it wrote."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    """Its progress, the newest last: what it writes to stderr."""
    output: bytearray = field(default_factory=bytearray)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_unwanted: bool = False
    """It was cancelled while it ran."""
    is_brief: bool = False
    """It takes seconds and comes again and again: nothing has to wait for its end, and it is not kept."""

    @property
    def result(self) -> Any:
        """The last line of its output, when that is JSON; otherwise None."""
        last = bytes(self.output).strip().rpartition(b"\n")[2]
        try:
            return json.loads(last)
        except (ValueError, RecursionError):
            return None

    @property
    def results(self) -> list[Any]:
        """Every line of its output that is JSON; for commands that write one object a line."""
        found = []
        for line in bytes(self.output).splitlines():
            with suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return found

    @property
    def progress(self) -> Mapping[str, Any] | None:
        """The newest line of progress that is a JSON object."""
        for line in reversed(self.lines):
            if line.startswith("{"):
                with suppress(ValueError):
                    found = json.loads(line)
                    return found if isinstance(found, dict) else None
        return None

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "defectd.api.job/1",
            "id": self.id,
            "label": self.label,
            "by": self.by,
            "state": self.state,
            "queued": self.queued,
            "started": self.started,
            "ended": self.ended,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "progress": self.progress,
            "lines": list(self.lines),
            "result": self.result if self.state == "done" else None,
        }


class Children:
    """Owned by the page process; all methods run on its loop."""

    def __init__(self, clock: Clock, command: Sequence[str] | None = None) -> None:
        """command: what runs the arguments of a job; None: `defectd`, with this process as its parent."""
        self._clock = clock
        self._command = tuple(command or (sys.executable, "-P", "-m", "edge.host.idle_command", str(os.getpid())))
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None

    def submit(self, arguments: Sequence[str], *, label: str, by: str, time_s: float = TIME_S) -> Job:
        """Run `defectd` with these arguments when its turn comes.  Raises Refusal when too many wait."""
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= MAX_WAITING:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "busy", f"{waiting} jobs wait already", "Wait until one has ended"
            )
        queued = stamp(self._clock.wall_ns())
        job = Job(secrets.token_hex(8), label, by, tuple(arguments), time_s, queued)
        self._jobs[job.id] = job
        self._forget_old()
        self._queue.put_nowait(job)
        return job

    async def run_to_end(
        self, arguments: Sequence[str], *, label: str, by: str, time_s: float = 25.0, is_brief: bool = False
    ) -> Job:
        """The same, and wait for its end: for commands that take seconds.  A caller who leaves cancels it.

        is_brief: see `Job`.  Raises Refusal when it fails or takes longer.
        """
        job = self.submit(arguments, label=label, by=by, time_s=time_s)
        job.is_brief = is_brief
        try:
            async with asyncio.timeout(time_s):
                await job.has_ended.wait()
        except TimeoutError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "timeout", f"{label} takes too long") from None
        finally:
            self.cancel(job.id)
            if is_brief:
                self._jobs.pop(job.id, None)
        if job.state != "done":
            raise Refusal(HTTPStatus.CONFLICT, "failed", job.reason or f"{label} failed")
        return job

    def job(self, identity: str) -> Job | None:
        return self._jobs.get(identity)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The newest last."""
        return tuple(self._jobs.values())

    def cancel(self, identity: str) -> None:
        """End a job that waits or runs; safe for one that has ended."""
        job = self._jobs.get(identity)
        if job is None or job.has_ended.is_set():
            return
        if job.state == "running":
            job.is_unwanted = True
            self._kill()
        else:
            self._end(job, "cancelled")

    async def run(self) -> None:
        """Run the jobs, one after the other, until cancelled: that ends the one that runs."""
        while True:
            job = await self._queue.get()
            if job.state != "waiting":
                continue
            try:
                await self._run(job)
            except OSError as error:
                job.reason = error.strerror or str(error)
                self._end(job, "failed")
            except asyncio.CancelledError:
                self._kill()
                self._end(job, "cancelled")
                raise

    async def _run(self, job: Job) -> None:
        """Raises OSError when it cannot be started."""
        job.state, job.started = "running", stamp(self._clock.wall_ns())
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            *job.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        if job.is_unwanted:  # since before there was a process
            self._kill()
        try:
            async with asyncio.timeout(job.time_s):
                await asyncio.gather(_collect(process.stdout, job), _follow(process.stderr, job))
                await process.wait()
        except TimeoutError:
            job.reason = f"it took longer than {job.time_s:g} s"
        finally:
            self._kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_S)
            self._process = None
        job.exit_code = process.returncode
        if job.is_unwanted:
            self._end(job, "cancelled")
        elif job.exit_code == 0 and job.reason is None:
            self._end(job, "done")
        else:
            job.reason = job.reason or next(reversed(job.lines), None) or f"it ended with code {job.exit_code}"
            self._end(job, "failed")

    def _end(self, job: Job, state: JobState) -> None:
        job.state, job.ended = state, stamp(self._clock.wall_ns())
        job.has_ended.set()

    def _kill(self) -> None:
        """End the running child and its own children."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _forget_old(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.has_ended.is_set()]
        for identity in ended[: max(0, len(self._jobs) - MAX_KEPT)]:
            del self._jobs[identity]


async def _collect(stream: asyncio.StreamReader, job: Job) -> None:
    """Keep its output, up to a limit: a longer one is no result."""
    while data := await stream.read(READ_BYTES):
        if len(job.output) + len(data) > MAX_OUTPUT_BYTES:
            job.reason = "its output is too long"
            continue
        job.output += data


async def _follow(stream: asyncio.StreamReader, job: Job) -> None:
    """Keep the last lines of its progress, without credentials."""
    rest = b""
    while data := await stream.read(READ_BYTES):
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        rest = rest[-READ_BYTES:]
        job.lines.extend(text for line in lines if (text := _clean(line)))
    if text := _clean(rest):
        job.lines.append(text)


def _clean(line: bytes) -> str:
    return one_line(redact(line.decode("utf-8", "replace").strip()), MAX_LINE_CHARACTERS)


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    python_path = os.environ.get("PYTHONPATH")
    return {
        **child_environment(),
        "PYTHONPATH": f"{root}{os.pathsep}{python_path}" if python_path else root,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
