"""The daemon's side of the page's feed: says what a test wants, and keeps what the page process wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from edge.delivery.page.framing import Decoder, encoded


class FakeFeed:
    """Listens on a socket; serves one page process at a time."""

    def __init__(self, path: Path, epoch: str = "e1") -> None:
        self._path = path
        self._epoch = epoch
        self._connection: socket.socket | None = None
        self._changed = threading.Condition()
        self.messages: list[Mapping[str, Any]] = []
        """What the page process has sent, oldest first."""

    def __enter__(self) -> Self:
        self._listening = socket.socket(socket.AF_UNIX)
        self._path.unlink(missing_ok=True)
        self._listening.bind(str(self._path))
        self._listening.listen(4)
        self._thread = threading.Thread(target=self._run, name="fake-feed")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        with self._changed:
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection = None  # what is said next waits for the next connection
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.sendall(
            encoded({"kind": "hello", "node": "line3", "version": "0", "epoch": self._epoch, "last_seq": 0})
        )
        decoder = Decoder()
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
        try:
            while data := connection.recv(1 << 16):
                with self._changed:
                    self.messages += [message.header for message in decoder.feed(data)]
                    self._changed.notify_all()
        except OSError:
            pass
        finally:
            with self._changed:
                self._connection = None

    def cut(self) -> None:
        """End the connection."""
        with self._changed:
            assert self._connection is not None
            self._connection.shutdown(socket.SHUT_RDWR)
            self._connection = None  # what is said next waits for the next connection

    def say(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message, once the page process has connected."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._connection is not None, 10)
            assert self._connection is not None
            self._connection.sendall(encoded(header, body))

    def wanted(self, fits: Any) -> Mapping[str, Any]:
        """The first want that fits, once it has come."""

        def found() -> Mapping[str, Any] | None:
            return next((one for one in self.messages if one["kind"] == "want" and fits(one)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, 10), self.messages
            want = found()
        assert want is not None
        return want


def state_of(**changes: Any) -> dict[str, Any]:
    """The message of a state, as the daemon sends it: of a node that inspects with one camera."""
    state = {
        "schema": "defectd.api.state/1",
        "node": "line3",
        "version": "0",
        "time": "2026-11-22T13:46:11.482Z",
        "epoch": "e1",
        "since": None,
        "verdict": "inspecting",
        "reasons": [],
        "strip": {
            **dict.fromkeys(("coil", "position_m", "speed_m_per_s", "since", "inspected_m", "partial_m", "missed_m")),
            "is_on": False,
            "defects": {"minor": 0, "major": 0, "critical": 0},
        },
        "cameras": [],
        "delivery": {"connected": True, "queued": 0, "dead_letters": 0, "last_seq": 0},
        "outputs": [],
        "model": None,
        "machine": None,
        "evidence": None,
        "grade": None,
        "roll_marks": [],
        **changes,
    }
    return {"kind": "state", "state": state}


def frame_of(number: int, **changes: Any) -> dict[str, Any]:
    """The message of a frame of the camera top."""
    return {
        "kind": "frame",
        "camera": "top",
        "number": number,
        "time": "2026-11-22T13:46:11.482Z",
        "age_ms": 12.0,
        "size_px": [1600, 256],
        "jpeg_px": [1600, 256],
        "state": "ok",
        "reason": None,
        "regions": [],
        "tiles": {"inspected": 16, "skipped": 0, "outside": 0},
        "roi_px": None,
        "position_m": None,
        "coil": None,
        **changes,
    }
