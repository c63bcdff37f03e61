"""The examples of docs/page.md against the table of routes: they can be typed as they stand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from edge.web import body
from edge.web.api import command
from edge.web.routes import ROUTES

PAGE = Path(__file__).parents[1] / "docs" / "page.md"
ORIGIN = "http://127.0.0.1:8480"
TAKES_VALUE = {"-H", "-d", "-b", "-c", "-o", "-D", "--data-binary"}


class Example(NamedTuple):
    """One curl command."""

    text: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any


def parsed(text: str) -> Example:
    command, *rest = shlex.split(text)
    words = iter([*POST, *rest] if command == "post" else rest)
    options: dict[str, list[str]] = {}
    url = ""
    for word in words:
        if word in TAKES_VALUE:
            options.setdefault(word, []).append(next(words))
        elif not word.startswith("-"):
            url = word
    address = urlsplit(url)
    assert f"{address.scheme}://{address.netloc}" == ORIGIN, text
    headers = dict(header.split(": ", 1) for header in options.get("-H", ()))
    data = options.get("-d")
    method = "GET" if data is None and "--data-binary" not in options else "POST"
    return Example(text, method, address.path, address.query, headers, None if data is None else json.loads(data[0]))


LINES = PAGE.read_text("utf-8").splitlines()
POST = next(
    shlex.split(found[1]) for line in LINES if (found := re.fullmatch(r' {4}post\(\) \{ curl (.*) "\$@"; \}', line))
)
"""What the shell function `post` of the document adds."""
EXAMPLES = [parsed(line.strip()) for line in LINES if line.startswith(("    curl ", "    post "))]


def routes_of(example: Example) -> list[Any]:
    return [row for row in ROUTES if row.method == example.method and row.matched(example.path) is not None]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one.method} {one.path}?{one.query}"[:60])
def test_example_is_a_request_that_the_page_takes(example: Example) -> None:
    """Its path and method are a route's, its parameters are described there, its body fits."""
    (row,) = routes_of(example)[:1]
    known = {parameter.name for parameter in row.query}
    assert set(re.findall(r"(?:^|&)([^=&]+)=", example.query)) <= known
    if example.method == "POST":
        assert example.headers == {"Origin": ORIGIN, "X-Defectd": "1", "Content-Type": row.takes}
        if row.takes != "application/json":
            return
        body.check(example.body, row.fields)
        if example.path.endswith("/command"):
            fields = {name: value for name, value in example.body.items() if name not in ("verb", "action")}
            verb = command.VERBS[example.body["verb"], example.body.get("action")]
            body.check(fields, {"type": "object", "required": verb.required, "properties": verb.fields})


def test_every_route_has_an_example() -> None:
    """A route that nobody can try is not finished: give it a curl line in docs/page.md."""
    shown = {(row.method, row.path) for example in EXAMPLES for row in routes_of(example)[:1]}
    assert {(row.method, row.path) for row in ROUTES} - shown == set()
