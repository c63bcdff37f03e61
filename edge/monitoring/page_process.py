"""The process that serves the page, as the daemon holds it: its start, its signs of life, its end.

The page is a convenience: the process that fails is started again, with growing delays, one that hangs is killed, and
nothing of the node waits for either.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from edge.delivery.page_life import PageLife
from edge.host import machine
from edge.host.backoff import Backoff
from edge.host.child_environment import child_environment
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.log_throttle import LogThrottle
from edge.host.redact import redact
from edge.host.text import one_line
from edge.host.watchdog import Watchdog
from edge.host.worker import Worker

log = logging.getLogger(__name__)

State = Literal["starting", "running", "restarting"]
Launch = Callable[[str], "subprocess.Popen[bytes]"]
"""Takes the settings, JSON.  Raises OSError."""

MAX_REASON_BYTES: Final = 4096
KILL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When the process counts as failed, and how it is started again."""

    turn_s: float = 0.5
    still_s: float = 15.0
    """Without a sign of life for so long it hangs."""
    steady_s: float = 30.0
    """After so long its next failure counts as the first."""
    terminate_s: float = 0.7
    """From SIGTERM to SIGKILL."""
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    max_memory_mb: int = 256
    """It holds some 35 MB; one that grows larger is started again."""


@dataclass(frozen=True, slots=True)
class PageStatus:
    """How the page is doing, for the status message, metrics and the doctor.  Times: monotonic."""

    state: State
    since_ns: int
    restarts: int = 0
    last_error: str | None = None
    """Why it was started again, or why it cannot serve now."""
    pid: int | None = None
    link: str | None = None
    """Its address for a browser, once it serves."""
    viewers: int = 0

    def as_json(self, wall_ns: int, now_ns: int) -> dict[str, Any]:
        """For the status message.  wall_ns, now_ns: the present time of both clocks."""
        return {
            "state": self.state,
            "since": stamp(wall_ns - (now_ns - self.since_ns)),
            "restarts": self.restarts,
            "last_error": self.last_error,
            "link": self.link,
            "viewers": self.viewers,
        }


class _Failed(Exception):
    """The process must be started again."""


class PageProcess:
    """The thread `web`."""

    def __init__(
        self,
        settings: Callable[[], str],
        life: PageLife,
        clock: Clock,
        *,
        limits: Limits = Limits(),
        launch: Launch | None = None,
        on_link: Callable[[str], None] = lambda _link: None,
    ) -> None:
        """settings: for the process, JSON, asked for at each start.  life: its signs, as the feed receives them.

        on_link: called once, when the page is served for the first time.
        """
        self._settings = settings
        self._life = life
        self._clock = clock
        self._limits = limits
        self._launch = launch or launch_process
        self._on_link = on_link
        self._backoff = Backoff(limits.first_delay_s, limits.max_delay_s)
        self._throttle = LogThrottle(log)
        self._status = PageStatus("starting", clock.monotonic_ns())
        self._has_link = False
        self._announced: tuple[object, ...] = ()
        """What `take_change` compares with."""
        self._worker = Worker("web", self._run, clock)

    def start(self) -> None:
        """Raises RuntimeError when the machine allows no more threads."""
        self._worker.start()

    def ask_stop(self) -> None:
        """Start to end the process.  Does not wait."""
        self._worker.ask_stop()

    def stop(self, timeout_s: float) -> bool:
        """End the process.  False when the thread still runs after that time."""
        return self._worker.stop(timeout_s)

    @property
    def status(self) -> PageStatus:
        """Any thread may read it."""
        return self._status

    def take_change(self) -> bool:
        """Whether something that people should know has changed since the last call.  By one thread."""
        status = self._status
        before, self._announced = self._announced, (status.state, status.restarts, status.last_error, status.link)
        return self._announced != before

    @property
    def alive(self) -> bool:
        return self._worker.alive

    # ---- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._worker.is_stopping:
            try:
                self._run_process()
            except Exception as error:  # noqa: BLE001 (whatever it is, the page is started again)
                if not self._worker.is_stopping:
                    delay_s = self._backoff.next_s()
                    self._record(error, delay_s)
                    self._worker.wait_for_stop(delay_s)

    def _run_process(self) -> None:
        """Run one process from its start to its end.  Raises what made it fail."""
        process = self._launch(self._settings())
        try:
            self._watch(process)
        finally:
            self._end(process)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Watch one process until a stop is asked for.  Raises _Failed."""
        started_ns = self._clock.monotonic_ns()
        sight = _Sight(self._life, process.pid, self._clock)
        watchdog = Watchdog(lambda: {"page": sight}, self._clock, self._limits.still_s)
        while not self._worker.wait_for_stop(self._limits.turn_s):
            self._worker.beat()
            code = process.poll()
            if code is not None:
                raise _Failed(_why_ended(code, process))
            stuck = watchdog.check()
            if stuck is not None:
                raise _Failed(f"it has given no sign of life for {stuck.still_s:.0f} s")
            held = machine.resident_bytes(process.pid) or 0
            if held > self._limits.max_memory_mb << 20:
                raise _Failed(f"it held {held >> 20} MB; it may hold {self._limits.max_memory_mb}")
            self._note(process.pid)
            if self._clock.monotonic_ns() - started_ns > self._limits.steady_s * NS_PER_S:
                self._backoff.reset()

    def _note(self, pid: int) -> None:
        """Keep what its last sign of life states."""
        last = self._life.last
        if last is None or last[0].pid != pid:
            return
        sign, before = last[0], self._status
        link = None if sign.problem else sign.link
        since_ns = before.since_ns if before.state == "running" else self._clock.monotonic_ns()
        if sign.problem and sign.problem != before.last_error:
            log.warning("the page: %s", redact(one_line(sign.problem)))
        self._status = PageStatus(
            "running", since_ns, before.restarts, sign.problem or before.last_error, pid, link, sign.viewers
        )
        if link is not None and not self._has_link:
            self._has_link = True
            self._on_link(link)

    def _record(self, error: Exception, delay_s: float) -> None:
        before = self._status
        words = one_line(redact(str(error) if isinstance(error, _Failed) else f"{type(error).__name__}: {error}"))
        since_ns = before.since_ns if before.state == "restarting" else self._clock.monotonic_ns()
        self._status = PageStatus("restarting", since_ns, before.restarts + 1, words[:300])
        message = f"the page is not served: {words}; it is tried again, inspection goes on"
        if self._throttle.write(logging.ERROR, message, self._clock.monotonic_ns()):
            log.debug("the page is tried again in %.1f s", delay_s)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the process, kindly at first, and close what belongs to it."""
        try:
            if process.poll() is None:
                process.terminate()
                process.wait(self._limits.terminate_s)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it ends when it comes back
                process.wait(KILL_S)
        finally:
            if process.stdout is not None:
                process.stdout.close()


@dataclass(frozen=True, slots=True)
class _Sight:
    """The process as the watchdog sees it: a loop whose heartbeats are its signs of life."""

    life: PageLife
    pid: int
    clock: Clock

    @property
    def beat_ns(self) -> int:
        """Without a feed no sign can come, so that it counts as alive."""
        if self.life.listens_since_ns is None:
            return self.clock.monotonic_ns()
        last = self.life.last
        sign_ns = last[1] if last is not None and last[0].pid == self.pid else 0
        return max(sign_ns, self.life.listens_since_ns)


def _why_ended(code: int, process: subprocess.Popen[bytes]) -> str:
    """The reason that the process wrote on its stdout, or how it ended."""
    said = b"" if process.stdout is None else process.stdout.read(MAX_REASON_BYTES)
    reason = one_line(said.decode("utf-8", "replace").strip())
    if reason:
        return reason
    if code < 0:
        return f"its process was killed by signal {-code} ({_signal_name(-code)})"
    return f"its process ended with code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def launch_process(settings: str) -> subprocess.Popen[bytes]:
    """Start the page process by exec; its settings go to its stdin, its log to our stderr.  Raises OSError."""
    root = str(Path(__file__).resolve().parents[2])
    python_path = os.environ.get("PYTHONPATH")
    variables = {**child_environment(), "PYTHONPATH": f"{root}{os.pathsep}{python_path}" if python_path else root}
    process = subprocess.Popen(  # noqa: S603 (our own module)
        [sys.executable, "-P", "-m", "edge.web", str(os.getpid())],  # -P: no file in the working directory
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=variables,
        bufsize=0,
    )
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            stdin.write(settings.encode("utf-8"))
    except OSError:
        pass  # it died already: its exit shows that
    return process
