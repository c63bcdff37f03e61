"""Tables of the command line: aligned, coloured on a terminal, plain text in a file or a pipe.

Colour repeats what a word says. Text from outside in a cell cannot act on the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import click

from edge.host.text import one_line

MAX_CELL: Final = 2000
"""Characters."""
PLAIN_WIDTH: Final = 100_000
"""In a pipe nothing is broken: a line is a row."""

Cell = str | tuple[str, str]
"""A text, or a text and its style."""


@dataclass(frozen=True, slots=True)
class Column:
    """name: in the head.  right: numbers.  folds: goes on in the next line where the terminal is narrow."""

    name: str
    right: bool = False
    folds: bool = False


def show(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table; nothing where there is no row."""
    listed = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
    if listed:
        is_terminal = sys.stdout.isatty()
        for line in _lines(columns, listed, is_terminal=is_terminal):
            click.echo(line, color=is_terminal or None)


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[tuple[str, str]]], *, is_terminal: bool) -> list[str]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in columns:
        justify, overflow = ("right" if column.right else "left"), ("fold" if column.folds else "ellipsis")
        table.add_column(column.name, justify=justify, overflow=overflow, no_wrap=not column.folds)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(one_line(words, MAX_CELL), style) for words, style in row))
    console = Console(highlight=False, width=None if is_terminal else PLAIN_WIDTH)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]
