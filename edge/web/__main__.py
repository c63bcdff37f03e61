"""The page process: `python -m edge.web PARENT`, with its settings as JSON on stdin."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import signal
import ssl
import sys
from contextlib import suppress
from typing import Final

from edge.host import logs
from edge.host.clock import SystemClock
from edge.host.low_priority import step_back
from edge.host.parent_process import die_with
from edge.web.routes import ROUTES
from edge.web.serving import serving
from edge.web.settings import PageSettings

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
    logs.start(settings.log_level, settings.log_format)
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
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings, ROUTES, SystemClock()) as served:
        log.info("the page is served on %s", settings.url)
        await asyncio.wait((asyncio.create_task(stop.wait()), *served.tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in served.tasks:
            if task.done():
                task.result()  # its error: who started this process starts it anew


def _set_up_process() -> None:
    """Inspection goes first: this process runs when nobody else needs the processor."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # inherited: a daemon may block signals in its threads
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"defectd-page", 0, 0, 0)
    step_back()
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as score:  # noqa: PTH123
        score.write(str(OOM_SCORE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
