"""The API of models, by calling its handlers."""

import asyncio
import hashlib
import io
import json
import zipfile
from types import SimpleNamespace

import jsonschema
import pytest
from fakes.page import page_settings

from edge.web import openapi
from edge.web.api import model
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.user import User

EDDA = User("edda", "engineer")
CARD = {"schema": "defectd.card/1", "name": "second", "version": "0.4", "classes": ["a", "b"], "selftest": {"seed": 1}}
CONTENT = json.dumps(CARD).encode()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ROLLOUT = {"model": {}, "current": "configured", "previous": None, "on_trial": False, "rejected": {}, "installed": []}


def zipped(content=CONTENT):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("card.json", content)
    return packed.getvalue()


class Inline:
    """A work thread without a thread."""

    async def run(self, function, *args, **kwargs):
        return function(*args, **kwargs)


class Daemon:
    """State, command socket and children."""

    def __init__(self):
        self.bundle = DIGEST
        self.runs = True
        self.recorded = []
        self.ran = []
        self.refusal = None

    async def state(self, _timeout_s, _after_ns=0):
        return (1, b"", {"model": {"bundle": self.bundle}}) if self.runs else None

    async def ask(self, _verb, _user, _fields=None, _via=None):
        if not self.runs:
            raise Refusal(503, "no_daemon", "it does not run")
        return ROLLOUT

    async def acted(self, action, user, via, **facts):
        await self.ask("acted", user)
        self.recorded.append((action, user.name, facts["after_sha256"]))

    async def run_to_end(self, arguments, *, label, by, time_s):
        path = model.Path(arguments[2])
        self.ran.append((tuple(arguments), path.read_bytes(), path.stat().st_mode & 0o777))
        if self.refusal:
            raise Refusal(409, "failed", f"defectd: {path}: {self.refusal}")
        return SimpleNamespace(result={"digest": DIGEST, "changed": False})


@pytest.fixture
def page(tmp_path):
    daemon = Daemon()
    return SimpleNamespace(
        settings=page_settings(tmp_path), feed=daemon, commands=daemon, children=daemon, work=Inline(), daemon=daemon
    )


def asked(handler, page, **request):
    answer = asyncio.run(handler(page, Request("/", user=EDDA, **request)))
    return json.loads(answer.body)


def shown(page, **query):
    found = asked(model.model, page, query={name: [value] for name, value in query.items()})
    jsonschema.validate(found, openapi.schema("api-model-1"))
    return found


def test_card_is_found_by_its_digest_wherever_the_bundle_lies(page, tmp_path):
    """Installed, as a folder or a zip of the configuration, or shipped; numbers for machines are left out."""
    assert shown(page)["card"] is None
    folder = tmp_path / "models" / DIGEST
    folder.mkdir(parents=True)
    (folder / "card.json").write_bytes(CONTENT)
    found = shown(page)
    assert (found["card"]["name"], "selftest" in found["card"], found["rollout"]) == ("second", False, ROLLOUT)
    (folder / "card.json").write_bytes(b"damaged")
    assert shown(page)["card"] is None
    (tmp_path / "second.zip").write_bytes(zipped())
    page.settings = page_settings(tmp_path, bundle=str(tmp_path / "second.zip"))
    assert shown(page)["card"]["version"] == "0.4"


def test_shipped_model_and_one_that_is_asked_for(page):
    """A digest that is none is refused; a node whose daemon does not run still shows what is asked for."""
    builtin = hashlib.sha256((model.Path(openapi.SCHEMAS.parent) / "model/builtin/card.json").read_bytes()).hexdigest()
    page.daemon.runs = False
    found = shown(page, digest=builtin)
    assert (found["digest"], len(found["card"]["classes"]), found["rollout"]) == (builtin, 6, None)
    assert shown(page)["digest"] is None
    with pytest.raises(Refusal, match="64 hexadecimal"):
        shown(page, digest="../../etc/passwd")


def test_upload_is_private_checked_recorded_and_deleted(page, tmp_path):
    """It is not used before somebody says so."""
    found = asked(model.install, page, method="POST", body=zipped())
    jsonschema.validate(found, openapi.schema("api-model-install-1"))
    arguments, content, mode = page.daemon.ran[0]
    assert (arguments[:2], arguments[3:]) == (
        ("model", "install"),
        ("-c", str(tmp_path / "config.yaml"), "--json", "--no-use"),
    )
    assert (content, mode) == (zipped(), 0o600)
    assert page.daemon.recorded == [("model.install", "edda", DIGEST)]
    assert (found["digest"], found["problem"]) == (DIGEST, None)
    assert list((tmp_path / "web" / "uploads").iterdir()) == []


def test_refused_bundle_gives_the_reason_without_a_path(page, tmp_path):
    """And leaves nothing behind."""
    page.daemon.refusal = "neither a directory nor a readable zip"
    with pytest.raises(Refusal, match=r"^the file: neither") as refused:
        asked(model.install, page, method="POST", body=zipped())
    assert refused.value.status == 409
    assert list((tmp_path / "web" / "uploads").iterdir()) == []
    with pytest.raises(Refusal, match="no zip"):
        asked(model.install, page, method="POST", body=b"#!/bin/sh")
    assert page.daemon.recorded == []


def test_model_that_was_installed_without_a_daemon_says_that_nobody_recorded_it(page):
    """It is installed all the same."""
    page.daemon.runs = False
    assert "not recorded" in asked(model.install, page, method="POST", body=zipped())["problem"]
