"""The live view of `defectd run` on a terminal: `python -m edge.cli.live_view SOCKET`, a process of its own.

The daemon writes its log to this process's standard input, one JSON line a record, and never waits for it; frames and
states come over the feed. So a slow terminal, or one that is held by Ctrl-S, costs the inspection nothing. The view
ends when its input does.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from edge.cli import screen
from edge.delivery.page.reader import FeedReader
from edge.errors import DeliveryError
from edge.event import EVENT_TYPES
from edge.host.clock import NS_PER_S, Clock, SystemClock

REFRESH_S: Final = 0.25
RECONNECT_S: Final = 1.0
STALE_S: Final = 3.0
"""A state older than this is shown as such."""
READ_BYTES: Final = 1 << 16
MAX_LINE_BYTES: Final = 1 << 20
REPORTS: Final = "edge.report"
"""The logger of the periodic reports, which the header replaces."""
HIDDEN: Final = frozenset({"defect.opened"})
"""Events that another one repeats: the closing event has the final class and length."""


class LiveView:
    """Keeps the newest state on the last lines of the terminal, and prints events and log lines above it."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._state: Mapping[str, Any] | None = None
        self._state_ns = 0
        self._rest = b""

    def log(self, data: bytes) -> None:
        """Print what the daemon has logged; a part of a line waits for its end."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-MAX_LINE_BYTES:]
        for line in lines:
            record = _record(line)
            if record is None:
                self._console.print(Text(line.decode("utf-8", "replace")))
            elif record.get("logger") != REPORTS or record.get("level") != "info":
                self._console.print(screen.log_line(record))

    def take(self, header: Mapping[str, Any]) -> None:
        """Take one message of the feed."""
        if header.get("kind") == "state":
            self._state, self._state_ns = header["state"], self._clock.monotonic_ns()
        elif header.get("kind") == "event" and header["payload"].get("type") not in HIDDEN:
            payload = header["payload"]
            self._console.print(screen.event_line(payload, EVENT_TYPES.get(payload.get("type"), "info")))

    def __rich__(self) -> Any:
        if self._state is None:
            return Text("starting ...", "dim")
        age_s = (self._clock.monotonic_ns() - self._state_ns) / NS_PER_S
        if age_s > STALE_S:
            return Text(f"no news from the daemon for {age_s:.0f} s", "bold yellow")
        return screen.header(self._state)


def _record(line: bytes) -> Mapping[str, Any] | None:
    """The JSON record of a log line, without journald's priority before it."""
    try:
        record = json.loads(line.partition(b">")[2] if line.startswith(b"<") else line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def watch(view: LiveView, live: Live, path: Path, clock: Clock) -> None:
    """Show log and feed until the input ends.  path: of the feed's socket."""
    feed: FeedReader | None = None
    next_ns = 0
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while True:
            if feed is None and clock.monotonic_ns() >= next_ns:
                next_ns = clock.monotonic_ns() + int(RECONNECT_S * NS_PER_S)
                feed = _connected(path)
                if feed is not None:
                    selector.register(feed, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(REFRESH_S)]
            if feed is not None and feed in ready:
                try:
                    for message in feed.read(0.1):
                        view.take(message.header)
                except DeliveryError:
                    selector.unregister(feed)
                    feed = None
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), READ_BYTES)
                if not data:
                    return
                view.log(data)
            live.refresh()


def _connected(path: Path) -> FeedReader | None:
    try:
        return FeedReader(path)
    except DeliveryError:
        return None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the daemon; its last words come here
    console = Console(highlight=False, soft_wrap=False)
    clock = SystemClock()
    view = LiveView(console, clock)
    with Live(view, console=console, auto_refresh=False, transient=True) as live:
        watch(view, live, Path(sys.argv[1]), clock)


if __name__ == "__main__":
    main()
