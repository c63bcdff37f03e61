"""The HTTP server of the daemon: a table of routes, on a thread of its own, that nothing outside can exhaust.

The door to tornado. It reads and writes the connections on the asyncio loop of the thread `http`. Whatever clients do,
the server holds a bounded number of connections, each for a bounded time, and inspection goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError

from edge.host.clock import Clock
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker
from edge.monitoring.page_renderer import PageRenderer, rendered
from edge.monitoring.route import Request, Response, Route

log = logging.getLogger(__name__)

THREAD: Final = "http"
METHODS: Final = ("GET", "HEAD")
MAX_QUERY_FIELDS: Final = 100
MAX_ACCEPTS: Final = 16
"""Connections that are accepted in one round of the loop, so that a flood of them does not starve the others."""
TOO_MANY_CONNECTIONS: Final = "too_many_connections"
NO_DESCRIPTORS: Final = "no_descriptors"
BUSY: Final = "busy"
SLOW_PAGE: Final = "slow_page"
SLOW_CLIENT: Final = "slow_client"
ABORT: Final = struct.pack("ii", 1, 0)
"""struct linger: on, for 0 s."""
REFUSALS: Final = (TOO_MANY_CONNECTIONS, NO_DESCRIPTORS, BUSY, SLOW_PAGE, SLOW_CLIENT)
"""Why the server closes a connection or gives status 503."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients can take from the node."""

    connections: int = 64
    """At a time; the server closes more at once."""
    idle_s: float = 5.0
    """From the connection, or from the last answer, to the end of a request's header."""
    body_s: float = 5.0
    """To the end of its body."""
    answer_s: float = 5.0
    """Until the page is ready; then the answer is status 503."""
    send_s: float = 5.0
    """Until the client has taken the answer."""
    header_bytes: int = 16 << 10
    body_bytes: int = 64 << 10
    waiting: int = 16
    """Requests that wait for the thread of the pages; more get status 503."""
    accept_retry_s: float = 1.0
    """Pause when the process has no file descriptor left for a connection."""


class HttpServer:
    """Owned by the daemon.  The node also inspects when `start` fails."""

    def __init__(self, address: tuple[str, int], clock: Clock, limits: Limits = Limits()) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        """Connections and requests refused since the start, by reason; other threads may read it."""
        self._address = address
        self._clock = clock
        self._limits = limits
        self._routes: Mapping[str, Route] = {}
        self._throttle = LogThrottle(log)
        self._renderer = PageRenderer(clock, limits.waiting)
        self._worker = Worker(THREAD, self._run, clock)
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[IOStream] = set()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=limits.header_bytes,
            header_timeout=limits.idle_s,
            max_body_size=limits.body_bytes,
            body_timeout=limits.body_s,
        )

    def start(self, routes: Mapping[str, Route]) -> bool:
        """Listen and serve; routes: by path.  False when the machine does not allow it, and a log line says why."""
        logging.getLogger("tornado").setLevel(logging.WARNING)  # at INFO it logs each malformed request
        self._routes = dict(routes)
        host, port = self._address
        with ExitStack() as undo:
            try:
                listener = undo.enter_context(_listening(host, port))
                loop = asyncio.new_event_loop()
                undo.callback(loop.close)
                self._listener, self._loop = listener, loop
                undo.callback(self._renderer.stop, 0.0)
                self._renderer.start()
                self._worker.start()
            except (OSError, RuntimeError, UnicodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else None
                log.warning("no metrics on %s:%d: %s", host, port, reason or error)
                self._listener = self._loop = None
                return False
            undo.pop_all()
        return True

    def stop(self, timeout_s: float) -> bool:
        """Close every connection and wait.  False when a thread still runs after that time.  Safe without a start."""
        if self._loop is None:
            return True
        if not self._worker.is_stopping:
            self._worker.ask_stop()
            try:
                self._loop.call_soon_threadsafe(self._loop.stop)
            except RuntimeError:
                pass  # the loop has ended
        renderer_ended = self._renderer.stop(timeout_s / 2)
        return self._worker.join(timeout_s / 2) and renderer_ended

    @property
    def port(self) -> int:
        """The TCP port that the server listens on.  Only after a successful start."""
        assert self._listener is not None
        found: int = self._listener.getsockname()[1]
        return found

    # ---- the thread `http` -----------------------------------------------------------------------

    def _run(self) -> None:
        loop, listener = self._loop, self._listener
        assert loop is not None
        assert listener is not None
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(self._log_failure)
        loop.add_reader(listener, self._accept)
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(listener)
            listener.close()
            loop.run_until_complete(self._close_all())
            asyncio.set_event_loop(None)
            loop.close()

    async def _close_all(self) -> None:
        for stream in tuple(self._streams):
            stream.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        """Take the connections that wait; close those beyond the limit."""
        listener, loop = self._listener, self._loop
        assert listener is not None
        assert loop is not None
        for _ in range(MAX_ACCEPTS):
            try:
                connection, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:  # no descriptors or no memory: the connection stays in the kernel's queue
                self.refused[NO_DESCRIPTORS] += 1
                self._warn(f"no connection can be accepted: {error.strerror}")
                loop.remove_reader(listener)
                loop.call_later(self._limits.accept_retry_s, loop.add_reader, listener, self._accept)
                return
            if len(self._streams) >= self._limits.connections:
                self.refused[TOO_MANY_CONNECTIONS] += 1
                connection.close()
                self._warn(f"more than {self._limits.connections} connections: the others are closed")
                continue
            connection.setblocking(False)
            stream = IOStream(connection, max_buffer_size=2 * (self._limits.header_bytes + self._limits.body_bytes))
            self._streams.add(stream)
            HTTP1ServerConnection(stream, self._parameters, peer).start_serving(_Connection(self, stream))

    def release(self, stream: IOStream) -> None:
        """Forget a connection that has ended.  By `_Connection`."""
        stream.close()
        self._streams.discard(stream)

    def answer(self, connection: HTTP1Connection, line: RequestStartLine) -> None:
        """Start to answer a request that has been read.  By `_Exchange`."""
        task = asyncio.ensure_future(self._answer(connection, line))
        self._exchanges.add(task)  # asyncio itself keeps no reference
        task.add_done_callback(lambda ended: self._end(ended, connection))
        connection.set_close_callback(lambda: _cancel(task))

    def _end(self, task: asyncio.Task[None], connection: HTTP1Connection) -> None:
        self._exchanges.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._warn(f"no answer was sent: {error!r}")
            connection.close()

    async def _answer(self, connection: HTTP1Connection, line: RequestStartLine) -> None:
        response = await self._response_to(line)
        headers = HTTPHeaders(
            {
                "Content-Type": response.content_type,
                "Content-Length": str(len(response.body)),
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
        )
        if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(METHODS)
        status = ResponseStartLine("HTTP/1.1", response.status.value, response.status.phrase)
        body = None if line.method == "HEAD" else response.body
        written = connection.write_headers(status, headers, body)
        connection.finish()
        try:
            await asyncio.wait_for(written, self._limits.send_s)
        except StreamClosedError:
            pass  # the client has gone
        except TimeoutError:
            self.refused[SLOW_CLIENT] += 1
            _abort(connection)

    async def _response_to(self, line: RequestStartLine) -> Response:
        path, _, query = line.path.partition("?")
        route = self._routes.get(path)
        if route is None:
            return Response.text(HTTPStatus.NOT_FOUND, f"no such page; there are: {', '.join(self._routes)}")
        if line.method not in METHODS:
            return Response.text(HTTPStatus.METHOD_NOT_ALLOWED, f"only {' and '.join(METHODS)}")
        try:
            request = Request(path, parse_qs(query, max_num_fields=MAX_QUERY_FIELDS))
        except ValueError:
            return Response.text(HTTPStatus.BAD_REQUEST, f"at most {MAX_QUERY_FIELDS} parameters")
        if route.is_quick:
            return rendered(route.handler, request, self._throttle, self._clock.monotonic_ns())
        return await self._page(route, request)

    async def _page(self, route: Route, request: Request) -> Response:
        """Have the page made by the thread of the pages, within the time limit."""
        loop = asyncio.get_running_loop()
        page: asyncio.Future[Response] = loop.create_future()

        def deliver(response: Response) -> None:
            try:
                loop.call_soon_threadsafe(_resolve, page, response)
            except RuntimeError:
                pass  # the server has stopped

        if not self._renderer.submit(route.handler, request, lambda: not page.done(), deliver):
            self.refused[BUSY] += 1
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests wait")
        try:
            return await asyncio.wait_for(page, self._limits.answer_s)
        except TimeoutError:
            self.refused[SLOW_PAGE] += 1
            return Response.text(HTTPStatus.SERVICE_UNAVAILABLE, "the page takes too long")

    def _log_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._warn(f"{context.get('message')}: {context.get('exception')!r}")

    def _warn(self, message: str) -> None:
        self._throttle.write(logging.WARNING, f"HTTP server: {message}", self._clock.monotonic_ns())


class _Connection(HTTPServerConnectionDelegate):
    """Receives the requests on one connection from tornado, and its end."""

    def __init__(self, server: HttpServer, stream: IOStream) -> None:
        self._server = server
        self._stream = stream

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        del server_conn  # the stream is known
        assert isinstance(request_conn, HTTP1Connection)
        return _Exchange(self._server, request_conn)

    def on_close(self, server_conn: object) -> None:
        del server_conn
        self._server.release(self._stream)


class _Exchange(HTTPMessageDelegate):
    """Receives one request from tornado as it is read; its body is read and ignored."""

    def __init__(self, server: HttpServer, connection: HTTP1Connection) -> None:
        self._server = server
        self._connection = connection
        self._line: RequestStartLine | None = None

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        del headers  # no page reads them
        assert isinstance(start_line, RequestStartLine)
        self._line = start_line

    def finish(self) -> None:
        assert self._line is not None
        self._server.answer(self._connection, self._line)


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket; for "::" it accepts IPv4 connections, too.  Raises OSError, UnicodeError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _resolve(page: asyncio.Future[Response], response: Response) -> None:
    if not page.done():
        page.set_result(response)


def _abort(connection: HTTP1Connection) -> None:
    """Close at once and drop what the client has not taken: an ordinary close leaves it in the kernel for minutes."""
    if not connection.stream.closed():
        connection.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    connection.close()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
