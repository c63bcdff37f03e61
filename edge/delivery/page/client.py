"""One connection to the feed: what it wants, and what waits to be sent to it.

A client that reads slowly gets the newest frame and the newest state; only events wait, up to a limit. Beyond it, or
after a time without any progress, the connection ends: the client connects again and reads the outbox.
"""

from __future__ import annotations

import selectors
import socket
from collections import deque
from typing import Final

from edge.delivery.page.framing import MAX_WANT_BYTES, Decoder, FramingError, Message, encoded
from edge.delivery.page.log_ring import LogRing
from edge.delivery.page.messages import MAX_RAW, WANT_S, CameraWant, Want
from edge.host.clock import NS_PER_S

MAX_QUEUED: Final = 2000
MAX_QUEUED_BYTES: Final = 8 << 20
"""Of messages that wait: events, and unscaled frames up to MAX_RAW_BYTES more."""
MAX_RAW_BYTES: Final = 128 << 20
STALLED_S: Final = 10.0
"""A client that takes nothing for so long, while something waits for it, has hung."""
READ_BYTES: Final = 1 << 16
RAW_FPS: Final = 10.0
"""The rate of unscaled frames."""


class Gone(Exception):
    """The connection has to end, or has ended."""


class Client:
    """The sending side never waits.  Owned by the feed's thread."""

    def __init__(self, connection: socket.socket, now_ns: int) -> None:
        connection.setblocking(False)
        self.connection = connection
        self._decoder = Decoder(MAX_WANT_BYTES)
        self._want = Want()
        self._want_ns = now_ns
        self._raw_left: dict[str, int] = {}
        self._due_ns: dict[str, int] = {}
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._raw: deque[bytes] = deque()
        self._raw_bytes = 0
        self._state: bytes | None = None
        self._frames: dict[str, bytes] = {}
        self._sending = memoryview(b"")
        self._moved_ns = now_ns
        """When it last took something, or nothing waited for it."""
        self._logged = 0
        """Number of the last log record that it got."""
        self.takes_logs = False
        """The page process does; commands that read the feed do not."""
        self.replaced = 0
        """Frames that a newer one replaced before they were sent."""

    # ---- what it wants -------------------------------------------------------------------------------

    def receive(self) -> list[Message]:
        """What it has sent.  Raises Gone."""
        try:
            data = self.connection.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Gone(str(error)) from None
        if not data:
            raise Gone("it has closed the connection")
        try:
            return self._decoder.feed(data)
        except FramingError as error:
            raise Gone(str(error)) from None

    def wants(self, want: Want, now_ns: int) -> None:
        """It wants this from now on, and so many unscaled frames more."""
        self._want, self._want_ns = want, now_ns
        for camera, count in want.raw.items():
            self._raw_left[camera] = min(MAX_RAW, self._raw_left.get(camera, 0) + count)

    def rates(self, now_ns: int) -> dict[str, float]:
        """Frames per second by camera, as it wants them now; none once its want has ended."""
        if now_ns - self._want_ns > WANT_S * NS_PER_S:
            self._want, self._raw_left = Want(), {}
        rates = {camera: want.max_fps for camera, want in self._want.cameras.items()}
        return rates | {camera: RAW_FPS for camera, left in self._raw_left.items() if left > 0}

    def due(self, camera: str, now_ns: int) -> CameraWant | None:
        """How it wants a frame of this camera now; None: it does not want this one."""
        want = self._want.cameras.get(camera)
        if want is None:
            return None
        period_ns = int(NS_PER_S / want.max_fps)
        if now_ns < self._due_ns.get(camera, 0) - period_ns // 4:  # the tap paces too, by a clock some ms earlier
            return None
        due_ns = self._due_ns.get(camera, 0) + period_ns
        self._due_ns[camera] = due_ns if now_ns - due_ns < period_ns else now_ns + period_ns
        return want

    def takes_raw(self, camera: str, size: int) -> bool:
        """Whether it wants an unscaled frame of this camera now, and has a place for it.  Counts it as given."""
        left = self._raw_left.get(camera, 0)
        if left <= 0 or self._raw_bytes + size > MAX_RAW_BYTES:
            return False
        self._raw_left[camera] = left - 1
        return True

    # ---- what is sent to it --------------------------------------------------------------------------

    def put(self, message: bytes) -> None:
        """Queue a message that may not be left out.  Raises Gone when too many wait."""
        self._queue.append(message)
        self._queued_bytes += len(message)
        if len(self._queue) > MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES:
            raise Gone(f"{len(self._queue)} messages wait for it")

    def put_raw(self, message: bytes) -> None:
        """Queue an unscaled frame that `takes_raw` has accepted."""
        self._raw.append(message)
        self._raw_bytes += len(message)

    def put_state(self, message: bytes) -> None:
        self._state = message

    def put_frame(self, camera: str, message: bytes) -> None:
        self.replaced += camera in self._frames
        self._frames[camera] = message

    def put_logs(self, ring: LogRing) -> None:
        """Queue the log records that it has not got, if it takes any; while something waits for it they stay there."""
        if not self.takes_logs or self._queue or self._logged >= ring.last:
            return
        records = ring.after(self._logged)
        if records:
            self._logged = records[-1]["number"]
            self.put(encoded({"kind": "log", "records": records}))

    @property
    def awaited(self) -> int:
        """What the feed's selector should wait for."""
        has_more = self._sending or self._queue or self._state or self._frames or self._raw
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if has_more else 0)

    def send(self, now_ns: int) -> None:
        """Send what the socket takes without waiting.  Raises Gone."""
        try:
            while self._sending or self._take_next():
                sent = self.connection.send(self._sending, socket.MSG_NOSIGNAL)
                self._sending = self._sending[sent:]
                self._moved_ns = now_ns
        except BlockingIOError:
            if now_ns - self._moved_ns > STALLED_S * NS_PER_S:
                raise Gone(f"it has taken nothing for {STALLED_S:.0f} s") from None
            return
        except OSError as error:
            raise Gone(str(error)) from None
        self._moved_ns = now_ns

    def _take_next(self) -> bool:
        """Events first, then the state, frames, and unscaled frames."""
        if self._queue:
            message = self._queue.popleft()
            self._queued_bytes -= len(message)
        elif self._state is not None:
            message, self._state = self._state, None
        elif self._frames:
            message = self._frames.pop(next(iter(self._frames)))
        elif self._raw:
            message = self._raw.popleft()
            self._raw_bytes -= len(message)
        else:
            return False
        self._sending = memoryview(message)
        return True

    def leave(self, message: bytes) -> None:
        """Close the connection, with a last message if there is room for it and none is half sent."""
        try:
            if not self._sending:
                self.connection.send(message, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has gone before
        self.close()

    def close(self) -> None:
        self.connection.close()
