"""One thread of the daemon: a name, a start, a stop that waits, and a heartbeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge.host.clock import Clock

log = logging.getLogger(__name__)


class Worker:
    """Runs a function on a thread of its own until it returns or raises.

    The function must return soon after `is_stopping` becomes true, and call `beat` each time its loop comes round.
    """

    def __init__(self, name: str, run: Callable[[], None], clock: Clock) -> None:
        """name: of the thread, in logs, metrics and stack traces."""
        self.name = name
        self._run = run
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self.failure: BaseException | None = None
        """What ended the thread, unless the function returned."""
        self.beat_ns = clock.monotonic_ns()
        """When the loop last came round, monotonic."""

    def start(self) -> None:
        """Raises RuntimeError when the machine allows no more threads."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """Stamp one round of the loop.  By the worker's own thread."""
        self.beat_ns = self._clock.monotonic_ns()

    def ask_stop(self) -> None:
        """Make `is_stopping` true; does not wait."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> bool:
        """Ask to stop and wait.  False when the thread still runs after that time."""
        self.ask_stop()
        return self.join(timeout_s)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end.  False when the thread still runs after that time; a thread never started has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def wait_for_stop(self, timeout_s: float) -> bool:
        """Sleep, at most until a stop is asked for.  Returns `is_stopping`."""
        return self._stopping.wait(timeout_s)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:  # the top of a thread: its owner reads `failure` and decides
            log.exception("the thread %s ended", self.name)
            self.failure = error
