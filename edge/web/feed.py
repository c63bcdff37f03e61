"""The page's end of the feed: what the daemon sends of its cameras and events, kept for all viewers.

It wants frames only while somebody looks, so that the daemon makes no picture for nobody. When the daemon is gone it
tries again, with growing delays.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge.delivery.page.framing import Decoder, FramingError, Message, encoded
from edge.delivery.page.messages import CameraWant, Want
from edge.delivery.page_life import PageSign
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock
from edge.host.log_throttle import LogThrottle
from edge.host.unix_address import short_name
from edge.web.log_lines import LogLines

log = logging.getLogger(__name__)

VIEWER_S: Final = 3.0
"""How long a viewer's wish for a camera holds; each request for a frame renews it."""
SIGN_S: Final = 0.8
"""Between two signs of life and wants: the daemon expects one each second."""
READ_BYTES: Final = 1 << 18
FRESH_S: Final = 1.0
"""An older frame or state is not given to a viewer who asks for the newest."""
MAX_EVENTS: Final = 64
"""That wait for one viewer; it reads the others in the outbox."""
MAX_RAW_FRAMES: Final = 600
MAX_RAW_WAITING: Final = 4
"""Unscaled frames of a camera on their way or in memory: who takes them sets the pace."""
MAX_HEADER_CHARACTERS: Final = 6000
"""Of a frame's description in an HTTP header: proxies refuse long ones."""
SEVERITIES: Final = ("critical", "major", "minor")
MAX_FPS: Final = 5.0
MAX_LONGEST_PX: Final = 1600


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a camera, as every viewer gets it.  text: its description, ASCII JSON."""

    epoch: str
    number: int
    text: str
    jpeg: bytes
    received_ns: int

    @property
    def key(self) -> str:
        return f"{self.epoch}.{self.number}"


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One frame as the camera gave it.  pixels: height x width gray bytes, row by row."""

    number: int
    size_px: tuple[int, int]
    pixels: bytes


@dataclass(eq=False, slots=True)
class Subscription:
    """Events for one viewer, oldest first."""

    events: deque[tuple[int, Mapping[str, Any]]] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    """`seq` and payload; when the viewer is slow the oldest leave: a gap in `seq` shows that."""


class _Change:
    """Wakes all who wait for something."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.count = 0

    def announce(self) -> None:
        self.count += 1
        woken, self._event = self._event, asyncio.Event()
        woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """False when nothing came within that time."""
        try:
            await asyncio.wait_for(self._event.wait(), max(0.0, timeout_s))
        except TimeoutError:
            return False
        return True


@dataclass(slots=True)
class _Wish:
    max_fps: float
    longest_px: int
    until_ns: int


@dataclass(slots=True)
class _Taking:
    """Unscaled frames for one taker.  unasked: how many the daemon has still to be asked for."""

    frames: asyncio.Queue[RawFrame]
    unasked: int = 0


class Feed:
    """Owned by the page process; all methods run on its loop."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        sign: Callable[[int], PageSign],
        *,
        on_state: Callable[[Mapping[str, Any]], None] = lambda _state: None,
        backoff: Backoff | None = None,
    ) -> None:
        """path: of the daemon's socket.  sign: this process's sign of life, for so many viewers.

        on_state: takes each state object.
        """
        self._path = path
        self._clock = clock
        self._sign = sign
        self._on_state = on_state
        self._backoff = Backoff(0.2, 3.0) if backoff is None else backoff
        self._throttle = LogThrottle(log)
        self.logs = LogLines()
        self._hello: Mapping[str, Any] | None = None
        self._state: tuple[int, bytes, Mapping[str, Any]] | None = None
        self._frames: dict[str, Frame] = {}
        self._wishes: dict[str, _Wish] = {}
        self._raw: dict[str, _Taking] = {}
        """By camera."""
        self._subscriptions: set[Subscription] = set()
        self._wants_changed = asyncio.Event()
        self._changed = _Change()
        self._frame_changed: dict[str, _Change] = {}

    # ---- what viewers get ------------------------------------------------------------------------

    @property
    def hello(self) -> Mapping[str, Any] | None:
        """What the daemon said at the connection: node, version, epoch, last_seq; None while it is not connected."""
        return self._hello

    @property
    def viewers(self) -> int:
        return len(self._subscriptions)

    @property
    def cameras(self) -> set[str]:
        """The cameras of the newest state."""
        known = () if self._state is None else self._state[2].get("cameras") or ()
        return {str(camera.get("name")) for camera in known}

    async def hello_within(self, timeout_s: float) -> Mapping[str, Any] | None:
        """`hello`, waited for at most that long."""
        end_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        while self._hello is None and await self._changed.wait(self._left_s(end_ns)):
            pass
        return self._hello

    async def state(self, timeout_s: float, after_ns: int = 0) -> tuple[int, bytes, Mapping[str, Any]] | None:
        """The newest state that came after that one: when it came (monotonic), its JSON, its fields.

        None when none came within the time; one that is no longer fresh does not count.
        """
        end_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        while True:
            found, now_ns = self._state, self._clock.monotonic_ns()
            if found is not None and found[0] > after_ns and now_ns - found[0] <= FRESH_S * NS_PER_S:
                return found
            if not await self._changed.wait(self._left_s(end_ns)):
                return None

    async def frame(
        self,
        camera: str,
        after: str | None,
        timeout_s: float,
        *,
        max_fps: float = MAX_FPS,
        longest_px: int = MAX_LONGEST_PX,
    ) -> Frame | None:
        """The newest frame of a camera that has another key than `after`, waited for at most that long."""
        self._want(camera, min(max_fps, MAX_FPS), min(longest_px, MAX_LONGEST_PX))
        end_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        while True:
            found, now_ns = self._frames.get(camera), self._clock.monotonic_ns()
            if found is not None and found.key != after and now_ns - found.received_ns <= FRESH_S * NS_PER_S:
                return found
            if not await self._frame_change(camera).wait(self._left_s(end_ns)):
                return None

    async def raw_frames(self, camera: str, count: int, timeout_s: float) -> AsyncIterator[RawFrame]:
        """The next frames of a camera as it gave them; fewer when the time is over.

        One at a time for each camera.  Raises ValueError for more than MAX_RAW_FRAMES, or while another one asks.
        """
        if not 0 < count <= MAX_RAW_FRAMES or camera in self._raw:
            raise ValueError("somebody takes frames of this camera" if camera in self._raw else "too many frames")
        taking = self._raw[camera] = _Taking(asyncio.Queue(MAX_RAW_WAITING))
        end_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        try:
            asked = 0
            for taken in range(count):
                if asked < count and asked - taken < MAX_RAW_WAITING:  # no more on their way than may wait
                    taking.unasked = min(count, taken + MAX_RAW_WAITING) - asked
                    asked += taking.unasked
                    self._wants_changed.set()
                try:
                    yield await asyncio.wait_for(taking.frames.get(), self._left_s(end_ns))
                except TimeoutError:
                    return
        finally:
            del self._raw[camera]

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """Events for one viewer, from now on."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @property
    def changes(self) -> int:
        """How many states, events and ends of the connection there were."""
        return self._changed.count

    async def changed(self, seen: int, timeout_s: float) -> None:
        """Wait until there were more `changes` than so many; at most that long."""
        if self._changed.count == seen:
            await self._changed.wait(timeout_s)

    def _left_s(self, end_ns: int) -> float:
        return max(0.0, (end_ns - self._clock.monotonic_ns()) / NS_PER_S)

    def _want(self, camera: str, max_fps: float, longest_px: int) -> None:
        now_ns = self._clock.monotonic_ns()
        until_ns = now_ns + int(VIEWER_S * NS_PER_S)
        known = self._wishes.get(camera)
        if known is None or known.until_ns < now_ns:
            self._wishes[camera] = _Wish(max_fps, longest_px, until_ns)
            self._wants_changed.set()
            return
        known.until_ns = until_ns
        if max_fps > known.max_fps or longest_px > known.longest_px:
            known.max_fps, known.longest_px = max(max_fps, known.max_fps), max(longest_px, known.longest_px)
            self._wants_changed.set()

    def _frame_change(self, camera: str) -> _Change:
        return self._frame_changed.setdefault(camera, _Change())

    # ---- the connection --------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        while True:
            try:
                await self._serve()
            except* (OSError, FramingError, EOFError) as group:
                now_ns = self._clock.monotonic_ns()
                self._throttle.write(logging.INFO, f"the feed of the daemon: {_reason(group)}", now_ns)
            self._forget()
            await asyncio.sleep(self._backoff.next_s())

    async def _serve(self) -> None:
        with short_name(self._path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(reader))
                group.create_task(self._send(writer))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        while data := await reader.read(READ_BYTES):
            for message in decoder.feed(data):
                self._take(message)
        raise EOFError("it has ended")

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Show that this process lives, and renew what the viewers want."""
        while True:
            self._wants_changed.clear()
            writer.write(encoded(self._sign(self.viewers).header()))
            writer.write(encoded(self._take_want().header()))
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wants_changed.wait(), SIGN_S)

    def _take_want(self) -> Want:
        now_ns = self._clock.monotonic_ns()
        self._wishes = {camera: wish for camera, wish in self._wishes.items() if wish.until_ns >= now_ns}
        cameras = {camera: CameraWant(wish.max_fps, wish.longest_px) for camera, wish in self._wishes.items()}
        raw = {camera: taking.unasked for camera, taking in self._raw.items() if taking.unasked}
        for taking in self._raw.values():
            taking.unasked = 0
        return Want(cameras, raw)

    def _take(self, message: Message) -> None:
        """Keep one message.  Raises FramingError for one that is not of this protocol."""
        header, now_ns = message.header, self._clock.monotonic_ns()
        try:
            match message.kind:
                case "hello":
                    self._hello = header
                    self._backoff.reset()
                case "state":
                    state = header["state"]
                    self._state = now_ns, json.dumps(state, ensure_ascii=False).encode(), state
                    self._on_state(state)
                case "frame":
                    self._take_frame(header, message.body, now_ns)
                    return
                case "raw":
                    self._take_raw(header, message.body)
                    return
                case "event":
                    seq, payload = int(header["seq"]), header["payload"]
                    for subscription in self._subscriptions:
                        subscription.events.append((seq, payload))
                case "log":
                    self.logs.take("" if self._hello is None else str(self._hello.get("epoch")), header["records"])
                    return
                case "bye":
                    raise EOFError(str(header.get("reason")))
        except (KeyError, TypeError, ValueError) as error:
            raise FramingError(f"a message of the feed: {error!r}") from None
        self._changed.announce()

    def _take_frame(self, header: Mapping[str, Any], jpeg: bytes, now_ns: int) -> None:
        epoch = "0" if self._hello is None else str(self._hello.get("epoch"))
        camera = str(header["camera"])
        described = {"epoch": epoch, **{key: value for key, value in header.items() if key != "kind"}}
        self._frames[camera] = Frame(epoch, int(header["number"]), frame_text(described), jpeg, now_ns)
        self._frame_change(camera).announce()

    def _take_raw(self, header: Mapping[str, Any], pixels: bytes) -> None:
        taking = self._raw.get(str(header["camera"]))
        if taking is None:
            return  # who wanted it has gone
        width, height = header["size_px"]
        with suppress(asyncio.QueueFull):
            taking.frames.put_nowait(RawFrame(int(header["number"]), (int(width), int(height)), pixels))

    def _forget(self) -> None:
        """The connection has ended: what it sent is no longer what happens now."""
        self._hello = None
        self._state = None
        self._frames.clear()
        self._changed.announce()


def frame_text(described: Mapping[str, Any], limit: int = MAX_HEADER_CHARACTERS) -> str:
    """A frame's description as ASCII JSON that fits a header: of many regions the worst, and how many were left out."""
    text = json.dumps({**described, "regions_left_out": 0}, separators=(",", ":"))
    regions = list(described.get("regions") or ())
    if len(text) <= limit or not regions:
        return text
    regions.sort(key=_rank)
    kept: list[Any] = []
    size = len(json.dumps({**described, "regions": [], "regions_left_out": len(regions)}, separators=(",", ":")))
    for region in regions:
        size += len(json.dumps(region, separators=(",", ":"))) + 1
        if size > limit:
            break
        kept.append(region)
    return json.dumps(
        {**described, "regions": kept, "regions_left_out": len(regions) - len(kept)}, separators=(",", ":")
    )


def _rank(region: Mapping[str, Any]) -> tuple[int, float]:
    severity = region.get("severity")
    at = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return at, -float(region.get("confidence") or 0.0)


def _reason(group: BaseExceptionGroup[Exception]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
