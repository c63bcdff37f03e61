"""The HTTP server over real sockets: pages, limits, and what a hostile or broken client can do to the node."""

from __future__ import annotations

import json
import logging
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from fakes.waiting import until

from edge.host.clock import SystemClock
from edge.monitoring.http_server import HttpServer, Limits
from edge.monitoring.route import Request, Response, Route

ROOT = Path(__file__).parents[3]
PATIENCE_S = 10.0
SHORT_S = 0.3
"""A time-out of the server under test, where the test waits for it."""
BIG = b"x" * (16 << 20)
"""More than the kernel buffers for a client that does not read."""


def hello(request: Request) -> Response:
    name = request.query.get("name", ["node"])[0]
    return Response.text(HTTPStatus.OK, f"hello {name}")


def broken(_request: Request) -> Response:
    raise ZeroDivisionError


ROUTES = {
    "/hello": Route(hello),
    "/quick": Route(hello, is_quick=True),
    "/big": Route(lambda _: Response(HTTPStatus.OK, "text/plain", BIG)),
    "/broken": Route(broken),
    "/broken-quick": Route(broken, is_quick=True),
}


@contextmanager
def serving(limits: Limits | None = None, routes: dict[str, Route] = ROUTES) -> Iterator[HttpServer]:
    server = HttpServer(("127.0.0.1", 0), SystemClock(), limits or Limits())
    assert server.start(routes)
    try:
        yield server
    finally:
        assert server.stop(PATIENCE_S)
        assert not {"http", "http-pages"} & {thread.name for thread in threading.enumerate()}


def connected(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the server closes; fails when it does not."""
    data = b""
    try:
        while piece := client.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return data


def ask(
    server: HttpServer, path: str, method: str = "GET", more: str = "", body: bytes = b""
) -> tuple[int, str, bytes]:
    """Status, header and body of one request on a connection of its own."""
    with connected(server) as client:
        try:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n".encode() + body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed at once; an answer may be there all the same
        header, _, content = read_to_end(client).partition(b"\r\n\r\n")
    status = int(header.split()[1]) if header else 0
    return status, header.decode(), content


class Gate:
    """A page that waits until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, request: Request) -> Response:
        self.entered.release()
        assert self.opened.wait(PATIENCE_S)
        return hello(request)


# Pages


def test_page_is_what_its_handler_returns() -> None:
    """Status, type, length and body, with the query of the request; HEAD gives the same without the body."""
    with serving() as server:
        for path in ("/hello?name=a%20b", "/quick?name=a%20b"):
            status, header, body = ask(server, path)
            assert (status, body) == (200, b"hello a b\n")
            assert "Content-Type: text/plain; charset=utf-8" in header
            assert "Content-Length: 10" in header
            assert ask(server, path, "HEAD") == (status, header, b"")


def test_unknown_path_and_foreign_method_are_refused() -> None:
    """404 names the pages there are, 405 the methods; a body that comes along does no harm."""
    with serving() as server:
        status, _, body = ask(server, "/metric")
        assert (status, b"/hello" in body) == (404, True)
        for method in ("POST", "DELETE", "OPTIONS", "BREW"):
            status, header, _ = ask(server, "/hello", method, "Content-Length: 5\r\n", b"12345")
            assert (status, "Allow: GET, HEAD" in header) == (405, True)


def test_connection_serves_one_request_after_the_other() -> None:
    """Also those that a client sends without waiting for the answers."""
    with serving() as server, connected(server) as client:
        client.sendall(b"GET /hello?name=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /quick?name=2 HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while data.count(b"hello") < 2:
            data += client.recv(1 << 16)
        assert data.index(b"hello 1") < data.index(b"hello 2")


@pytest.mark.parametrize("path", ["/broken", "/broken-quick"])
def test_handler_that_fails_is_status_500(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is in the log once, not in the answer, and the other pages go on."""
    with serving() as server:
        for _ in range(5):
            status, _, body = ask(server, path)
            assert (status, body) == (500, b"ZeroDivisionError: see the log of defectd\n")
        assert ask(server, "/hello")[0] == 200
    assert [record.levelname for record in caplog.records if "failed" in record.message] == ["ERROR"]


# Limits of connections and of requests


def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    """They are counted; when one of the others ends, the next client is served."""
    with serving(Limits(connections=4, idle_s=PATIENCE_S)) as server, ExitStack() as clients:
        idle = [clients.enter_context(connected(server)) for _ in range(4)]
        for client in idle:  # an answer shows that the server has accepted it
            client.sendall(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1 << 16)
        for n in (1, 2, 3):
            assert read_to_end(clients.enter_context(connected(server))) == b""
            assert server.refused["too_many_connections"] == n
        idle[0].close()
        until(lambda: ask(server, "/quick")[0] == 200)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /hello HT",
        b"GET /hello HTTP/1.1\r\nHost: x\r\n",
        b"GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n123",
    ],
    ids=["nothing", "half a line", "half a header", "half a body"],
)
def test_client_that_does_not_finish_its_request_is_closed(sent: bytes) -> None:
    """Within seconds, and without an answer."""
    with serving(Limits(idle_s=SHORT_S, body_s=SHORT_S)) as server, connected(server) as client:
        client.sendall(sent)
        assert read_to_end(client) == b""


def test_header_that_comes_byte_by_byte_is_cut_off() -> None:
    """The time-out is for the whole header, not for the next byte."""
    with serving(Limits(idle_s=SHORT_S)) as server, connected(server) as client:
        started = time.monotonic()
        try:
            while not select.select([client], [], [], 0.02)[0]:
                client.sendall(b"G")
                assert time.monotonic() - started < PATIENCE_S
        except (BrokenPipeError, ConnectionResetError):
            pass


def test_connection_that_is_idle_after_an_answer_is_closed() -> None:
    """Keep-alive has an end."""
    with serving(Limits(idle_s=SHORT_S)) as server, connected(server) as client:
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_to_end(client).endswith(b"hello node\n")


def test_header_and_body_that_are_too_large_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends; nothing is logged, so that a scanner cannot fill the disk."""
    caplog.set_level(logging.INFO)
    with serving() as server:
        assert ask(server, "/hello", more=f"X-Filler: {'x' * (17 << 10)}\r\n")[0] in (0, 400)
        assert ask(server, "/hello", more=f"Content-Length: {65 << 10}\r\n")[0] == 400
        assert ask(server, "/hello", more="Transfer-Encoding: chunked\r\n", body=b"10001\r\n" + b"x" * 65_537)[0] == 400
        assert ask(server, f"/hello?{'&'.join(f'a{n}=1' for n in range(101))}")[0] == 400
        assert ask(server, "/hello", more=f"Content-Length: {64 << 10}\r\n", body=b"x" * (64 << 10))[0] == 200
    assert caplog.records == []


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_refused(sent: bytes) -> None:
    """TLS, invalid bytes and another version end their own connection and no other."""
    with serving() as server:
        with connected(server) as client:
            client.sendall(sent)
            assert read_to_end(client).split(b" ")[1:2] in ([], [b"400"])
        assert ask(server, "/hello")[0] == 200


# Slow pages and slow clients


def test_slow_page_delays_no_other_page_for_long() -> None:
    """A quick page answers at once; others get 503 after the time-out, or at once when too many wait."""
    gate = Gate()
    routes = {**ROUTES, "/slow": Route(gate)}
    with serving(Limits(answer_s=SHORT_S, waiting=2), routes) as server:
        assert ask(server, "/slow")[0] == 503
        assert gate.entered.acquire(timeout=PATIENCE_S)
        assert ask(server, "/quick")[0] == 200
        assert ask(server, "/hello")[0] == 503
        assert server.refused["slow_page"] == 2
        assert ask(server, "/hello")[0] == 503  # two wait now, though their clients have gone
        assert ask(server, "/hello")[0] == 503
        assert server.refused["busy"] == 1
        gate.opened.set()
        until(lambda: ask(server, "/hello")[0] == 200)


def test_page_whose_client_has_gone_is_not_made() -> None:
    """A request whose client leaves while it waits for the thread is dropped."""
    gate = Gate()
    made = []

    def counted(request: Request) -> Response:
        made.append(request.path)
        return hello(request)

    routes = {**ROUTES, "/slow": Route(gate), "/counted": Route(counted)}
    with serving(routes=routes) as server, connected(server) as slow, connected(server) as leaving:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gate.entered.acquire(timeout=PATIENCE_S)
        leaving.sendall(b"GET /counted HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ask(server, "/quick")[0] == 200
        leaving.close()
        assert ask(server, "/quick")[0] == 200  # by now the server has seen it leave
        gate.opened.set()
        assert slow.recv(1 << 16)
    assert made == []


def test_client_that_does_not_take_its_answer_is_closed() -> None:
    """Meanwhile the others are served; it is counted."""
    with serving(Limits(send_s=2.0)) as server, connected(server) as hung:
        hung.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hung.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ask(server, "/hello")[0] == 200
        until(lambda: server.refused["slow_client"] == 1)
        assert len(read_to_end(hung)) < len(BIG)
        status, _, body = ask(server, "/big")
        assert (status, len(body)) == (200, len(BIG))


# Start and stop


def test_stop_closes_idle_connections_and_waits() -> None:
    """Twice and without a start, too; a page that hangs cannot hold it up beyond the deadline."""
    gate = Gate()
    server = HttpServer(("127.0.0.1", 0), SystemClock())
    assert server.stop(PATIENCE_S)
    assert server.start({"/slow": Route(gate)})
    with connected(server) as idle, connected(server) as waiting:
        waiting.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gate.entered.acquire(timeout=PATIENCE_S)
        started = time.monotonic()
        assert not server.stop(SHORT_S)
        assert time.monotonic() - started < PATIENCE_S / 2
        assert (read_to_end(idle), read_to_end(waiting)) == (b"", b"")
    gate.opened.set()
    assert server.stop(PATIENCE_S)


def test_port_that_is_taken_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The node inspects without its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = HttpServer(("127.0.0.1", other.getsockname()[1]), SystemClock())
        assert not server.start(ROUTES)
        assert server.stop(PATIENCE_S)
    assert "no metrics on 127.0.0.1" in caplog.text
    assert "Address already in use" in caplog.text


def test_machine_that_allows_no_more_threads_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A stack larger than the address space cannot be had, and with it no thread."""
    before = threading.stack_size(1 << 47)
    try:
        server = HttpServer(("127.0.0.1", 0), SystemClock())
        assert not server.start(ROUTES)
        assert server.stop(PATIENCE_S)
    finally:
        threading.stack_size(before)
    assert "can't start new thread" in caplog.text


def test_address_of_both_kinds_is_served() -> None:
    """`[::]` accepts IPv4 connections, too."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = HttpServer(("::", 0), SystemClock())
    assert server.start(ROUTES)
    try:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), PATIENCE_S) as client:
                client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                assert read_to_end(client).endswith(b"hello node\n")
    finally:
        assert server.stop(PATIENCE_S)


@pytest.mark.parametrize("host", ["256.256.256.256", "x" * 70 + ".invalid"])
def test_host_that_is_none_is_logged_and_stops_nothing(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """A name that cannot be resolved, and one that cannot even be encoded."""
    assert not HttpServer((host, 1), SystemClock()).start(ROUTES)
    assert f"no metrics on {host}:1" in caplog.text


def test_handler_with_an_unusable_content_type_holds_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The server closes the connection, and logs the error."""
    page = Route(lambda _: Response(HTTPStatus.OK, "text/plain\r\nX: y", b""))
    with serving(routes={"/bad": page}) as server:
        assert ask(server, "/bad") == (0, "", b"")
    assert "no answer was sent" in caplog.text


# Exhaustion, in a process of its own

CHILD = """
import json, os, resource, sys, threading
from http import HTTPStatus
from edge.host.clock import SystemClock
from edge.monitoring.http_server import HttpServer, Limits
from edge.monitoring.route import Response, Route

files, connections, idle_s, opens = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "opens"
server = HttpServer(("127.0.0.1", 0), SystemClock(), Limits(connections=connections, idle_s=idle_s, accept_retry_s=0.2))
if not opens:
    import encodings.idna
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
started = server.start({"/healthz": Route(lambda _: Response.text(HTTPStatus.OK, "moves"), is_quick=True)})
print(server.port if started else 0, flush=True)
rounds = failures = most_threads = 0
stop = threading.Event()

def inspect():
    global rounds, failures, most_threads
    while not stop.wait(0.005):
        rounds, most_threads = rounds + 1, max(most_threads, threading.active_count())
        try:
            open("/dev/null").close()
        except OSError:
            failures += 1

loop = threading.Thread(target=inspect)
if opens:
    loop.start()
sys.stdin.readline()
stop.set()
if opens:
    loop.join()
used = sum(os.times()[:2])
server.stop(5)
print(json.dumps([rounds, failures, most_threads, used, dict(server.refused)]))
"""


@contextmanager
def child(files: int, connections: int, idle_s: float, *, opens: bool) -> Iterator[tuple[int, list]]:
    """A process with few descriptors that serves; yields its port, and what it counted once the block is left."""
    command = [sys.executable, "-c", CHILD, str(files), str(connections), str(idle_s), "opens" if opens else "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        counted: list = []
        try:
            yield int(process.stdout.readline()), counted
            output, _ = process.communicate("stop\n", timeout=PATIENCE_S)
            counted.extend(json.loads(output))
        finally:
            process.kill()


def healthy(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.settimeout(0.5)
        try:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return read_to_end(client).endswith(b"moves\n")
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return False


def test_hundreds_of_idle_connections_exhaust_neither_files_nor_threads() -> None:
    """With 128 descriptors and 600 connections, inspection can open its files and /healthz answers."""
    with child(files=128, connections=64, idle_s=3.0, opens=True) as (port, counted), ExitStack() as clients:
        for _ in range(600):
            clients.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
        until(lambda: healthy(port))
    rounds, failures, threads, _, refused = counted
    assert rounds > 10
    assert failures == 0
    assert threads <= 4
    assert refused["too_many_connections"] >= 300
    assert refused["no_descriptors"] == 0


def test_process_without_descriptors_accepts_again_when_it_has_some() -> None:
    """Connections wait in the kernel's queue; the server neither ends nor spins meanwhile."""
    with child(files=24, connections=64, idle_s=1.0, opens=False) as (port, counted), ExitStack() as clients:
        for _ in range(40):
            clients.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
        until(lambda: healthy(port))
    *_, used_s, refused = counted
    assert 0 < refused["no_descriptors"] < 50
    assert used_s < 5


def test_process_without_any_descriptor_starts_no_server() -> None:
    """It is logged and counts as a failed start; the process goes on."""
    with child(files=4, connections=64, idle_s=1.0, opens=True) as (port, counted):
        assert port == 0
    assert counted[0] >= 0
