"""The thread that runs the handlers of pages, one at a time, so that many requests cost one core at most."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from edge.host.clock import Clock
from edge.host.job_thread import JobThread
from edge.host.log_throttle import LogThrottle
from edge.monitoring.route import Handler, Request, Response

log = logging.getLogger(__name__)

THREAD: Final = "http-pages"


class PageRenderer:
    """Owned by the HTTP server, whose thread submits the jobs."""

    def __init__(self, clock: Clock, max_waiting: int) -> None:
        """max_waiting: requests that may wait for the thread; it refuses more."""
        self._clock = clock
        self._throttle = LogThrottle(log)
        self._thread = JobThread(THREAD, clock, max_waiting)

    def start(self) -> None:
        """Raises RuntimeError when the machine allows no more threads."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Refuse the jobs that wait, and wait for the one that runs.  False when it still runs after that time."""
        return self._thread.stop(timeout_s)

    def submit(
        self, handler: Handler, request: Request, is_wanted: Callable[[], bool], deliver: Callable[[Response], None]
    ) -> bool:
        """Run the handler on the thread.  False: too many requests wait.

        is_wanted: whether the requester still waits when its turn comes.  deliver: called on the thread; must not
        raise.
        """

        def job() -> None:
            if is_wanted():
                deliver(rendered(handler, request, self._throttle, self._clock.monotonic_ns()))

        return self._thread.submit(job)


def rendered(handler: Handler, request: Request, throttle: LogThrottle, now_ns: int) -> Response:
    """What the handler returns.  An error in it becomes status 500 and a log line."""
    try:
        return handler(request)
    except Exception as error:
        left_out = throttle.ready(request.path, now_ns)
        if left_out is not None:
            log.exception("the page %s failed (%d more times since the last line)", request.path, left_out)
        return Response.text(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: see the log of defectd")
