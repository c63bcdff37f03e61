"""Commands of the page: who may give which, what reaches the daemon, and what its refusals become."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.page import ROLES, add_users, served_page

from edge.web.api.command import DEFAULT_ACTIONS, VERBS

EXAMPLES: dict[str, Any] = {
    "camera": "top",
    "coil": "A4711",
    "lane": "left",
    "digest": "abcdef",
    "for_s": 60,
    "grade": "B",
    "limit": 5,
    "reason": "a new roll",
    "seqs": [1],
    "all": True,
    "confidence": 0.5,
    "unsure": None,
    "classes": {"scratches": 0.9},
}


@contextmanager
def daemon(path: Path, reply: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """A command socket that gives one reply to everything; what it has received."""
    received: list[dict[str, Any]] = []
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(4)

    def run() -> None:
        while True:
            try:
                caller, _ = listening.accept()
            except OSError:
                return
            with caller, caller.makefile("rb") as file:
                received.append(json.loads(file.readline()))
                caller.sendall(json.dumps(reply).encode() + b"\n")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield received
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listening.close()


def fields_of(verb: str, action: str | None) -> dict[str, Any]:
    row = VERBS[verb, action]
    own = {} if action is None else {"action": action}
    return {"verb": verb, **own, **{name: EXAMPLES[name] for name in row.fields}}


def test_each_verb_is_for_its_role_and_names_who_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon gets the fields as they are, and an actor that the client cannot set."""
    monkeypatch.setattr("edge.web.commands.BURST", 1000)
    add_users(tmp_path)
    with daemon(tmp_path / "console", {"ok": True, "result": {"done": 1}}) as received, served_page(tmp_path) as scene:
        people = {
            role: scene.as_role(name)
            for role, name in (("viewer", "vera"), ("operator", "oskar"), ("engineer", "edda"))
        }
        for verb, action in VERBS:
            fields = fields_of(verb, action)
            needed = VERBS[verb, action].role
            for at, (role, client) in enumerate(people.items()):
                may = at >= list(people).index(needed)
                answer = client.post("/api/v1/command", fields)
                assert answer.status == (200 if may else 403), (fields, role, answer.body)
                if may:
                    assert answer.json == {"schema": "defectd.api.command/1", "verb": verb, "result": {"done": 1}}
                    name = next(name for name, own in ROLES.items() if own == role)
                    signed = {VERBS[verb, action].signed: name} if VERBS[verb, action].signed else {}
                    assert received[-1] == {
                        **fields,
                        **signed,
                        "actor": {"name": name, "role": role, "via": "127.0.0.1"},
                    }


NO_COMMANDS: list[dict[str, Any]] = [
    {},
    {"verb": "install"},
    {"verb": "snapshot", "camera": "top"},
    {"verb": "evidence", "path": "../../etc/passwd"},
    {"verb": "model", "action": "install", "url": "https://evil.example"},
    {"verb": "pause"},
    {"verb": "pause", "camera": "../top"},
    {"verb": "pause", "camera": "top", "actor": {"name": "root", "role": "engineer"}},
    {"verb": "pause", "camera": "top", "for_s": True},
    {"verb": "pause", "camera": "top", "for_s": 1e9},
    {"verb": "coil", "action": ["start"]},
    {"verb": "coil", "action": "start", "coil": ""},
    {"verb": "coil-release", "coil": "A4711", "by": "somebody else"},
    {"verb": "set", "camera": "top", "classes": {"a": {"b": 1}}},
    {"verb": "set", "camera": "top", "confidence": "high"},
    {"verb": ["ping"]},
]


def test_what_is_no_command_does_not_reach_the_daemon(tmp_path: Path) -> None:
    """Unknown verbs, actions and fields, wrong types, paths and URLs are refused by the page."""
    add_users(tmp_path)
    with daemon(tmp_path / "console", {"ok": True, "result": {}}) as received, served_page(tmp_path) as scene:
        client = scene.as_role("edda")
        for fields in NO_COMMANDS:
            answer = client.post("/api/v1/command", fields)
            assert (answer.status, answer.code) == (400, "bad_value"), fields
        assert received == []


def test_refusal_of_the_daemon_is_passed_on(tmp_path: Path) -> None:
    """With its code and reason; without a daemon the answer says that it does not run."""
    refused = {"ok": False, "error": {"code": "unknown_camera", "reason": "there is no camera <b>"}}
    with served_page(tmp_path) as scene:
        with daemon(tmp_path / "console", refused):
            answer = scene.client().post("/api/v1/command", {"verb": "ping"})
            assert (answer.status, answer.json["error"]["reason"]) == (404, "there is no camera <b>")
        assert scene.client().post("/api/v1/command", {"verb": "ping"}).code == "no_daemon"


def test_commands_are_limited(tmp_path: Path) -> None:
    """After a burst of twenty, five a second: the daemon takes one at a time."""
    with daemon(tmp_path / "console", {"ok": True, "result": {}}) as received, served_page(tmp_path) as scene:
        statuses = [scene.client().post("/api/v1/command", {"verb": "ping"}).status for _ in range(30)]
        assert statuses[:20] == [200] * 20
        assert 429 in statuses
        assert len(received) == statuses.count(200)


def test_every_action_that_is_left_out_is_known() -> None:
    """A verb without an action means the harmless one."""
    assert all((verb, action) in VERBS for verb, action in DEFAULT_ACTIONS.items())
    assert all(VERBS[verb, action].role == "viewer" for verb, action in DEFAULT_ACTIONS.items())
