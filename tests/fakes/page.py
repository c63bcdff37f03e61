"""A page that is served on a thread of the test, and a client that speaks to it as it likes."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.host.clock import Clock, SystemClock, stamp
from edge.web import password, users_file
from edge.web.route import Route
from edge.web.routes import ROUTES
from edge.web.server import DEFAULT_LIMITS, Limits
from edge.web.serving import Serving, serving
from edge.web.settings import CameraSettings, PageSettings
from edge.web.user import Role
from edge.web.users_file import UserEntry

PATIENCE_S = 10.0
PASSWORDS = {"vera": "vera sees all", "oskar": "oskar operates", "edda": "edda engineers"}
ROLES: Mapping[str, Role] = {"vera": "viewer", "oskar": "operator", "edda": "engineer"}
WEAK = {name: password.hashed(text, b"salt" * 4) for name, text in PASSWORDS.items()}
"""Hashed once for all tests: it takes 0.1 s each."""


def page_settings(folder: Path, **changes: Any) -> PageSettings:
    """Settings of a page whose state directory is this folder; it listens on a free port."""
    fields: dict[str, Any] = {
        "node": "line3",
        "version": "0.0",
        "listen": ("127.0.0.1", 0),
        "state_dir": folder,
        "outbox": folder / "outbox.db",
        "evidence": folder / "evidence",
        "coils": folder / "coils",
        "command_socket": folder / "console",
        "feed_socket": folder / "web.sock",
        "web_dir": folder / "web",
        "config_path": folder / "config.yaml",
        "cameras": (CameraSettings("top", "strip", 20.0),),
    }
    return PageSettings(**{**fields, **changes})


def add_users(folder: Path, *, stays: Sequence[str] = ()) -> None:
    """One user of each role."""
    users = {
        name: UserEntry(ROLES[name], WEAK[name], stamp(SystemClock().wall_ns()), name in stays) for name in PASSWORDS
    }
    users_file.write(folder / "web" / "users.json", users)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        """Of a refusal."""
        return self.json["error"]["code"]


class PageClient:
    """Asks as a browser does, or not.  Keeps the cookie that it is given."""

    def __init__(self, port: int, name: str = "127.0.0.1") -> None:
        self.port = port
        self.host = f"{name}:{port}"
        self.cookie = ""

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """One request on a connection of its own.  headers: besides the usual ones; None leaves one out."""
        sent: dict[str, str | None] = {"Host": self.host}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if method == "POST":
            sent |= {"Origin": f"http://{self.host}", "X-Defectd": "1", "Content-Type": "application/json"}
            data = b"{}" if data is None else data
        if self.cookie:
            sent["Cookie"] = self.cookie
        sent |= headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any = None, **headers: str | None) -> Answer:
        return self.ask("POST", path, body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def login(self, name: str) -> Answer:
        """Log in, and keep the cookie."""
        answer = self.post("/api/v1/login", {"name": name, "password": PASSWORDS[name]})
        self.take_cookie(answer)
        return answer

    def take_cookie(self, answer: Answer) -> None:
        self.cookie = answer.headers.get("Set-Cookie", "").partition(";")[0]

    def opened(self, path: str = "/api/v1/live") -> socket.socket:
        """A connection that has sent a request, for its stream."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        cookie = f"Cookie: {self.cookie}\r\n" if self.cookie else ""
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n{cookie}\r\n".encode())
        return client


@dataclass
class PageScene:
    """A served page, and where it runs."""

    served: Serving
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return self.served.port

    def client(self) -> PageClient:
        return PageClient(self.port)

    def as_role(self, name: str) -> PageClient:
        """A client that has logged in."""
        client = self.client()
        assert client.login(name).status == 200
        return client


@contextmanager
def served_page(
    folder: Path,
    *,
    routes: Sequence[Route] = ROUTES,
    limits: Limits = DEFAULT_LIMITS,
    clock: Clock | None = None,
    **changes: Any,
) -> Iterator[PageScene]:
    """Serve a page.  changes: of its settings."""
    folder.mkdir(exist_ok=True)
    settings = page_settings(folder, **changes)
    found: list[PageScene] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    async def main() -> None:
        stop.append(asyncio.Event())
        async with serving(settings, routes, clock or SystemClock(), limits) as served:
            found.append(PageScene(served, asyncio.get_running_loop()))
            ready.set()
            await stop[0].wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 (the test raises it)
            failed.append(error)
        finally:
            ready.set()

    stop: list[asyncio.Event] = []
    thread = threading.Thread(target=run, name="page")
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        if found:
            yield found[0]
    finally:
        if found:
            found[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


def read_until(client: socket.socket, text: bytes) -> bytes:
    """What comes up to and with this text; fails when the connection ends before."""
    data = b""
    while text not in data:
        piece = client.recv(1 << 16)
        assert piece, data
        data += piece
    return data
