"""The API of the node itself, by calling its handlers."""

import asyncio
import json
from types import SimpleNamespace

import jsonschema
import pytest
from fakes.clock import FakeClock
from fakes.page import add_users, page_settings

from edge.web import openapi
from edge.web.access import Access
from edge.web.api import node
from edge.web.children import Job
from edge.web.log_lines import LogLines
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.user import User

EDDA, OSKAR, VERA = User("edda", "engineer"), User("oskar", "operator"), User("vera", "viewer")
FINDING = {"about": "disk", "grade": "fail", "says": "is full", "remedy": "delete something"}


class Inline:
    """A work thread without a thread."""

    async def run(self, function, *args, **kwargs):
        return function(*args, **kwargs)


class Children:
    """Jobs that end when the test says so."""

    def __init__(self):
        self.jobs = []

    def submit(self, arguments, *, label, by, time_s=600.0):
        job = Job(f"{len(self.jobs)}" * 16, label, by, tuple(arguments), time_s, "2026-11-29T00:00:00.000Z")
        self.jobs.append(job)
        return job

    def job(self, identity):
        return next((job for job in self.jobs if job.id == identity), None)

    def end(self, output=b"", code=0):
        job = self.jobs[-1]
        job.output += output
        job.exit_code, job.ended = code, "2026-11-29T00:00:01.000Z"
        job.state, job.reason = ("done", None) if code == 0 else ("failed", "it ended with a code")
        job.has_ended.set()


class Commands:
    """The daemon's command socket."""

    def __init__(self):
        self.recorded = []
        self.runs = True

    async def acted(self, action, user, via, **facts):
        if not self.runs:
            raise Refusal(503, "no_daemon", "it does not run")
        self.recorded.append((action, user.name))


@pytest.fixture
def page(tmp_path):
    settings = page_settings(tmp_path)
    return SimpleNamespace(
        settings=settings,
        clock=FakeClock(),
        work=Inline(),
        children=Children(),
        commands=Commands(),
        access=Access(settings, FakeClock()),
        feed=SimpleNamespace(logs=LogLines()),
    )


def asked(handler, page, user=VERA, **request):
    answer = asyncio.run(handler(page, Request("/", user=user, **request)))
    return json.loads(answer.body) if answer.content_type == "application/json" else answer


def about(page, user=VERA):
    found = asked(node.node, page, user)
    jsonschema.validate(found, openapi.schema("api-node-1"))
    return found


def test_first_look_lets_the_doctor_examine_without_cameras_and_a_fault_is_no_failure(page):
    """The doctor's exit code 1 says that it found something."""
    assert about(page)["doctor"]["state"] == "waiting"
    config = str(page.settings.config_path)
    assert page.children.jobs[0].arguments == ("doctor", "-c", config, "--json", "--no-cameras")
    page.children.end(json.dumps(FINDING).encode() + b"\n" + json.dumps(FINDING | {"remedy": ""}).encode(), code=1)
    found = about(page)["doctor"]
    assert (found["state"], [one["remedy"] for one in found["findings"]]) == ("done", ["delete something", None])
    assert len(page.children.jobs) == 1


def test_second_examination_is_asked_for_and_one_at_a_time(page):
    """Who asks while one runs gets that one; a doctor that does not come to its end gives the reason."""
    about(page)
    running = asked(node.examine, page, OSKAR, method="POST")
    assert running["id"] == page.children.jobs[0].id
    page.children.end(b"", code=2)
    assert (about(page)["doctor"]["state"], about(page)["doctor"]["reason"]) == ("failed", "it ended with a code")
    assert asked(node.examine, page, OSKAR, method="POST")["by"] == "oskar"
    assert len(page.children.jobs) == 2


def test_sizes_of_folders_and_users_for_operators_only(page, tmp_path):
    """Names and roles, never what is kept of a password."""
    (tmp_path / "coils").mkdir()
    (tmp_path / "coils" / "a.jsonl").write_bytes(b"12345")
    (tmp_path / "coils" / "away").symlink_to("/usr")
    (tmp_path / "outbox.db").write_bytes(b"123")
    add_users(tmp_path)
    sizes = {one["name"]: (one["files"], one["bytes"]) for one in about(page)["storage"]}
    assert (sizes["outbox"], sizes["coils"][0], sizes["models"]) == ((1, 3), 2, (0, 0))
    assert about(page)["users"] is None
    found = about(page, OSKAR)["users"]
    assert [(one["name"], one["role"], one["sessions"]) for one in found] == [
        ("edda", "engineer", 0),
        ("oskar", "operator", 0),
        ("vera", "viewer", 0),
    ]
    assert "scrypt" not in json.dumps(found)


def test_log_starts_again_for_who_names_a_line_of_an_earlier_page(page):
    """Lines count from the start of the page process."""
    fields = {"time": "2026-11-29T00:00:00.000Z", "logger": "n", "thread": None, "message": "m"}
    page.feed.logs.take("e", [{"number": number, "level": "info", **fields} for number in (1, 2, 3)])
    for after, expected in (("0", [1, 2, 3]), ("2", [3]), ("900", [1, 2, 3])):
        answer = asked(node.logs, page, OSKAR, query={"after": [after]})
        jsonschema.validate(answer, openapi.schema("api-logs-1"))
        assert ([one["line"] for one in answer["lines"]], answer["last"]) == (expected, 3)
    assert asked(node.logs, page, OSKAR, query={"level": ["error"]})["lines"] == []


def test_support_bundle_is_private_and_downloaded_once(page):
    """Also while the daemon does not run: then nobody records it."""
    page.commands.runs = False
    job = asked(node.support_bundle, page, EDDA, method="POST")
    path = node.Path(page.children.jobs[0].arguments[-1])
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Refusal):
        asked(node.bundle, page, EDDA, params={"job": job["id"]})
    path.write_bytes(b"packed")
    page.children.end()
    answer = asked(node.bundle, page, EDDA, params={"job": job["id"]})
    assert (answer.body, path.exists()) == (b"packed", False)
    assert "attachment" in answer.headers["Content-Disposition"]
    for identity in (job["id"], "nothing"):
        with pytest.raises(Refusal, match="no such bundle"):
            asked(node.bundle, page, EDDA, params={"job": identity})


def test_next_bundle_deletes_what_nobody_fetched_and_only_that(page):
    """Other files in the folder stay."""
    asked(node.support_bundle, page, EDDA, method="POST")
    first = node.Path(page.children.jobs[0].arguments[-1])
    first.write_bytes(b"old")
    (first.parent / "other").write_bytes(b"")
    asked(node.support_bundle, page, EDDA, method="POST")
    assert [path.name for path in first.parent.iterdir()] == ["other"]
    assert page.commands.recorded == [("support-bundle", "edda")] * 2
