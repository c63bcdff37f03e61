"""The page process: `python -m edge.web PARENT`, with its settings as JSON on stdin."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import ssl
import sys
from contextlib import suppress
from typing import Final

from edge.delivery.page_life import PageSign
from edge.host import logs
from edge.host.clock import SystemClock
from edge.host.parent_process import die_with
from edge.web.dispatch import Dispatch
from edge.web.feed import Feed
from edge.web.route import Page
from edge.web.routes import ROUTES
from edge.web.server import PageServer
from edge.web.settings import PageSettings
from edge.web.static_files import StaticFiles

log = logging.getLogger(__name__)

EXIT_SETTINGS: Final = 78
EXIT_ORPHAN: Final = 4
OOM_SCORE: Final = 600
"""When memory runs out, the kernel ends the page before a camera."""
_PR_SET_NAME: Final = 15


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM.  PARENT: process id of who started it: the page ends with it.  Returns the exit code."""
    if arguments and not die_with(int(arguments[0])):
        return EXIT_ORPHAN
    settings = PageSettings.from_json(sys.stdin.read())
    logs.start(settings.log_level, "auto" if settings.log_format == "auto" else settings.log_format)  # type: ignore[arg-type]
    _set_up_process()
    try:
        asyncio.run(serve(settings))
    except (OSError, ssl.SSLError) as error:
        host, port = settings.listen
        reason = f"the page cannot be served on {host}:{port}: {error.strerror or error}"
        log.error(reason)  # noqa: TRY400 (no stack is needed)
        sys.stdout.write(f"{reason}\n")  # for who started it
        return EXIT_SETTINGS if isinstance(error, ssl.SSLError) else 1
    return 0


async def serve(settings: PageSettings) -> None:
    """Serve the page until SIGTERM or SIGINT.  Raises OSError, ssl.SSLError."""
    clock = SystemClock()
    feed = Feed(settings.feed_socket, clock, lambda viewers: PageSign(os.getpid(), settings.url, None, viewers))
    page = Page(settings, clock, feed)
    server = PageServer(settings, Dispatch(page, ROUTES, StaticFiles(settings.base_path)), clock)
    port = server.open()
    log.info("the page is served on %s, port %d", settings.url, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    feeding = asyncio.create_task(feed.run())
    try:
        await stop.wait()
    finally:
        await server.close()
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding


def _set_up_process() -> None:
    """Inspection goes first: this process runs when nobody else needs the processor."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # inherited: a daemon may block signals in its threads
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"defectd-page", 0, 0, 0)
    with suppress(OSError):  # some containers forbid it; the page works without
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as score:  # noqa: PTH123
        score.write(str(OOM_SCORE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
