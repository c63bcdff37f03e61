"""Signs of life of the page process, as the feed receives them and as its supervisor reads them.

Imports the standard library only: the page process uses `PageSign` too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PageSign:
    """A sign of life.  link: the address for a browser.  problem: why the page is not served, one line."""

    pid: int
    link: str | None = None
    problem: str | None = None
    viewers: int = 0

    def header(self) -> dict[str, Any]:
        """The message of this sign."""
        return {
            "kind": "page",
            "pid": self.pid,
            "link": self.link,
            "problem": self.problem,
            "viewers": self.viewers,
        }


class PageLife:
    """The last sign.  The feed's thread writes, any thread reads: each attribute is replaced as a whole."""

    def __init__(self) -> None:
        self.last: tuple[PageSign, int] | None = None
        """The sign and when it came, monotonic."""
        self.listens_since_ns: int | None = None
        """Since when the feed can be reached; None: it cannot, so that no sign means nothing."""
        self.clients = 0
        """Connections to the feed."""

    def note(self, sign: PageSign, now_ns: int) -> None:
        """A sign has come."""
        self.last = sign, now_ns

    def listens(self, since_ns: int | None) -> None:
        """The feed listens from now on; None: it has closed."""
        self.listens_since_ns = since_ns
        self.clients = 0
