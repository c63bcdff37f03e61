"""The thread that runs the handlers of pages, one at a time, so that many requests cost one core at most."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from edge.host.clock import Clock
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker
from edge.monitoring.route import Handler, Request, Response

log = logging.getLogger(__name__)

THREAD: Final = "http-pages"


@dataclass(frozen=True, slots=True)
class _Job:
    handler: Handler
    request: Request
    is_wanted: Callable[[], bool]
    deliver: Callable[[Response], None]


class PageRenderer:
    """Owned by the HTTP server, whose thread submits the jobs."""

    def __init__(self, clock: Clock, max_waiting: int) -> None:
        """max_waiting: requests that may wait for the thread; it refuses more."""
        self._clock = clock
        self._throttle = LogThrottle(log)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(max_waiting)
        self._worker = Worker(THREAD, self._run, clock)

    def start(self) -> None:
        """Raises RuntimeError when the machine allows no more threads."""
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Refuse the jobs that wait, and wait for the one that runs.  False when it still runs after that time."""
        self._worker.ask_stop()
        try:
            self._jobs.put_nowait(None)  # wakes the thread
        except queue.Full:
            pass  # then it is not asleep
        return self._worker.join(timeout_s)

    def submit(
        self, handler: Handler, request: Request, is_wanted: Callable[[], bool], deliver: Callable[[Response], None]
    ) -> bool:
        """Run the handler on the thread.  False: too many requests wait.

        is_wanted: whether the requester still waits when its turn comes.  deliver: called on the thread; must not
        raise.
        """
        try:
            self._jobs.put_nowait(_Job(handler, request, is_wanted, deliver))
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while not self._worker.is_stopping:
            job = self._jobs.get()
            self._worker.beat()
            if job is not None and job.is_wanted():
                job.deliver(rendered(job.handler, job.request, self._throttle, self._clock.monotonic_ns()))


def rendered(handler: Handler, request: Request, throttle: LogThrottle, now_ns: int) -> Response:
    """What the handler returns.  An error in it becomes status 500 and a log line."""
    try:
        return handler(request)
    except Exception as error:
        left_out = throttle.ready(request.path, now_ns)
        if left_out is not None:
            log.exception("the page %s failed (%d more times since the last line)", request.path, left_out)
        return Response.text(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: see the log of defectd")
