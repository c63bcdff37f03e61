"""The connections of the page: reads requests, writes answers, and gives each client a bounded share.

A door to tornado, which parses HTTP. One process, one loop: whatever clients do, the number of connections, the length
of what they send, and the time that each step may take are limited.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

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
from tornado.netutil import bind_sockets
from tornado.tcpserver import TCPServer

from edge.host.clock import Clock
from edge.host.log_throttle import LogThrottle
from edge.web.dispatch import Dispatch
from edge.web.guard import Head
from edge.web.refusal import Refusal
from edge.web.route import Response
from edge.web.settings import PageSettings, Tls

log = logging.getLogger(__name__)

DISCARDED_BYTES: Final = 1 << 20
"""A body that is too long is read up to here, so that its client gets an answer; beyond it tornado gives status 400."""
ABORT: Final = struct.pack("ii", 1, 0)
"""struct linger: on, for 0 s."""
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
BYE: Final = b"event: bye\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients can take from the page process."""

    connections: int = 128
    """At a time; the server closes more at once."""
    idle_s: float = 30.0
    """From the connection, or from the last answer, to the end of a request's header."""
    body_s: float = 10.0
    """To the end of its body."""
    answer_s: float = 30.0
    """Until the handler has answered; a stream may go on."""
    send_s: float = 10.0
    """Until the client has taken the answer, or one part of a stream."""
    header_bytes: int = 16 << 10


DEFAULT_LIMITS: Final = Limits()


class PageServer(TCPServer):
    """Owned by the page process; all methods run on its loop."""

    def __init__(
        self, settings: PageSettings, dispatch: Dispatch, clock: Clock, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Raises OSError, ssl.SSLError when the files of TLS cannot be used."""
        super().__init__(
            ssl_options=None if settings.tls is None else _tls_context(settings.tls), max_buffer_size=64 << 20
        )
        self.refused: Counter[str] = Counter()
        self._settings = settings
        self._dispatch = dispatch
        self._clock = clock
        self._limits = limits
        self._throttle = LogThrottle(log)
        self._streams: set[IOStream] = set()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._listening: list[socket.socket] = []
        self._stopping = asyncio.Event()

    def open(self) -> int:
        """Listen.  Returns the port.  Raises OSError."""
        logging.getLogger("tornado").setLevel(logging.ERROR)  # below it logs each malformed request
        host, port = self._settings.listen
        self._listening = bind_sockets(port, host or None)
        self.add_sockets(self._listening)
        found: int = self._listening[0].getsockname()[1]
        return found

    async def close(self) -> None:
        """Say goodbye to the streams, end all connections, and wait for what runs."""
        self.stop()
        self._stopping.set()
        if self._exchanges:
            await asyncio.wait(self._exchanges, timeout=0.5)
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        for stream in tuple(self._streams):
            stream.close()

    async def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve one connection, or close it: there are too many.  By tornado."""
        if len(self._streams) >= self._limits.connections:
            self.refused["too_many_connections"] += 1
            stream.close()
            self._warn(f"more than {self._limits.connections} connections: the others are closed")
            return
        self._streams.add(stream)
        parameters = HTTP1ConnectionParameters(
            max_header_size=self._limits.header_bytes,
            header_timeout=self._limits.idle_s,
            body_timeout=self._limits.body_s,
            max_body_size=0,
        )
        peer = address[0] if isinstance(address, tuple) else ""
        HTTP1ServerConnection(stream, parameters, peer).start_serving(_Connection(self, stream, str(peer)))

    def release(self, stream: IOStream) -> None:
        """Forget a connection that has ended.  By `_Connection`."""
        stream.close()
        self._streams.discard(stream)

    def max_body_bytes(self, head: Head) -> int:
        return self._dispatch.max_body_bytes(head)

    @property
    def is_tls(self) -> bool:
        return self._settings.tls is not None

    def answer(self, connection: HTTP1Connection, head: Head, body: bytes | None) -> None:
        """Start to answer a request that has been read.  body: None when it was too long.  By `_Exchange`."""
        task = asyncio.ensure_future(self._answer(connection, head, body))
        self._exchanges.add(task)  # asyncio itself keeps no reference
        task.add_done_callback(lambda ended: self._end(ended, connection))
        connection.set_close_callback(lambda: _cancel(task))

    def _end(self, task: asyncio.Task[None], connection: HTTP1Connection) -> None:
        self._exchanges.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._warn(f"no answer was sent: {error!r}")
            connection.close()

    async def _answer(self, connection: HTTP1Connection, head: Head, body: bytes | None) -> None:
        try:
            async with asyncio.timeout(self._limits.answer_s):
                response = await self._dispatch.answer(head, body)
        except TimeoutError:
            self.refused["slow_answer"] += 1
            late = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "timeout", "the answer takes too long")
            response = Response.refusal(late)
        try:
            await self._send(connection, head, response)
        except StreamClosedError:
            pass  # the client has gone
        except TimeoutError:
            self.refused["slow_client"] += 1
            _abort(connection)

    async def _send(self, connection: HTTP1Connection, head: Head, response: Response) -> None:
        """Raises StreamClosedError, TimeoutError."""
        headers = HTTPHeaders({**SECURITY_HEADERS, **response.headers})
        if response.content_type:
            headers["Content-Type"] = response.content_type
        for cookie in response.cookies:
            headers.add("Set-Cookie", cookie)
        is_empty = response.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        if response.chunks is None and not is_empty:
            headers["Content-Length"] = str(len(response.body))
        line = ResponseStartLine("HTTP/1.1", response.status.value, response.status.phrase)
        has_body = head.method != "HEAD" and not is_empty
        written = connection.write_headers(line, headers, response.body if has_body and response.body else None)
        if response.chunks is not None and has_body:
            await asyncio.wait_for(written, self._limits.send_s)
            await self._stream(connection, response)
        connection.finish()
        await asyncio.wait_for(written, self._limits.send_s)

    async def _stream(self, connection: HTTP1Connection, response: Response) -> None:
        """Send the parts of a stream until it ends, or the server stops."""
        assert response.chunks is not None
        stopping = asyncio.ensure_future(self._stopping.wait())
        chunks = response.chunks
        try:
            while True:
                following = asyncio.ensure_future(anext(chunks, None))
                await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    await asyncio.wait_for(connection.write(BYE), self._limits.send_s)
                    return
                chunk = following.result()
                if chunk is None:
                    return
                await asyncio.wait_for(connection.write(chunk), self._limits.send_s)
        finally:
            stopping.cancel()
            if not following.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _warn(self, message: str) -> None:
        self._throttle.write(logging.WARNING, f"page: {message}", self._clock.monotonic_ns())


class _Connection(HTTPServerConnectionDelegate):
    """Receives the requests on one connection from tornado, and its end."""

    def __init__(self, server: PageServer, stream: IOStream, peer: str) -> None:
        self._server = server
        self._stream = stream
        self._peer = peer

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        del server_conn  # the stream is known
        assert isinstance(request_conn, HTTP1Connection)
        return _Exchange(self._server, request_conn, self._peer)

    def on_close(self, server_conn: object) -> None:
        del server_conn
        self._server.release(self._stream)


class _Exchange(HTTPMessageDelegate):
    """Receives one request from tornado as it is read."""

    def __init__(self, server: PageServer, connection: HTTP1Connection, peer: str) -> None:
        self._server = server
        self._connection = connection
        self._peer = peer
        self._head: Head | None = None
        self._body = bytearray()
        self._max_bytes = 0
        self._is_too_long = False

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, RequestStartLine)
        by_name = {name.lower(): value for name, value in headers.items()}
        self._head = Head(start_line.method, start_line.path, by_name, self._peer, self._server.is_tls)
        self._max_bytes = self._server.max_body_bytes(self._head)
        self._connection.set_max_body_size(max(self._max_bytes, DISCARDED_BYTES))

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > self._max_bytes:
            self._is_too_long = True
        if self._is_too_long:
            self._body.clear()

    def finish(self) -> None:
        assert self._head is not None
        self._server.answer(self._connection, self._head, None if self._is_too_long else bytes(self._body))


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def _abort(connection: HTTP1Connection) -> None:
    """Close at once and drop what the client has not taken: an ordinary close leaves it in the kernel for minutes."""
    if not connection.stream.closed():
        connection.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    connection.close()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
