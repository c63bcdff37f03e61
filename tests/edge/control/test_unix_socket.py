"""Commands from this box: answered without a broker, bounded, and no reason to fall over."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.control import unix_socket
from edge.control.requests import Model, Ping, Request
from edge.control.unix_socket import Console, ask
from edge.errors import BundleError, CommandError


class Desk:
    """A node that does as it is told."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.failure: Exception | None = None

    def perform(self, request: Request) -> dict[str, Any]:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        return {"did": type(request).__name__}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Desk, Path]]:
    folder = tmp_path / ("deep" * 40)  # longer than the address of a socket may be
    folder.mkdir()
    desk = Desk()
    listening = Console(folder, desk.perform)
    listening.start()
    yield desk, folder
    listening.stop(1.0)
    assert list(folder.iterdir()) == []


def raw(folder: Path, data: bytes) -> dict[str, Any]:
    """What is answered to these bytes."""
    handle = os.open(folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        caller.connect(f"/proc/self/fd/{handle}/{unix_socket.FILE}")
        caller.sendall(data)
        caller.shutdown(socket.SHUT_WR)
        answer = caller.makefile().readline()
    os.close(handle)
    said: dict[str, Any] = json.loads(answer)
    return said


def test_command_is_carried_out_and_answered(desk):
    """The same requests as over MQTT, checked in the same way; the socket is its owner's only."""
    node, folder = desk
    assert ask(folder, "ping") == {"did": "Ping"}
    assert ask(folder, "model", action="use", digest="abcdef") == {"did": "Model"}
    assert node.asked == [Ping(), Model(action="use", digest="abcdef")]
    assert stat.S_IMODE((folder / unix_socket.FILE).stat().st_mode) == 0o600


def test_refusals_say_why(desk):
    """What the node refuses, what is no command, what does not fit: each with its code; the next one is heard."""
    node, folder = desk
    for failure, code in (
        (CommandError("busy", "one at a time"), "busy"),
        (BundleError("too slow"), "failed"),
        (RuntimeError("oh"), "failed"),
    ):
        node.failure = failure
        with pytest.raises(CommandError) as told:
            ask(folder, "ping")
        assert told.value.code == code
    node.failure = None
    for verb, fields, code in (("nonsense", {}, "unknown_verb"), ("model", {"action": "use"}, "bad_value")):
        with pytest.raises(CommandError) as told:
            ask(folder, verb, **fields)
        assert told.value.code == code
    for data, code in ((b"{\n", "bad_json"), (b"x" * 20_000 + b"\n", "too_large"), (b"", "unknown_verb")):
        assert raw(folder, data)["error"]["code"] == code
    assert ask(folder, "ping") == {"did": "Ping"}


def test_caller_who_says_nothing_keeps_nobody_waiting(desk, monkeypatch):
    """After a while the next one has its turn."""
    _, folder = desk
    monkeypatch.setattr(unix_socket, "ASK_S", 0.1)
    handle = os.open(folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.connect(f"/proc/self/fd/{handle}/{unix_socket.FILE}")
        assert ask(folder, "ping", 5.0) == {"did": "Ping"}
    os.close(handle)


def test_without_a_daemon_there_is_no_answer(tmp_path):
    """Nobody ever was there; and somebody was, and was killed: the socket it left is taken by the next."""
    assert ask(tmp_path, "ping") is None
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / unix_socket.FILE))
    left.close()
    assert ask(tmp_path, "ping") is None
    listening = Console(tmp_path, Desk().perform)
    listening.start()
    assert ask(tmp_path, "ping") == {"did": "Ping"}
    listening.stop(1.0)


def test_place_that_cannot_be_had_is_told_and_stops_nothing(tmp_path, caplog):
    """A node without its console inspects all the same."""
    listening = Console(tmp_path / "nowhere", Desk().perform)
    listening.start()
    listening.stop(0.1)
    assert "no commands from this box" in caplog.text
