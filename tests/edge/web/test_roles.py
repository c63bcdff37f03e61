"""Every route with every role, and what a request must be like before its route is looked up."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fakes.page import PageScene, add_users, served_page

from edge.web.api.command import VERBS
from edge.web.route import Page, Request, Response, Route
from edge.web.routes import ROUTES
from edge.web.user import ROLES as ORDER

PEOPLE = {"anyone": None, "viewer": "vera", "operator": "oskar", "engineer": "edda"}


async def harmless(_page: Page, _request: Request) -> Response:
    return Response.json({"schema": "test/1"})


SAME_TABLE = tuple(
    Route(row.method, row.path, row.role, harmless, row.about, row.answer, row.query, None, row.takes) for row in ROUTES
)
"""The table with handlers that do nothing: who may use a row is decided before its handler runs."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageScene]:
    """A page with users, and with a handler that does nothing behind each row."""
    folder = tmp_path_factory.mktemp("roles")
    add_users(folder)
    login = next(row for row in ROUTES if row.path.endswith("/login"))
    with served_page(folder, routes=[login, *(row for row in SAME_TABLE if row.path != login.path)]) as found:
        yield found


def example(row: Route) -> str:
    return re.sub(r"\{\w+\}", "1", row.path)


@pytest.mark.parametrize("person", PEOPLE.values(), ids=PEOPLE.keys())
def test_every_route_is_open_to_its_roles_only(scene: PageScene, person: str | None) -> None:
    """Each row answers who may use it; others get 401 without a login and 403 with one."""
    client = scene.client() if person is None else scene.as_role(person)
    role = next(role for role, name in PEOPLE.items() if name == person)
    for row in ROUTES:
        if row.path.endswith("/login"):
            continue
        is_json = row.takes == "application/json"
        headers = None if is_json else {"Content-Type": row.takes}
        answer = client.ask(row.method, example(row), {} if is_json else b"", headers=headers)
        may = ORDER.index(role) >= ORDER.index(row.role)
        refused = 401 if person is None else 403
        assert answer.status == (200 if may else refused), (row.method, row.path, answer.body)


def test_every_route_states_a_role_and_what_it_answers() -> None:
    """No row is without a role; only these are open to everybody; no path has two rows with one method."""
    public = {row.path for row in ROUTES if row.role == "anyone"}
    assert public == {"/healthz", "/enter", "/api/v1/session", "/api/v1/login", "/api/v1/logout"}
    assert len({(row.method, row.path) for row in ROUTES}) == len(ROUTES)
    assert all(row.answer and row.about for row in ROUTES)


def test_what_changes_something_is_a_post_and_no_viewer_may_do_it() -> None:
    """Besides logging in and out; commands decide by verb, and no verb that changes something is a viewer's."""
    posts = {row.path for row in ROUTES if row.method == "POST" and row.role in ("anyone", "viewer")}
    assert posts <= {"/api/v1/login", "/api/v1/logout", "/api/v1/command"}
    free = {verb for verb, row in VERBS.items() if row.role == "viewer"}
    assert free == {("ping", None), ("state", None), ("coil", "show"), ("dead-letters", "list"), ("model", "list")}
    assert not {"install", "snapshot", "evidence"} & {name for verb in VERBS for name in verb}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "a b", "[::1", "line3@evil.example"])
def test_foreign_host_is_refused(scene: PageScene, host: str) -> None:
    """A name that is not on the list gets status 421 for every path: DNS rebinding ends here."""
    for path in ("/", "/api/v1/session", "/healthz", "/static/js/app.js"):
        answer = scene.client().get(path, Host=host)
        assert (answer.status, answer.code) == (421, "host"), path


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, "origin"),
        ({"Origin": None}, "origin"),
        ({"Origin": "null"}, "origin"),
        ({"Origin": "http://[", "Sec-Fetch-Site": "none"}, "origin"),
        ({"Sec-Fetch-Site": "same-site"}, "origin"),
        ({"X-Defectd": None}, "mark"),
        ({"X-Defectd": "true"}, "mark"),
        ({"Content-Type": "text/plain"}, "content_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "content_type"),
        ({"Content-Type": None}, "content_type"),
    ],
)
def test_post_of_another_page_is_refused(scene: PageScene, headers: dict[str, str | None], code: str) -> None:
    """A POST needs the page's own origin, the mark, and JSON, also with a valid session."""
    client = scene.as_role("edda")
    answer = client.ask("POST", "/api/v1/command", {"verb": "ping"}, headers=headers)
    assert (answer.status, answer.code) == (415 if code == "content_type" else 403, code)


def test_page_elsewhere_cannot_read_the_api(scene: PageScene) -> None:
    """A browser that says that another site asks gets nothing, and no answer allows another origin."""
    client = scene.as_role("vera")
    assert client.get("/api/v1/session", Sec_Fetch_Site="cross-site").status == 403
    answer = client.get("/api/v1/session", Origin="http://evil.example")
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_carries_the_headers_that_protect(scene: PageScene) -> None:
    """Also errors and files: strict policy, no sniffing, no frames, no referrer."""
    for path in ("/", "/api/v1/session", "/api/v1/state", "/nothing.js", "/static/js/app.js"):
        headers = scene.client().get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"


PATH_TRICKS = [
    "/static/js/../../../../etc/passwd",
    "/static/js/%2e%2e/%2e%2e/setup.cfg",
    "/static/js/..%2f..%2fsettings.py",
    "/static/js//etc/passwd",
    "//etc/passwd",
    "/..",
    "/%2e%2e/x",
    "/.git/config",
    "/static/js/index.html%00.js",
    "/static/js/%00",
    "/static/js/..\\..\\settings.py",
    "/%5c..%5cx",
    "http://evil.example/x",
]


@pytest.mark.parametrize("path", PATH_TRICKS)
def test_tricks_in_a_path_reach_no_file(scene: PageScene, path: str) -> None:
    """Files are found by whole names that were read at the start."""
    assert scene.client().get(path).status == 404


@pytest.mark.parametrize("part", ["%2e%2e", "..", ".", "a%2fb", "a%5cb", "%00", "a%0d%0aX:1", "%7f"])
def test_tricks_in_a_part_of_a_path_reach_no_handler(scene: PageScene, part: str) -> None:
    """A part that a pattern names is one plain name."""
    answer = scene.as_role("edda").get(f"/api/v1/events/{part}")
    assert answer.status == 404


def test_method_that_a_path_does_not_take_is_refused(scene: PageScene) -> None:
    """405 names the others; a body that comes along does no harm."""
    client = scene.as_role("edda")
    assert client.ask("POST", "/api/v1/session", {}).status == 405
    assert client.ask("GET", "/api/v1/command").status == 405
    assert (
        client.ask("DELETE", "/api/v1/session", headers={"Origin": f"http://{client.host}", "X-Defectd": "1"}).status
        == 405
    )
