"""Writes the manual pages of both commands, one for each of their commands: `make man`.

Usage: python deploy/man_pages.py FOLDER.  defectd-train is left out where the trainer is not installed.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from os import environ
from pathlib import Path
from typing import Final

import click

from edge import __version__

PROGRAMS: Final = {"defectd": "edge.cli", "defectd-train": "trainer.cli.commands"}
EPOCH: Final = int(environ.get("SOURCE_DATE_EPOCH", "946684800"))


def main(folder: Path) -> int:
    """Write the pages into folder/man1.  Returns their number."""
    place = folder / "man1"
    place.mkdir(parents=True, exist_ok=True)
    count = 0
    for program, module in PROGRAMS.items():
        try:
            command = importlib.import_module(module).main
        except ModuleNotFoundError:
            continue
        for words, one in commands(command, (program,)):
            (place / f"{'-'.join(words)}.1").write_text(page(one, words), "utf-8")
            count += 1
    return count


def commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            if not inner.hidden:
                yield from commands(inner, (*words, name))


def page(command: click.Command, words: tuple[str, ...]) -> str:
    """One page in roff."""
    context = click.Context(command, info_name=" ".join(words), terminal_width=78, help_option_names=["-h", "--help"])
    date = datetime.fromtimestamp(EPOCH, UTC).date().isoformat()
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{"-".join(words).upper()}" 1 "{date}" "defectd {__version__}" "defectd"',
        ".SH NAME",
        f"{text('-'.join(words))} \\- {text(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {text(' '.join(words))}",
        text(usage),
        ".SH DESCRIPTION",
        *described(command.help or ""),
    ]
    records = [one.get_help_record(context) for one in command.params if isinstance(one, click.Option)]
    options = [record for record in records if record is not None]
    if options:
        lines.append(".SH OPTIONS")
        for names, words_of in options:
            lines += [".TP", f".B {text(names)}", text(" ".join(words_of.split()))]
    inner = sorted(command.commands.items()) if isinstance(command, click.Group) else []
    if inner:
        lines.append(".SH COMMANDS")
        for name, one in inner:
            if not one.hidden:
                lines += [".TP", f".BR {text('-'.join((*words, name)))} (1)", text(one.get_short_help_str(200))]
    lines += [".SH EXIT STATUS", "0 done, 1 failed, 2 usage, 78 bad configuration or model."]
    return "\n".join(lines) + "\n"


def described(help_text: str) -> Iterator[str]:
    """Paragraphs; those that click must not fill keep their lines."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(help_text)):
        first, *rest = paragraph.splitlines()
        if first.strip() == "\b":
            yield ".PP"
            yield ".nf"
            yield from (text(line.rstrip()) for line in rest)
            yield ".fi"
        else:
            yield ".PP"
            yield text(" ".join(paragraph.split()))


def text(words: str) -> str:
    """Escaped for roff."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    print(f"{main(Path(sys.argv[1]))} pages in {sys.argv[1]}")  # noqa: T201
