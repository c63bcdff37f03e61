"""One camera process as the supervisor holds it: its start by exec, its output, its memory, its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

from edge.camera.process import EXIT_CAMERA, Job
from edge.camera.ring import RingReader, open_ring
from edge.camera.sources.registry import environment
from edge.host import machine
from edge.host.child_environment import child_environment
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import mask_of, redact
from edge.host.text import one_line
from edge.host.token_bucket import TokenBucket
from edge.host.url import public_url, secrets_of

KILL_GRACE_S: Final = 1.0
"""For a process to be gone after it closed its end of the ring, or was asked to end."""
WEIGH_EVERY_NS: Final = 2 * NS_PER_S
"""Between two measurements of the memory of a process."""
READ_EVERY_NS: Final = NS_PER_S // 20
"""Output is read no more often: a process that floods it has to wait, and does not keep the daemon busy."""
READ_BYTES: Final = 1 << 16
MAX_LINE_BYTES: Final = 4096
MAX_LINE_CHARACTERS: Final = 300
MAX_LINES: Final = 10
"""Of one camera in the log at once; then one more per LINE_EVERY_S."""
LINE_EVERY_S: Final = 10.0

Launch = Callable[[Job, int, int], subprocess.Popen[bytes]]
"""job, link, memory: the two descriptors of the child's end of the ring.  Raises OSError."""
OpenRing = Callable[[], tuple[socket.socket, socket.socket, int]]

T = TypeVar("T")


class CameraLog:
    """Limits what one camera and its processes write to the log: FFmpeg repeats itself."""

    def __init__(self, camera: str, log: logging.Logger, now_ns: int) -> None:
        self._camera = camera
        self._log = log
        self._bucket = TokenBucket(1 / LINE_EVERY_S, MAX_LINES, now_ns)
        self._left_out = 0

    def write(self, level: int, lines: Sequence[T], now_ns: int, clean: Callable[[T], str] = str) -> None:
        """Log as many lines as the limit allows, and count the others.  clean: applied to what is logged only."""
        for at, line in enumerate(lines):
            if not self._bucket.take(now_ns):
                self._left_out += len(lines) - at
                return
            if self._left_out:
                self._log.debug("camera %s: %d lines more were not logged", self._camera, self._left_out)
                self._left_out = 0
            self._log.log(level, "camera %s: %s", self._camera, clean(line))


@dataclass(slots=True, eq=False)
class Child:
    """One camera process.  Belongs to the thread of the supervisor; `reader` needs its lock."""

    process: subprocess.Popen[bytes]
    reader: RingReader
    output: IO[bytes]
    """Its stdout and stderr, non-blocking."""
    url: str
    sign_ns: int
    """Monotonic, of its last message; the limits for a process that hangs count from here."""
    has_started: bool = False
    """Its interpreter runs, and it opens its source."""
    delivers_since_ns: int | None = None
    has_ended: bool = False
    """It played its recording to the end."""
    killed_ns: int | None = None
    hung_up_ns: int | None = None
    reason: str = ""
    """Why it ends, if that is known."""
    weighed_ns: int = 0
    output_ns: int = 0
    incomplete: bytes = b""
    """An output line without its end: not logged yet, because half a URL cannot be redacted."""
    last_line: str = ""

    @property
    def is_ending(self) -> bool:
        return self.hung_up_ns is not None or self.killed_ns is not None

    def hang_up(self, now_ns: int) -> None:
        """Take no more messages from it.  Needs the lock of the supervisor."""
        self.hung_up_ns = now_ns
        self.reader.close()

    def kill(self, now_ns: int) -> None:
        if self.killed_ns is None:
            self.killed_ns = now_ns
            self.process.kill()

    def reap(self, wait_s: float = KILL_GRACE_S) -> bool:
        """Wait for its end and close what belongs to it.  False when it cannot be killed: it is stuck in a driver."""
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.output.close()
        return True

    def exceeds_memory(self, max_memory_mb: int, now_ns: int) -> bool:
        """Whether it holds more memory than allowed, measured now and then: drivers leak.  Sets `reason`."""
        if now_ns - self.weighed_ns < WEIGH_EVERY_NS:
            return False
        self.weighed_ns = now_ns
        held = machine.resident_bytes(self.process.pid)
        if held is None or held <= max_memory_mb << 20 or self.killed_ns is not None:
            return False
        held_mb = held >> 20
        self.reason = f"the camera process was replaced: it held {held_mb} MB, max_memory_mb is {max_memory_mb}"
        return True

    def log_output(self, log: CameraLog, now_ns: int, *, at_once: bool = False) -> None:
        """Log what it printed since the last time, without credentials.  at_once: however recent that was."""
        if now_ns - self.output_ns < READ_EVERY_NS and not at_once:
            return
        self.output_ns = now_ns
        try:
            data = os.read(self.output.fileno(), READ_BYTES)
        except OSError:
            return
        *lines, rest = (self.incomplete + data).split(b"\n")
        self.incomplete = rest if len(rest) <= MAX_LINE_BYTES else b""
        log.write(logging.DEBUG, lines, now_ns, self._clean)
        last = next((line for line in reversed(lines) if line.strip()), None)
        if last is not None:
            self.last_line = self._clean(last)

    def _clean(self, line: bytes) -> str:
        """One line of output, short and without credentials."""
        return one_line(self.without_secrets(line.decode("utf-8", "replace").strip()), MAX_LINE_CHARACTERS)

    def without_secrets(self, text: str) -> str:
        """A text of this process without the credentials of its camera, however the libraries decoded them."""
        mask = mask_of(secrets_of(self.url))
        return redact(mask(text.replace(self.url, public_url(self.url))))

    @property
    def gave_reason(self) -> bool:
        """Whether a reaped process ended by itself, with an error that it reported: no picture killed it."""
        return self.process.returncode == EXIT_CAMERA

    def describe_exit(self) -> str:
        """Why a reaped process ended that gave no reason itself."""
        code = self.process.returncode
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = "unknown"
            how = f"the camera process was killed by signal {-code} ({name})"
        else:
            how = f"the camera process ended with code {code}"
        return f"{how}: {self.last_line}" if self.last_line else how


def launch_process(job: Job, link: int, memory: int) -> subprocess.Popen[bytes]:
    """Start a camera process by exec: a fork would copy the locks of all our threads.  Raises OSError."""
    root = str(Path(__file__).resolve().parents[2])
    python_path = os.environ.get("PYTHONPATH")
    variables = {
        **child_environment(),
        **environment(job.spec),
        "PYTHONPATH": f"{root}{os.pathsep}{python_path}" if python_path else root,
        # The process does everything in one thread: thread pools of the numeric libraries would only cost memory.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    # -P: no file in the working directory can replace a library.
    command = [sys.executable, "-P", "-m", "edge.camera.process", str(link), str(memory), str(os.getpid())]
    process = subprocess.Popen(  # noqa: S603 (our own module)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(link, memory),
        start_new_session=True,
        env=variables,
        bufsize=0,
    )
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            stdin.write(job.to_json().encode("utf-8"))
    except OSError:
        pass  # it died already: its end of the ring shows that
    return process


def start_child(job: Job, clock: Clock, *, launch: Launch = launch_process, open_ring: OpenRing = open_ring) -> Child:
    """Start the process for a job, with a ring of its own.  Raises OSError: no descriptors, processes or memory."""
    ours, theirs, memory = open_ring()
    reader = RingReader(job.camera, ours, memory, job.number)
    try:
        with theirs:
            process = launch(job, theirs.fileno(), memory)
    except OSError:
        reader.close()
        raise
    output = process.stdout
    assert output is not None
    os.set_blocking(output.fileno(), False)
    return Child(process, reader, output, job.spec.url, clock.monotonic_ns())
