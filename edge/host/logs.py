"""Log lines: plain text for a person at a terminal, JSON with journald's priority for a machine; never a secret."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Final, Literal, TextIO

from edge.host.redact import redact
from edge.host.text import lines

PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Syslog severities that journald reads from a leading <N> (sd-daemon(3))."""


MARKS: Final = {logging.WARNING: "!", logging.ERROR: "✗", logging.CRITICAL: "✗"}
COLOURS: Final = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[1;31m", logging.CRITICAL: "\x1b[1;31m"}
RESET: Final = "\x1b[0m"


class _Plain(logging.Formatter):
    def __init__(self, *, is_coloured: bool = False) -> None:
        super().__init__()
        self._is_coloured = is_coloured

    def format(self, record: logging.LogRecord) -> str:
        moment = time.localtime(record.created)
        at = f"{time.strftime('%H:%M:%S', moment)} {moment.tm_zone}"
        module = record.name.rpartition(".")[2]
        level = f"{record.levelname.lower():7}"
        if self._is_coloured:  # colour repeats the word
            level = f"{COLOURS.get(record.levelno, '')}{level}{RESET if record.levelno in COLOURS else ''}"
        return f"{at} {MARKS.get(record.levelno, ' ')} {level} {lines(redact(f'{module:11} {text_of(record)}'))}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": redact(text_of(record)),
        }
        # ASCII: a stream replaces what its encoding lacks with text that is not JSON.
        return f"<{PRIORITY.get(record.levelno, 6)}>{json.dumps(line)}"


def text_of(record: logging.LogRecord) -> str:
    """The message of a record, with its traceback; credentials are still in it."""
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    return text


def start(level: str, style: Literal["auto", "plain", "json"], stream: TextIO | None = None) -> None:
    """Write everything from `level` on to the stream (None: stderr).  Replaces earlier handlers.

    auto: plain where a person sits at a terminal, also one who pipes the log into `tee`; a service has none.
    """
    stream = sys.stderr if stream is None else stream
    plain = _at_terminal(stream) if style == "auto" else style == "plain"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Plain(is_coloured=_takes_colour(stream)) if plain else _Json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries
    logging.getLogger("edge").setLevel(level.upper())


def _takes_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _at_terminal(stream: TextIO) -> bool:
    return stream.isatty() or (sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty())
