"""A thread for what blocks: it reads files and databases, one job at a time, so that the loop goes on serving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, ParamSpec, TypeVar

from edge.host.job_thread import JobThread
from edge.web.refusal import Refusal

P = ParamSpec("P")
R = TypeVar("R")
TIMEOUT_S: Final = 10.0


class WorkThread(JobThread):
    """Owned by the page process; `run` is called on its loop."""

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns or raises.  Raises Refusal when too much waits, or when it takes too long.

        A job that is no longer waited for is left out; one that runs already runs to its end.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()

        def job() -> None:
            if result.cancelled():
                return
            try:
                value = function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 (it is raised where the job is waited for)
                _settle(loop, result.set_exception, result, error)
            else:
                _settle(loop, result.set_result, result, value)

        if not self.submit(job):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many requests wait", "Try again in a moment")
        try:
            return await asyncio.wait_for(result, TIMEOUT_S)
        except TimeoutError:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "timeout", "the answer takes too long") from None


def _settle(
    loop: asyncio.AbstractEventLoop, settle: Callable[[Any], None], result: asyncio.Future[Any], value: object
) -> None:
    def on_loop() -> None:
        if not result.done():
            settle(value)

    try:
        loop.call_soon_threadsafe(on_loop)
    except RuntimeError:
        pass  # the loop has ended
