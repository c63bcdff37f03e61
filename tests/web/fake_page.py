"""A node that is not there: the front end with made-up, moving data, to develop and test pages without the daemon.

`python tests/web/fake_page.py --port 8480`. The data come from `fake_node.py`; a page with needs of its own adds a
module `fake_routes_NAME.py` with `ROUTES = {(method, path pattern): handler(node, request)}`, where a handler returns
JSON, or `(content type, bytes)`. `GET /fake/silence?s=7` makes the node silent, `/fake/restart` gives it a new epoch,
`/fake/login` makes it ask for a login.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import tornado.web
from fake_node import MAX_WAIT_S, FakeNode

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "edge" / "web" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html; charset=utf-8", ".svg": "image/svg+xml"}


class Handler(tornado.web.RequestHandler):
    """One request: fields `node` and `base` come from the application."""

    @property
    def node(self) -> FakeNode:
        return self.settings["node"]

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", CSP)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def answer(self, content: Any) -> None:
        if isinstance(content, tuple):
            self.set_header("Content-Type", content[0])
            self.finish(content[1])
        else:
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps(content))

    def refuse(self, status: int, code: str, reason: str, remedy: str | None = None) -> None:
        self.set_status(status)
        self.answer({"schema": "defectd.api.error/1", "error": {"code": code, "reason": reason, "remedy": remedy}})


class Files(Handler):
    """A file of the front end, or its index for the address of a page."""

    def get(self, path: str) -> None:
        found = STATIC / path.removeprefix("static/")
        if path.startswith("static/") and found.is_file() and found.resolve().is_relative_to(STATIC):
            self.answer((TYPES.get(found.suffix, "text/plain"), found.read_bytes()))
        elif path.startswith(("static/", "api/")):
            self.refuse(404, "not_found", "There is no such file.")
        else:
            index = (STATIC / "index.html").read_text("utf-8")
            self.answer((TYPES[".html"], index.replace("__BASE__", self.settings["base"]).encode()))


class Live(Handler):
    """The stream: `state` five times a second, `event` with its seq as id."""

    async def get(self) -> None:
        if self.node.wants_login:
            self.refuse(401, "login", "Log in first.")
            return
        self.set_header("Content-Type", "text/event-stream")
        await self.flush()
        seq, epoch = self.node.last_seq, self.node.epoch
        while not self.request.connection.stream.closed():
            if epoch != self.node.epoch:
                self.write("event: bye\ndata: {}\n\n")
                await self.flush()
                return
            if not self.node.is_silent:
                for event in self.node.events_after(seq):
                    seq = event["seq"]
                    self.write(f"id: {seq}\nevent: event\ndata: {json.dumps(event)}\n\n")
                self.write(f"event: state\ndata: {json.dumps(self.node.state())}\n\n")
                await self.flush()
            await asyncio.sleep(0.2)


class Picture(Handler):
    """The next frame of a camera, with its description in a header."""

    async def get(self, camera: str) -> None:
        after = self.get_query_argument("after", "")
        waited = 0.0
        while (found := self.node.frame(camera, after)) is None and waited < MAX_WAIT_S:
            await asyncio.sleep(0.05)
            waited += 0.05
        if found is None:
            self.set_status(204)
            return
        description, jpeg = found
        self.set_header("Defectd-Frame", json.dumps(description))
        self.answer(("image/jpeg", jpeg))


class Api(Handler):
    """A canned answer from a table of routes."""

    async def _answer(self, path: str) -> None:
        if self.node.wants_login and path not in {"login", "session"}:
            self.refuse(401, "login", "Log in first.")
            return
        for (method, pattern), handler in self.settings["routes"].items():
            found = re.fullmatch(pattern, "/" + path)
            if method == self.request.method and found:
                answer = handler(self.node, self, *found.groups())
                content = await answer if inspect.isawaitable(answer) else answer
                if not self._finished:
                    self.answer(content)
                return
        self.refuse(404, "not_found", "There is nothing of this name.")

    async def get(self, path: str) -> None:
        await self._answer(path)

    async def post(self, path: str) -> None:
        if self.request.headers.get("X-Defectd") != "1":
            self.refuse(403, "header", "The request does not come from the page.")
            return
        await self._answer(path)


class Control(Handler):
    """Makes the node silent, restart, or ask for a login."""

    def get(self, action: str) -> None:
        if action == "silence":
            self.node.be_silent(float(self.get_query_argument("s", "7")))
        elif action == "restart":
            self.node.restart()
        elif action == "login":
            self.node.wants_login = True
        self.answer({"done": action})


def application(node: FakeNode, base: str = "") -> tornado.web.Application:
    """base: the base path, "" or "/line3"."""
    sys.path.insert(0, str(HERE))
    routes: dict[tuple[str, str], Any] = {}
    for path in sorted(HERE.glob("fake_routes*.py")):
        routes |= importlib.import_module(path.stem).ROUTES
    return tornado.web.Application(
        [
            (rf"{base}/api/v1/live", Live),
            (rf"{base}/api/v1/cameras/([^/]+)/frame", Picture),
            (rf"{base}/api/v1/(.*)", Api),
            (rf"{base}/fake/(\w+)", Control),
            (rf"{base}/(.*)", Files),
        ],
        node=node,
        base=base,
        routes=routes,
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8480)
    parser.add_argument("--base", default="")
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument(
        "--kind", default="usual", choices=["usual", "empty", "no-positions", "trouble", "long", "other-steel"]
    )
    parser.add_argument("--role", default="engineer", choices=["viewer", "operator", "engineer"])
    arguments = parser.parse_args()
    node = FakeNode(cameras=arguments.cameras, kind=arguments.kind, role=arguments.role)
    application(node, arguments.base).listen(arguments.port, "127.0.0.1")
    await node.run()


if __name__ == "__main__":
    asyncio.run(main())
