"""Remarks and progress for a person at the terminal, on stderr beside the result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from edge.host.clock import NS_PER_S, Clock, SystemClock
from edge.host.text import lines

EVERY_S: Final = 0.25
"""Between two lines of progress."""
MARK_COLOURS: Final = {"✓": "green", "!": "yellow", "✗": "red"}
INDENT: Final = "    "
"""Before what belongs to the line above."""


def note(sentence: str) -> None:
    """Print a remark; text from outside in it cannot act on the terminal."""
    click.echo(lines(sentence), err=True)


def echo(text: str) -> None:
    """Print a result for a person; text from outside in it cannot act on the terminal."""
    click.echo(lines(text))


def result(mark: str, *sentences: str) -> None:
    """Print a result with its mark, in colour on a terminal; what does not fit, and further sentences, are indented."""
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else sys.maxsize
    for number, sentence in enumerate(sentences):
        start = f"{mark} " if number == 0 else INDENT
        text = textwrap.fill(
            lines(sentence), width, initial_indent=start, subsequent_indent=INDENT, break_on_hyphens=False
        )
        if number == 0 and is_terminal and not os.environ.get("NO_COLOR"):
            text = click.style(mark, fg=MARK_COLOURS.get(mark), bold=True) + text[len(mark) :]
        click.echo(text)


@contextmanager
def progress(total: int | None, label: str, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr, when that is a terminal.  Gives a function to call once for each step."""
    if hidden or not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


@contextmanager
def progress_lines(total: int | None, label: str, clock: Clock | None = None) -> Iterator[Callable[[], None]]:
    """Progress for a program: JSON lines on stderr, four a second at most.  Gives a function to call for each step.

    {"progress": 0.4, "left_s": 12, "what": "frames", "done": 20, "total": 50}; unknown is null.
    """
    lines = _Lines(total, label, clock or SystemClock())
    yield lines.step
    lines.write(left_s=0.0)


class _Lines:
    """The lines of one step of the work."""

    def __init__(self, total: int | None, label: str, clock: Clock) -> None:
        self._total = total or None
        self._label = label
        self._clock = clock
        self._done = 0
        self._start_ns = self._written_ns = clock.monotonic_ns()
        self.write(left_s=None)

    def step(self) -> None:
        self._done += 1
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._written_ns < EVERY_S * NS_PER_S:
            return
        self._written_ns = now_ns
        left = None if self._total is None else max(0, self._total - self._done)
        each_s = (now_ns - self._start_ns) / NS_PER_S / self._done
        self.write(left_s=None if left is None else left * each_s)

    def write(self, left_s: float | None) -> None:
        share = None if self._total is None else min(1.0, self._done / self._total)
        line = {
            "progress": None if share is None else round(share, 4),
            "left_s": None if left_s is None else round(left_s, 1),
            "what": self._label,
            "done": self._done,
            "total": self._total,
        }
        click.echo(json.dumps(line), err=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish a short write although Ctrl-C is pressed; a second Ctrl-C ends it at once."""

    def ignore_once(*_: object) -> None:
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ignore_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
