"""A TCP proxy with the faults of bad networks."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from typing import Literal

Mode = Literal["pass", "blackhole", "refuse", "reset", "slow"]


class Proxy:
    """Between a client and 127.0.0.1:upstream.

    pass: carries bytes.  blackhole: keeps connections, new ones too, and carries nothing (a half-open link).
    refuse: nothing listens, open connections are closed.  reset: connections end by RST, new ones too.
    slow: at most `rate` bytes per second and direction.
    """

    def __init__(self, upstream: int, rate: int = 2000) -> None:
        self._upstream = upstream
        self._rate = rate
        self._mode: Mode = "pass"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener: socket.socket | None = None
        self._changed = threading.Condition()
        self._applied: Mode | None = None
        self._over = False
        self.port = 0
        self._listen()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def set(self, mode: Mode) -> None:
        """Change the mode; returns once it is in force."""
        with self._changed:
            self._mode = mode
            self._applied = None
            assert self._changed.wait_for(lambda: self._applied == mode, 5)

    def close(self) -> None:
        self._over = True
        self._thread.join(5)
        for pair in self._pairs:
            for end in pair:
                end.close()
        if self._listener is not None:
            self._listener.close()

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]

    def _run(self) -> None:
        while not self._over:
            self._apply()
            ends = {a: b for pair in self._pairs for a, b in (pair, pair[::-1])}
            listening = [] if self._listener is None else [self._listener]
            carrying = list(ends) if self._mode in ("pass", "slow") else []
            ready, _, _ = select.select([*listening, *carrying], [], [], 0.01)
            for one in ready:
                if one is self._listener:
                    self._accept()
                elif one.fileno() >= 0:
                    self._carry(one, ends[one])

    def _apply(self) -> None:
        with self._changed:
            mode = self._mode
            if mode in ("refuse", "reset"):
                for pair in self._pairs:
                    for end in pair:
                        self._end(end, reset=mode == "reset")
                self._pairs = []
            if mode == "refuse" and self._listener is not None:
                self._listener.close()
                self._listener = None
            elif mode != "refuse" and self._listener is None:
                self._listen()
            self._applied = mode
            self._changed.notify_all()

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        if self._mode == "reset":
            self._end(client, reset=True)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), 2)
        except OSError:
            self._end(client, reset=True)
            return
        self._pairs.append((client, server))

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(65_536 if self._mode == "pass" else max(1, self._rate // 50))
            if data:
                target.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._pairs = [pair for pair in self._pairs if source not in pair]
            source.close()
            target.close()
        elif self._mode == "slow":
            time.sleep(len(data) / self._rate)

    @staticmethod
    def _end(end: socket.socket, *, reset: bool) -> None:
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
