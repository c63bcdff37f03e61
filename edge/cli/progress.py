"""Remarks and progress for a person at the terminal, on stderr beside the result."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from edge.host.text import lines


def note(sentence: str) -> None:
    """Print a remark; text from outside in it cannot act on the terminal."""
    click.echo(lines(sentence), err=True)


def echo(text: str) -> None:
    """Print a result for a person; text from outside in it cannot act on the terminal."""
    click.echo(lines(text))


@contextmanager
def progress(total: int | None, label: str, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr, when that is a terminal.  Gives a function to call once for each step."""
    if hidden or not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


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
