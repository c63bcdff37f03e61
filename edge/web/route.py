"""What a route of the page is: who may use it, what it takes, and the function that answers.

Nothing here knows the HTTP library, so a handler can be tested by calling it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import unquote

from edge.coverage.coil_map import CoilMaps
from edge.host.clock import Clock
from edge.web.access import Access
from edge.web.body import NOTHING
from edge.web.children import Children
from edge.web.commands import Commands
from edge.web.feed import Feed
from edge.web.fleet_watch import FleetWatch
from edge.web.labelling import Labelling
from edge.web.refusal import Refusal, bad_value
from edge.web.settings import PageSettings
from edge.web.trend import Trend
from edge.web.user import NOBODY, Role, User
from edge.web.work_thread import WorkThread

JSON: Final = "application/json"
Method = Literal["GET", "POST"]
Schema = Mapping[str, Any]
"""The part of JSON Schema that `edge.web.body` checks."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that this user may make.  body: as `Route.body` allows, and not longer than `Route.max_body_bytes`."""

    path: str
    """Below the base path, still percent-encoded."""
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    """The parts of the path that the pattern names, decoded: never empty, without / and NUL, and not . or .."""
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""
    body: bytes = b""
    user: User = NOBODY
    client: str = ""
    """The client's address: behind a proxy, the one that the proxy names."""
    is_secure: bool = False
    """Whether it came over TLS, here or at the proxy."""
    session: str = ""
    """The key of its session, or empty."""

    def json(self) -> Any:
        """The fields of the body.  Only in handlers of routes with a `body`: those have a valid one."""
        return json.loads(self.body or b"{}")

    def text(self, name: str, *, max_length: int = 200) -> str | None:
        """A parameter of the query; None when it is missing or empty.  Raises Refusal."""
        values = self.query.get(name, ())
        if len(values) > 1:
            raise bad_value(f"{name} is given twice")
        if not values or not values[0]:
            return None
        if len(values[0]) > max_length or "\0" in values[0]:
            raise bad_value(f"{name} is longer than {max_length} characters, or has a NUL")
        return values[0]

    def number(self, name: str, *, low: float, high: float) -> float | None:
        """A number of the query within these bounds.  Raises Refusal."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise bad_value(f"{name} should be a number from {low:g} to {high:g}")
        return value

    def whole(self, name: str, *, low: int, high: int) -> int | None:
        """A whole number of the query within these bounds.  Raises Refusal."""
        text = self.text(name)
        if text is None:
            return None
        if not re.fullmatch("-?[0-9]{1,19}", text) or not low <= int(text) <= high:
            raise bad_value(f"{name} should be a whole number from {low} to {high}")
        return int(text)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """One of these words in the query.  Raises Refusal."""
        text = self.text(name)
        if text is not None and text not in allowed:
            raise bad_value(f"{name} should be one of: {', '.join(allowed)}")
        return text


@dataclass(frozen=True, slots=True)
class Response:
    """The whole answer; with `chunks`, its beginning.

    headers: besides those that the server adds to every answer; a name given here overrides the server's.
    chunks: further parts, as they come; the server closes it when the client has gone.
    """

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = JSON
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
    """Values of Set-Cookie."""
    chunks: AsyncIterator[bytes] | None = None

    @classmethod
    def json(
        cls, value: Mapping[str, Any], *, status: HTTPStatus = HTTPStatus.OK, cookies: tuple[str, ...] = ()
    ) -> Response:
        """One line of JSON.  value: has a field `schema`."""
        return cls(status, JSON, json.dumps(value, ensure_ascii=False).encode() + b"\n", cookies=cookies)

    @classmethod
    def refusal(cls, refused: Refusal) -> Response:
        return cls.json(refused.as_json(), status=refused.status)


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of the page process."""

    settings: PageSettings
    clock: Clock
    feed: Feed
    access: Access
    commands: Commands
    children: Children
    work: WorkThread
    """For what blocks: `await page.work.run(function, ...)`."""
    trend: Trend
    labelling: Labelling = field(init=False, repr=False)
    coils: CoilMaps = field(init=False)
    """Belongs to the thread of `work`."""
    fleet: FleetWatch = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labelling", Labelling(self.settings, self.clock))
        object.__setattr__(self, "fleet", FleetWatch(self.clock))
        object.__setattr__(self, "coils", CoilMaps(self.settings.coils))

    @property
    def cameras(self) -> set[str]:
        """Names of the cameras: those of the configuration at the start, and those that the daemon reports."""
        return {camera.name for camera in self.settings.cameras} | self.feed.cameras


Handler = Callable[[Page, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query, for the API's description."""

    name: str
    about: str
    type: Literal["string", "integer", "number", "boolean"] = "string"


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table.

    path: below the base path; {name} stands for one segment or a part of it.  answer: the name of a schema in
    `edge/schema` without `.json`, or a content type.  body: what a POST must carry.
    """

    method: Method
    path: str
    role: Role
    handler: Handler
    about: str
    answer: str
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None
    """None: an empty object."""
    takes: str = JSON
    """Content type of the body; one that is not JSON is not checked against `body`."""
    max_body_bytes: int = 16 << 10
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        parts = re.split(r"\{(\w+)\}", self.path)
        text = "".join(re.escape(part) if at % 2 == 0 else f"(?P<{part}>[^/?#]+?)" for at, part in enumerate(parts))
        object.__setattr__(self, "pattern", re.compile(text))

    @property
    def fields(self) -> Schema:
        """The schema of the body."""
        return NOTHING if self.body is None else self.body

    def matched(self, path: str) -> dict[str, str] | None:
        """The decoded parts of a path; None when it is another one, or a trick."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        parts = {name: unquote(text, errors="replace") for name, text in found.groupdict().items()}
        if any(part in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", part) for part in parts.values()):
            return None
        return parts
