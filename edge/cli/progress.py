"""What a person at the terminal sees beside the result: remarks and progress, on stderr."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


def tell(sentence: str) -> None:
    click.echo(sentence, err=True)


@contextmanager
def progress(total: int | None, label: str, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr when a person is looking."""
    if hidden or not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What is written in a moment is finished, whoever presses Ctrl-C; the second time it ends at once."""

    def once(*_: object) -> None:
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
