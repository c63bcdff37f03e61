"""What a person probably meant: a name that is known and looks like the one that was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

MAX_COMPARED: Final = 100
"""Characters of a name from outside."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'top'? `, to be put before a list of what is known; empty where nothing is like it."""
    close = difflib.get_close_matches(name[:MAX_COMPARED].lower(), [*known], n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}? " if close else ""
