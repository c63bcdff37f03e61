"""The guided start over the API: what reaches the command line, what is kept secret, and what is refused."""

import asyncio
import hashlib
import json
import stat
from types import SimpleNamespace

import pytest
from fakes.page_children import Children, Inline

from edge.web import body
from edge.web.api import setup
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.user import User

EDDA = User("edda", "engineer")
JOB = "0123456789abcdef"
TEXT = b"node: line3\n"
BEFORE = hashlib.sha256(TEXT).hexdigest()
KNOWN = {"present": {}, "found": [], "before_sha256": BEFORE, "after_sha256": "b" * 64}
CAMERA = {"name": "side", "source": "rtsp://10.0.0.20/stream1", "user": "viewer", "password": "Pa#ss"}
ANSWERS = {"node": "line9", "keep": ["top"], "cameras": [CAMERA], "broker": None}


class Daemon:
    def __init__(self):
        self.asked = []
        self.refuses = False

    async def ask(self, verb, user, fields=None, via=None):
        if self.refuses:
            raise Refusal(503, "no_daemon", "it does not run")
        self.asked.append(verb)
        return {"needs_restart": ["node"]}

    async def acted(self, action, user, via, **facts):
        await self.ask(action, user)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(TEXT)
    settings = SimpleNamespace(web_dir=tmp_path / "web", config_path=path)
    return SimpleNamespace(settings=settings, children=Children(JOB, KNOWN), commands=Daemon(), work=Inline())


def ask(page, handler, fields=None, schema=None, user=EDDA, **params):
    content = json.dumps(fields or {}).encode()
    if schema is not None:
        body.parsed(content, schema)
    return asyncio.run(handler(page, Request("", params=params, body=content, user=user)))


def tried(page, **result):
    """A trial that has ended."""
    ask(page, setup.attempt, ANSWERS, setup.TRY)
    (job,) = page.children.jobs
    job.state = "done"
    job.result = {"works": True, "difference": "+x", "before_sha256": BEFORE, "cameras": [], **result}
    page.children.ran.clear()


def drafts(page):
    folder = page.settings.web_dir / "setup"
    return list(folder.iterdir()) if folder.is_dir() else []


def applied(page, **changes):
    return ask(page, setup.apply, {"job": JOB, "before_sha256": BEFORE, **changes}, setup.APPLY)


def test_passwords_are_in_a_file_of_the_page_and_in_no_argument(page):
    """The folder has mode 700, the file 600; another trial deletes the first one's answers."""
    for _ in range(2):
        assert ask(page, setup.attempt, ANSWERS, setup.TRY).status == 202
    words = page.children.ran[-1]
    (folder,) = drafts(page)
    answers = folder / "answers.json"
    assert words == ["init", "-o", str(page.settings.config_path), "--answers", str(answers), "--dry-run", "--json"]
    assert json.loads(answers.read_text()) == ANSWERS
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(answers.stat().st_mode)) == (0o700, 0o600)


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd", "images/*.png", "file:///etc/passwd", "rtsp://u:p@h/x", "rtsp://${file:/etc/passwd}/x", "0",
        "/dev/v4l/by-id/../../sda", "gst ! x", "rtsp://h/x y",
    ],
)  # fmt: skip
def test_source_is_a_url_a_video_device_or_the_strip(page, source):
    """No path of a file, no reference, no login in a URL."""
    with pytest.raises(Refusal, match="characters that are not allowed"):
        ask(page, setup.attempt, {**ANSWERS, "cameras": [{**CAMERA, "source": source}]}, setup.TRY)
    assert page.children.ran == []


def test_what_a_trial_showed_is_written_recorded_reloaded_and_forgotten(page):
    """The answers are deleted; the answer says what waits for a restart."""
    tried(page)
    answer = json.loads(applied(page).body)
    assert page.children.ran[0][-3:-1] == ["--answers", page.children.jobs[0].arguments[4]]
    assert page.commands.asked == ["setup", "reload"]
    assert (answer["taken_over"], answer["problem"]) == ({"needs_restart": ["node"]}, None)
    assert drafts(page) == []


def test_daemon_that_does_not_reply_is_named(page):
    """The file is written all the same."""
    tried(page)
    page.commands.refuses = True
    answer = json.loads(applied(page).body)
    assert (answer["taken_over"], answer["problem"]) == (None, "it does not run")


@pytest.mark.parametrize(
    ("result", "fields", "code"),
    [
        ({"works": False}, {}, "fails"),
        ({}, {"before_sha256": "a" * 64}, "stale"),
        ({}, {"job": "f" * 16}, "gone"),
        ({"before_sha256": "a" * 64}, {}, "stale"),
    ],
)
def test_nothing_is_written_without_a_trial_that_fits(page, result, fields, code):
    """One that failed without consent, an old one, one of another file."""
    tried(page, **result)
    with pytest.raises(Refusal) as refused:
        applied(page, **fields)
    assert refused.value.code == code
    assert page.children.ran == []


def test_file_that_changed_since_the_trial_is_not_overwritten(page):
    """Also by an undo."""
    tried(page)
    page.settings.config_path.write_bytes(b"node: other\n")
    for handler, fields in (
        (setup.apply, {"job": JOB, "before_sha256": BEFORE}),
        (setup.undo, {"before_sha256": BEFORE}),
    ):
        with pytest.raises(Refusal, match="meanwhile"):
            ask(page, handler, fields)
    assert page.children.ran == []


def test_answers_of_another_user_are_not_written(page):
    """They hold the passwords of who gave them."""
    tried(page)
    with pytest.raises(Refusal, match="no longer kept"):
        ask(page, setup.apply, {"job": JOB, "before_sha256": BEFORE}, user=User("eve", "engineer"))


def test_failure_with_consent_is_written(page):
    """A camera that is not there yet."""
    tried(page, works=False)
    assert applied(page, although_it_fails=True).status == 200


def test_picture_is_one_of_the_trial(page):
    """Any other name is refused."""
    tried(page, cameras=[{"name": "side", "picture": "side.png"}])
    (folder,) = drafts(page)
    (folder / "side.png").write_bytes(b"picture")
    assert ask(page, setup.picture, job=JOB, camera="side").body == b"picture"
    with pytest.raises(Refusal):
        ask(page, setup.picture, job=JOB, camera="answers")


def test_present_configuration_waits_for_a_job_that_runs(page):
    """Null then; the page asks again."""
    assert json.loads(ask(page, setup.setup).body)["present"] == {}
    ask(page, setup.find)
    answer = json.loads(ask(page, setup.setup).body)
    assert (answer["present"], answer["job"]["id"]) == (None, JOB)
