"""Commands from this machine: a unix socket in the state directory, for every user who may write there.

It works without a broker, and needs no `commands.allow`: a user who can reach it owns the node. The caller sends one
JSON object in a line, with `verb` and the fields of `docs/commands.md`, and gets one in a line back. The page adds an
`actor`: its command is then recorded as an event (`control.audit`).
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edge.config import StateDir
from edge.control.audit import Call
from edge.control.mqtt_commands import MAX_BYTES, parsed
from edge.control.requests import LOCAL_REQUESTS, Actor
from edge.errors import CommandError, DefectdError
from edge.host.clock import Clock
from edge.host.log_throttle import LogThrottle
from edge.host.rights import why
from edge.host.text import one_line
from edge.host.unix_address import short_name
from edge.host.worker import Worker

log = logging.getLogger(__name__)

REQUEST_S: Final = 2.0
"""How long a caller may take to send its request."""
REPLY_S: Final = 60.0
MAX_REPLY_BYTES: Final = 8 << 20
POLL_S: Final = 0.2

Perform = Callable[[Call], dict[str, Any]]


class CommandSocket:
    """The thread `console`: one request at a time."""

    def __init__(self, path: Path, perform: Perform, clock: Clock, request_s: float = REQUEST_S) -> None:
        """path: of the socket.  perform: carries out; raises DefectdError to refuse.

        request_s: how long a caller may take to send its request.
        """
        self._path = path
        self._perform = perform
        self._request_s = request_s
        self._clock = clock
        self._throttle = LogThrottle(log)
        self._socket: socket.socket | None = None
        self._worker = Worker("console", self._run, clock)

    def start(self) -> None:
        """Listen.  Where that is not possible the node runs without the socket, and logs it."""
        listening: socket.socket | None = None
        try:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            with short_name(self._path) as address:
                self._path.unlink(missing_ok=True)  # left by a run that was killed: only this daemon has the lock
                listening.bind(address)
            self._path.chmod(0o600)
            listening.listen(4)
            listening.settimeout(POLL_S)
            self._socket = listening
            self._worker.start()
        except (OSError, RuntimeError) as error:
            self._socket = None
            if listening is not None:
                listening.close()
            reason = error.strerror if isinstance(error, OSError) else None
            log.warning("no commands from this machine: %s: %s", self._path, reason or error)

    def stop(self, timeout_s: float) -> None:
        """Safe without a start."""
        self._worker.ask_stop()
        if self._socket is not None:
            self._worker.join(timeout_s + POLL_S)
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        assert self._socket is not None
        while not self._worker.is_stopping:
            self._worker.beat()
            try:
                caller, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._worker.wait_for_stop(POLL_S):  # out of file descriptors, for now
                    words = f"the command socket: {error}"
                    self._throttle.write(logging.WARNING, words, self._clock.monotonic_ns())
                continue
            with caller:
                try:
                    self._serve(caller)
                except OSError as error:
                    log.debug("the caller of the command socket has gone: %s", error)

    def _serve(self, caller: socket.socket) -> None:
        caller.settimeout(self._request_s)
        reply: dict[str, Any]
        try:
            reply = {"ok": True, "result": self._handle(_line(caller, MAX_BYTES))}
        except CommandError as error:
            reply = {"ok": False, "error": {"code": error.code, "reason": str(error)}}
        except DefectdError as error:
            reply = {"ok": False, "error": {"code": "failed", "reason": str(error)}}
        except Exception as error:
            log.exception("a command from this machine")
            reason = f"an error in defectd ({type(error).__name__}): see its log"
            reply = {"ok": False, "error": {"code": "failed", "reason": reason}}
        caller.settimeout(self._request_s)
        caller.sendall(json.dumps(reply).encode() + b"\n")

    def _handle(self, line: bytes) -> dict[str, Any]:
        fields = parsed(line)
        verb, actor, expected = (fields.pop(key, None) for key in ("verb", "actor", "expected_config_sha256"))
        model = LOCAL_REQUESTS.get(str(verb))
        if model is None:
            raise CommandError("unknown_verb", f"no such command; there are: {', '.join(LOCAL_REQUESTS)}")
        if expected is not None and not isinstance(expected, str):
            raise CommandError("bad_value", "expected_config_sha256 should be a text")
        try:
            who = None if actor is None else Actor.model_validate(actor)
            request = model.model_validate(fields)
        except ValidationError as error:
            raise CommandError("bad_value", str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
        by = "" if who is None else f" by {who.name} ({who.role})"
        log.info("command from this machine%s: %s %s", by, verb, one_line(str(fields)))
        return self._perform(Call(str(verb), request, who, expected))


def ask(state_dir: Path, verb: str, timeout_s: float = REPLY_S, **fields: Any) -> dict[str, Any] | None:
    """The reply of the running daemon; None when none runs.  Raises CommandError when it refuses or does not reply."""
    path = StateDir(state_dir).command_socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as caller:
        caller.settimeout(timeout_s)
        try:
            with short_name(path) as address:
                caller.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise CommandError("failed", f"{path}: {why(error)}") from error
        try:
            caller.sendall(json.dumps({"verb": verb, **fields}).encode() + b"\n")
            reply = json.loads(_line(caller, MAX_REPLY_BYTES))
        except (OSError, ValueError) as error:
            raise CommandError("timeout", f"the daemon does not reply: {error}") from error
    if not reply["ok"]:
        raise CommandError(reply["error"]["code"], reply["error"]["reason"])
    result: dict[str, Any] = reply["result"]
    return result


def _line(peer: socket.socket, max_bytes: int) -> bytes:
    """Bytes up to the end of a line.  Raises OSError, CommandError."""
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = peer.recv(65_536)
        if not piece:
            break
        data += piece
        if len(data) > max_bytes:
            raise CommandError("too_large", f"at most {max_bytes} bytes")
    return bytes(data)
