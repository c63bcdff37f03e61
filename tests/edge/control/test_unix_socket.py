"""Commands from this machine: answered without a broker, bounded, and no command ends the socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import StateDir
from edge.control.audit import Call
from edge.control.requests import Actor, Model, Ping, Request
from edge.control.unix_socket import CommandSocket, ask
from edge.errors import BundleError, CommandError
from edge.host.clock import SystemClock

CLOCK = SystemClock()


class Handlers:
    """A node that carries out every command, or fails at each."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.calls: list[Call] = []
        self.failure: Exception | None = None

    def perform(self, call: Call) -> dict[str, Any]:
        request = call.request
        self.calls.append(call)
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        return {"did": type(request).__name__}


def path_in(folder: Path) -> Path:
    return StateDir(folder).command_socket


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Handlers, Path]]:
    folder = tmp_path / ("deep" * 40)  # longer than the address of a socket may be
    folder.mkdir()
    handlers = Handlers()
    listening = CommandSocket(path_in(folder), handlers.perform, CLOCK)
    listening.start()
    yield handlers, folder
    listening.stop(1.0)
    assert list(folder.iterdir()) == []


def connect(caller: socket.socket, folder: Path) -> None:
    handle = os.open(folder, os.O_PATH)
    caller.connect(f"/proc/self/fd/{handle}/{path_in(folder).name}")
    os.close(handle)


def raw_reply(folder: Path, data: bytes) -> dict[str, Any]:
    """The reply to these bytes."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        connect(caller, folder)
        caller.sendall(data)
        caller.shutdown(socket.SHUT_WR)
        reply: dict[str, Any] = json.loads(caller.makefile().readline())
    return reply


def test_command_is_carried_out_and_answered(served: Any) -> None:
    """The same requests as over MQTT, checked in the same way; only the owner may use the socket."""
    handlers, folder = served
    assert ask(folder, "ping") == {"did": "Ping"}
    assert ask(folder, "model", action="use", digest="abcdef") == {"did": "Model"}
    assert handlers.requests == [Ping(), Model(action="use", digest="abcdef")]
    assert stat.S_IMODE(path_in(folder).stat().st_mode) == 0o600


def test_the_page_says_who_asks(served: Any) -> None:
    """The actor and the configuration that he saw; a wrong actor is refused before anything is done."""
    handlers, folder = served
    anna = {"name": "anna", "role": "engineer", "via": "10.0.0.5"}
    ask(folder, "reload", actor=anna, expected_config_sha256="ab" * 32)
    ask(folder, "acted", actor=anna, action="labels")
    assert [call.verb for call in handlers.calls] == ["reload", "acted"]
    assert handlers.calls[0].actor == Actor(**anna)
    assert handlers.calls[0].expected_config_sha256 == "ab" * 32
    for wrong in ({"actor": "anna"}, {"actor": {**anna, "role": "root"}}, {"expected_config_sha256": 7}):
        with pytest.raises(CommandError) as refused:
            ask(folder, "reload", **wrong)
        assert refused.value.code == "bad_value"
    assert len(handlers.calls) == 2


def test_refusals_state_the_reason(served: Any) -> None:
    """A refusal of the node, an unknown verb and a wrong field have a code each; the next command is carried out."""
    handlers, folder = served
    for failure, code in (
        (CommandError("busy", "one at a time"), "busy"),
        (BundleError("too slow"), "failed"),
        (RuntimeError("oh"), "failed"),
    ):
        handlers.failure = failure
        with pytest.raises(CommandError) as caught:
            ask(folder, "ping")
        assert caught.value.code == code
    handlers.failure = None
    for verb, fields, code in (("nonsense", {}, "unknown_verb"), ("model", {"action": "use"}, "bad_value")):
        with pytest.raises(CommandError) as caught:
            ask(folder, verb, **fields)
        assert caught.value.code == code
    for data, code in ((b"{\n", "bad_json"), (b"x" * 20_000 + b"\n", "too_large"), (b"", "unknown_verb")):
        assert raw_reply(folder, data)["error"]["code"] == code
    assert ask(folder, "ping") == {"did": "Ping"}


def test_silent_caller_does_not_block_the_next_one(tmp_path: Path) -> None:
    """After `request_s` the socket is free again."""
    listening = CommandSocket(path_in(tmp_path), Handlers().perform, CLOCK, request_s=0.1)
    listening.start()
    with socket.socket(socket.AF_UNIX) as silent:
        connect(silent, tmp_path)
        assert ask(tmp_path, "ping", 5.0) == {"did": "Ping"}
    listening.stop(1.0)


def test_without_a_daemon_there_is_no_reply(tmp_path: Path) -> None:
    """Neither where none ever ran, nor where one was killed: the next daemon replaces the socket that it left."""
    assert ask(tmp_path, "ping") is None
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path_in(tmp_path)))
    left.close()
    assert ask(tmp_path, "ping") is None
    listening = CommandSocket(path_in(tmp_path), Handlers().perform, CLOCK)
    listening.start()
    assert ask(tmp_path, "ping") == {"did": "Ping"}
    listening.stop(1.0)


def test_socket_that_cannot_be_made_is_logged_and_stops_nothing(tmp_path: Path, caplog: Any) -> None:
    """A node without its command socket inspects all the same."""
    listening = CommandSocket(path_in(tmp_path / "nowhere"), Handlers().perform, CLOCK)
    listening.start()
    listening.stop(0.1)
    assert "no commands from this machine" in caplog.text
