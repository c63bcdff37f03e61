"""Where the log of `defectd run` goes: to the live view on a terminal, otherwise to standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO, cast

from edge.host import logs
from edge.host.child_environment import child_environment

CLOSE_S: Final = 2.0
"""For the view to print the last lines."""


def is_wanted() -> bool:
    """Whether a person sits at a terminal that can move its cursor."""
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class LiveTerminal:
    """The process of the live view, and the pipe to it.

    A context manager: at its end the last lines are on the terminal.  A view that has died is replaced by plain log
    lines; one that does not read, because the terminal is held, loses lines, which are counted.
    """

    def __init__(self, socket: Path, level: str, command: tuple[str, ...] = ("-m", "edge.cli.live_view")) -> None:
        """socket: of the feed.  level: of the log.  command: of the view, for the interpreter.  Raises OSError."""
        self._level = level
        self.lost = 0
        """Log lines for which the terminal had no time."""
        self._view = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, *command, str(socket)], stdin=subprocess.PIPE, env=child_environment(), close_fds=True
        )
        assert self._view.stdin is not None
        self._pipe = self._view.stdin.fileno()
        os.set_blocking(self._pipe, False)

    def __enter__(self) -> Self:
        logs.start(self._level, "json", cast("TextIO", self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lost:
            self.write(f"{self.lost} log lines were not shown: the terminal did not take them\n")
        logs.start(self._level, "plain")
        assert self._view.stdin is not None
        self._view.stdin.close()
        try:
            self._view.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._view.kill()
            self._view.wait()

    def say(self, text: str) -> None:
        """Show a text as it is, beside the log."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Give a line to the view; never waits.  Called by the log."""
        data = text.encode("utf-8", "replace")
        try:
            written = os.write(self._pipe, data)
        except BlockingIOError:
            self.lost += 1
        except OSError:  # the view has ended
            logs.start(self._level, "plain")
            sys.stderr.write(text)
        else:
            if written < len(data):
                self.lost += 1

    def flush(self) -> None:
        """Nothing is held back."""
