"""What a page of the HTTP server is: a function from a request to a response, and where it runs.

Nothing here knows the HTTP library, so a handler can be tested by calling it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

PLAIN_TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD request.  query: the decoded values of each parameter, in order."""

    path: str
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """The whole answer.  body: also for HEAD, where the server sends its length alone."""

    status: HTTPStatus
    content_type: str
    body: bytes

    @classmethod
    def text(cls, status: HTTPStatus, message: str) -> Response:
        return cls(status, PLAIN_TEXT, f"{message}\n".encode())

    @classmethod
    def json(cls, status: HTTPStatus, value: object) -> Response:
        """One line of JSON."""
        return cls(status, JSON, json.dumps(value).encode() + b"\n")


Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers requests for one path."""

    handler: Handler
    is_quick: bool = False
    """The handler takes microseconds and waits for nothing: the server's own thread runs it, so that it still answers
    while another page is slow.  Every other handler runs on the thread for pages, one at a time."""
