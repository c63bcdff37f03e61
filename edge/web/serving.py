"""The parts of the page process, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from edge.delivery.page_life import PageSign
from edge.host.clock import Clock
from edge.web.access import Access
from edge.web.children import Children
from edge.web.commands import Commands
from edge.web.dispatch import Dispatch
from edge.web.feed import Feed
from edge.web.route import Page, Route
from edge.web.server import DEFAULT_LIMITS, Limits, PageServer
from edge.web.settings import PageSettings
from edge.web.static_files import StaticFiles
from edge.web.trend import Trend
from edge.web.work_thread import WorkThread

log = logging.getLogger(__name__)

MAX_WAITING: Final = 32
"""Requests that wait for a file or the database."""
STOP_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Serving:
    """A page that is served.  port: the one that it listens on."""

    page: Page
    server: PageServer
    port: int
    tasks: Sequence[asyncio.Task[None]]
    """They end only with an error."""


@asynccontextmanager
async def serving(
    settings: PageSettings, routes: Sequence[Route], clock: Clock, limits: Limits = DEFAULT_LIMITS
) -> AsyncIterator[Serving]:
    """Serve the page inside the block.  Raises OSError, ssl.SSLError where that is not possible."""
    access = Access(settings, clock)
    work = WorkThread("web-work", clock, MAX_WAITING)
    children = Children(clock)
    trend = Trend(clock)

    def sign(viewers: int) -> PageSign:
        return PageSign(os.getpid(), settings.url, None, viewers)

    feed = Feed(settings.feed_socket, clock, sign, on_state=trend.note)
    page = Page(settings, clock, feed, access, Commands(settings.command_socket, clock), children, work, trend)
    server = PageServer(settings, Dispatch(page, routes, StaticFiles(settings.base_path)), clock, limits)
    port = server.open()
    work.start()
    access.start()
    tasks = [asyncio.create_task(feed.run()), asyncio.create_task(children.run())]
    try:
        yield Serving(page, server, port, tasks)
    finally:
        await server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        access.stop()
        if not work.stop(STOP_S):
            log.warning("a request still reads at the stop of the page")
