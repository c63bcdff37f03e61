"""Text from outside the program (names of files, messages of libraries, payloads), made valid where it enters.

Such text may hold half a character, a NUL, a terminal escape or 64 KiB. JSON, MQTT, SQLite and file names refuse some
of that with an exception, far from where it came in; a terminal obeys it.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARACTERS: Final = 1000
"""Of a name or a message, where the caller gives no limit."""
CUT: Final = "..."

_UNSAFE: Final = (
    "\x00-\x1f\x7f-\x9f"  # controls, among them the escape of terminals
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they change the direction of the text around them
    "\u2028\u2029"  # line and paragraph ends
    "\ud800-\udfff"  # half a character, or a byte of a file name that is not UTF-8
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible
)
_UNSAFE_IN_LINE: Final = re.compile(f"[{_UNSAFE}]")
_UNSAFE_IN_LINES: Final = re.compile(rf"(?![\n\t])[{_UNSAFE}]")


def one_line(text: str | bytes, limit: int = MAX_CHARACTERS, *, keep_end: bool = False) -> str:
    r"""The text as one printable line of valid UTF-8; what is unsafe becomes an escape such as \n or \xfc.

    limit: characters.  keep_end: cut a longer text at its start, because the end of a path identifies it best.
    Text that is valid already stays as it is.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    is_cut = len(text) > limit
    if is_cut:  # before the search: the input may be huge
        text = text[-limit:] if keep_end else text[:limit]
    safe = _UNSAFE_IN_LINE.sub(_escape, text)
    if not is_cut and len(safe) <= limit:
        return safe
    kept = max(0, limit - len(CUT))
    return CUT + safe[len(safe) - kept :] if keep_end else safe[:kept] + CUT


def lines(text: str) -> str:
    """The same for several lines, for a terminal or a log: only ends of lines and tabs stay.  Nothing is cut off."""
    return _UNSAFE_IN_LINES.sub(_escape, text)


def is_valid(text: str) -> bool:
    """Whether the text can be sent and stored: it has no NUL and no half character."""
    return not re.search("[\x00\ud800-\udfff]", text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is not UTF-8 (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
