"""SIGTERM, SIGINT and SIGHUP for the main thread, without a lock in a handler.

SIGHUP is a request to reload, but from a terminal that is gone it is one to stop.

Python runs a handler between two instructions of the main thread, which may hold any lock: also the lock inside a
`threading.Event`. So a handler sets plain attributes and nothing else. `signal.set_wakeup_fd` ends the wait.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, Self

from edge.host.clock import NS_PER_S, Clock

IMPATIENCE_S: Final = 1.0
"""A second signal to stop ends the process at once if it comes later than this after the first. Earlier ones are the
same request: `timeout` and a terminal send it to the process and to its group."""
EXIT_AT_ONCE: Final = 1
STDIN: Final = 0
WAKE_BYTES: Final = 4096
MS_PER_S: Final = 1000


class Signals:
    """What was asked of this process.  A context manager: handlers are set inside it, in the main thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: tuple[socket.socket, socket.socket] | None = None
        """A byte written into the second one wakes the main thread, which waits for the first."""
        self._woken = select.poll()
        self.stop_ns: int | None = None
        """When a stop was asked for first, monotonic; None: it was not."""
        self._wants_reload = False
        self._has_terminal = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        self._ends = ours, theirs = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self._woken.register(ours, select.POLLIN)
        if self.wants_stop:
            theirs.send(b"\0")  # it was asked for before
        self._has_terminal = os.isatty(STDIN)
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGHUP: self._on_reload}
            self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_before)
        ends, self._ends = self._ends, None
        if ends is not None:
            self._woken.unregister(ends[0])
            for end in ends:
                end.close()

    @property
    def wants_stop(self) -> bool:
        return self.stop_ns is not None

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        wants_reload, self._wants_reload = self._wants_reload, False
        return wants_reload

    def ask_stop(self) -> None:
        """As SIGTERM does; from any thread."""
        if self.stop_ns is None:
            self.stop_ns = self._clock.monotonic_ns()
        ends = self._ends
        if ends is not None:
            with suppress(OSError):  # full: the main thread is awake already; closed: it has ended
                ends[1].send(b"\0")

    def wait(self, timeout_s: float) -> None:
        """Sleep until a signal or a request comes, also one since the last call.  The main thread only."""
        if self._woken.poll(max(0.0, timeout_s) * MS_PER_S) and self._ends is not None:
            self._ends[0].recv(WAKE_BYTES)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        now_ns = self._clock.monotonic_ns()
        if self.stop_ns is None:
            self.stop_ns = now_ns
        elif now_ns - self.stop_ns > IMPATIENCE_S * NS_PER_S:
            os._exit(EXIT_AT_ONCE)

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        if self._has_terminal and not os.isatty(STDIN):
            self._on_stop(number, frame)  # the terminal was closed: nobody could stop this process by Ctrl-C any more
        else:
            self._wants_reload = True
