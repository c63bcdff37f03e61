"""The door for commands from this box: a unix socket in `state_dir`, for whoever may write there.

It works without a broker, and needs no `commands.allow`: who can reach it owns the node. One JSON object in a line
asks, with `verb` and the fields of `docs/commands.md`; one in a line answers.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edge.control.mqtt_commands import MAX_BYTES, parsed
from edge.control.requests import REQUESTS, Request
from edge.errors import CommandError, DefectdError

log = logging.getLogger(__name__)

FILE: Final = "console"
ASK_S: Final = 2.0
"""For a question to be whole once someone is connected."""
ANSWER_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 8 << 20
LOOK_S: Final = 0.2

Perform = Callable[[Request], dict[str, Any]]


class Console:
    """The thread `console`: one question at a time."""

    def __init__(self, state_dir: Path, perform: Perform) -> None:
        """perform: carries out; raises DefectdError to refuse."""
        self._state_dir = state_dir
        self._perform = perform
        self._socket: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Listen.  Where that cannot be had the node runs without, and says so."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with _reached(self._state_dir) as folder:
                (self._state_dir / FILE).unlink(missing_ok=True)  # of a run that was killed: only one has the lock
                listening.bind(f"{folder}/{FILE}")
            (self._state_dir / FILE).chmod(0o600)
            listening.listen(4)
            listening.settimeout(LOOK_S)
        except OSError as error:
            listening.close()
            log.warning("no commands from this box: %s: %s", self._state_dir / FILE, error.strerror or error)
            return
        self._socket = listening
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Safe without a start."""
        self._stopping.set()
        if self._socket is not None:
            self._thread.join(timeout_s + LOOK_S)
            self._socket.close()
            (self._state_dir / FILE).unlink(missing_ok=True)

    def _run(self) -> None:
        assert self._socket is not None
        while not self._stopping.is_set():
            try:
                caller, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._stopping.wait(LOOK_S):  # no descriptors, for now
                    log.warning("the console: %s", error)
                continue
            with caller:
                try:
                    self._serve(caller)
                except OSError as error:
                    log.debug("the console's caller has gone: %s", error)

    def _serve(self, caller: socket.socket) -> None:
        caller.settimeout(ASK_S)
        answer: dict[str, Any]
        try:
            answer = {"ok": True, "result": self._answer(_line(caller, MAX_BYTES))}
        except CommandError as error:
            answer = {"ok": False, "error": {"code": error.code, "reason": str(error)}}
        except DefectdError as error:
            answer = {"ok": False, "error": {"code": "failed", "reason": str(error)}}
        except Exception as error:
            log.exception("a command from this box")
            words = f"an error in defectd ({type(error).__name__}): see its log"
            answer = {"ok": False, "error": {"code": "failed", "reason": words}}
        caller.settimeout(ASK_S)
        caller.sendall(json.dumps(answer).encode() + b"\n")

    def _answer(self, question: bytes) -> dict[str, Any]:
        fields = parsed(question)
        model = REQUESTS.get(str(fields.pop("verb", "")))
        if model is None:
            raise CommandError("unknown_verb", f"no such command; there are: {', '.join(REQUESTS)}")
        try:
            request = model.model_validate(fields)
        except ValidationError as error:
            raise CommandError("bad_value", str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
        log.info("from this box: %s %s", model.__name__.lower(), fields)
        return self._perform(request)


def ask(state_dir: Path, verb: str, timeout_s: float = ANSWER_S, **fields: Any) -> dict[str, Any] | None:
    """What the running daemon answers; None when none runs.  Raises CommandError when it refuses or says nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as caller:
        caller.settimeout(timeout_s)
        try:
            with _reached(state_dir) as folder:
                caller.connect(f"{folder}/{FILE}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise CommandError("failed", f"{state_dir / FILE}: {error.strerror or error}") from error
        try:
            caller.sendall(json.dumps({"verb": verb, **fields}).encode() + b"\n")
            said = json.loads(_line(caller, MAX_ANSWER_BYTES))
        except (OSError, ValueError) as error:
            raise CommandError("timeout", f"the daemon gives no answer: {error}") from error
    if not said["ok"]:
        raise CommandError(said["error"]["code"], said["error"]["reason"])
    result: dict[str, Any] = said["result"]
    return result


@contextmanager
def _reached(folder: Path) -> Iterator[str]:
    """A short name of a folder: the address of a unix socket has at most 108 bytes."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _line(peer: socket.socket, most: int) -> bytes:
    """Up to the end of a line.  Raises OSError, CommandError."""
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = peer.recv(65_536)
        if not piece:
            break
        data += piece
        if len(data) > most:
            raise CommandError("too_large", f"at most {most} bytes")
    return bytes(data)
