"""Frames from one camera process to the daemon: a bounded ring in anonymous shared memory, and a socket beside it.

The pixels lie in a memfd that both sides map; the kernel frees it with the last process that holds it. Messages on a
SOCK_SEQPACKET pair decide who may touch a slot, so the two sides never write the same word of memory:

    child -> daemon   frame (its slot, size, number and time), or a JSON note
    daemon -> child   slots that are free again, or stop

The child owns the list of free slots. The daemon trusts no message of the child: a dying process may write anything.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import socket
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import CameraError
from edge.frame import Frame, Gray
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock
from edge.host.text import one_line

MAX_RING_BYTES = 512 << 20
"""Maximum size of one ring: for huge frames there are fewer slots instead."""
MESSAGE_BYTES = 8192
LABEL_BYTES = 1024
TEXT_CHARACTERS = 500
"""Of one text in a note; JSON needs at most 12 bytes for each."""
SEND_DROPPED_EVERY_NS = 200 * NS_PER_MS
"""How often losses are reported while no frame follows them."""
MAX_NUMBER = 1 << 62

_FRAME = struct.Struct("<cxHIIIQq")
"""Kind, slot, height, width, decode_us, number, grabbed_ns; the label follows in UTF-8."""
_SLOT = struct.Struct("<H")
_STOP = b"S"
_FREE = b"R"

NOTES = frozenset(("started", "opened", "ring", "discarded", "ended", "error"))


@dataclass(frozen=True, slots=True)
class Note:
    """A message of the child other than a frame.  kind: one of NOTES."""

    kind: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """A frame as it came out of the ring, and the slot that holds it."""

    frame: Frame
    slot: int


class Hangup(Exception):
    """The other side closed its end, or is gone."""


def open_ring() -> tuple[socket.socket, socket.socket, int]:
    """The daemon's end, the child's end, and the memory; the caller closes all three."""
    memory = os.memfd_create("defectd-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # A child that shrank the memory would kill the daemon by SIGBUS at its next access.
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        os.close(memory)
        raise
    return ours, theirs, memory


class RingReader:
    """The daemon's end.  Not thread-safe: the supervisor's lock guards it."""

    def __init__(self, camera: str, link: socket.socket, memory: int, next_number: int = 0) -> None:
        """Takes over `link` and `memory`.  next_number: of the first frame."""
        self._camera = camera
        self._link = link
        self._link.setblocking(False)
        self._memory = memory
        self._mapped: mmap.mmap | None = None
        self._slots = 0
        self._slot_bytes = 0
        self._freed = bytearray()
        self.outstanding: set[int] = set()
        """Slots whose frames were received and not yet released."""
        self.next_number = next_number
        self.closed = False

    def fileno(self) -> int:
        return self._link.fileno()

    def receive(self) -> Received | Note | None:
        """The next message, None if none waits.

        The pixels of a frame are a read-only view into the ring, valid until `release`; the memory itself lives as
        long as a view does.  Raises Hangup at the end, CameraError for a message that no healthy child sends.
        """
        try:
            data, flags = self._read()
        except BlockingIOError:
            return None
        except OSError as error:
            raise Hangup(str(error)) from None
        if not data:
            raise Hangup("closed")
        if flags & socket.MSG_TRUNC:
            raise self._malformed("a message is too long")
        if data[:1] == b"F":
            return self._frame(data)
        return self._note(data)

    def _read(self) -> tuple[bytes, int]:
        try:
            data, _, flags, _ = self._link.recvmsg(MESSAGE_BYTES)
        except ConnectionResetError:
            # A child that ends before it reads our releases causes this once, ahead of its own last messages.
            data, _, flags, _ = self._link.recvmsg(MESSAGE_BYTES)
        return data, flags

    def release(self, slot: int) -> None:
        """Give a slot back to the child.  Never blocks; harmless after `close`."""
        self.outstanding.discard(slot)
        if not self.closed:
            self._freed += _SLOT.pack(slot)
            self.flush()

    def flush(self) -> None:
        """Send the releases that a full socket held back: a stopped child does not empty it."""
        if not self._freed or self.closed:
            return
        try:
            self._link.send(_FREE + self._freed)
            self._freed.clear()
        except BlockingIOError:
            pass  # the slots stay on the list, which is no longer than the ring
        except OSError:
            self._freed.clear()  # the child is gone: `receive` raises

    def stop(self) -> None:
        """Ask the child to end."""
        try:
            self._link.send(_STOP)
        except OSError:
            pass  # the child is gone or stuck: the supervisor's deadline decides

    def close(self) -> None:
        """Frames that were not released stay valid: their views hold the memory."""
        if not self.closed:
            self.closed = True
            self._link.close()
            os.close(self._memory)
            self._mapped = None

    def _frame(self, data: bytes) -> Received:
        if len(data) < _FRAME.size:
            raise self._malformed("a frame message is too short")
        _, slot, h, w, decode_us, number, grabbed_ns = _FRAME.unpack_from(data)
        if self._mapped is None or slot >= self._slots or slot in self.outstanding:
            raise self._malformed(f"slot {slot} is not the child's to send")
        if not 0 < h * w <= self._slot_bytes:
            raise self._malformed(f"{w} x {h} pixels do not fit a slot")
        if number != self.next_number:
            raise self._malformed(f"frame {number} follows {self.next_number - 1}")
        pixels: Gray = np.frombuffer(self._mapped, np.uint8, h * w, slot * self._slot_bytes).reshape(h, w)
        label = one_line(data[_FRAME.size :], LABEL_BYTES, keep_end=True)
        self.outstanding.add(slot)
        self.next_number += 1
        return Received(Frame(self._camera, number, pixels, grabbed_ns, decode_us, label), slot)

    def _note(self, data: bytes) -> Note:
        try:
            fields = json.loads(data)
            kind = fields.pop("kind")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            raise self._malformed("a message is neither a frame nor a note") from None
        if not isinstance(kind, str) or kind not in NOTES:
            raise self._malformed("a note is of an unknown kind")
        if kind == "ring":
            self._remap(_whole(fields, "slots"), _whole(fields, "slot_bytes"))
        if kind == "discarded":
            count = _whole(fields, "count")
            if fields.get("reason") == "no_slot":
                self.next_number += count
        return Note(kind, {key: one_line(value) if isinstance(value, str) else value for key, value in fields.items()})

    def _remap(self, slots: int, slot_bytes: int) -> None:
        size = slots * slot_bytes
        if self.outstanding:
            raise self._malformed("the ring changed under frames in use")
        if not 0 < size <= MAX_RING_BYTES or size > os.fstat(self._memory).st_size:
            raise self._malformed("the ring is larger than its memory")
        try:
            # The old mapping is freed with the last view into it.
            self._mapped = mmap.mmap(self._memory, size, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise CameraError(f"the ring of {self._camera} cannot be mapped: {error}") from None
        self._slots, self._slot_bytes = slots, slot_bytes

    def _malformed(self, what: str) -> CameraError:
        return CameraError(f"the camera process sent nonsense: {what}")


def _whole(fields: dict[str, Any], key: str) -> int:
    value = fields.get(key)
    if type(value) is not int or not 0 < value < MAX_NUMBER:
        raise CameraError(f"the camera process sent nonsense: {key} is no count")
    return value


class RingWriter:
    """The child's end.  One thread."""

    def __init__(
        self,
        link: socket.socket,
        memory: int,
        clock: Clock,
        *,
        slots: int,
        live: bool,
        number: int = 0,
        max_bytes: int = MAX_RING_BYTES,
        send_dropped_every_ns: int = SEND_DROPPED_EVERY_NS,
    ) -> None:
        """live: drop and count when no slot is free, instead of waiting.  number: of the first frame.

        max_bytes: of the whole ring.  send_dropped_every_ns: while no frame follows the drops.
        """
        self._link = link
        self._memory = memory
        self._clock = clock
        self._wanted_slots = slots
        self._max_bytes = max_bytes
        self._send_dropped_every_ns = send_dropped_every_ns
        self._live = live
        self._number = number
        self._mapped: mmap.mmap | None = None
        self._bytes = 0
        self._slots = 0
        self._slot_bytes = 0
        self._need_bytes = 1
        # The slot freed last is filled next: it is in the cache, and pages that are never needed are never touched.
        self._free: list[int] = []
        self._dropped = 0
        self._sent_dropped_ns = 0

    def receive_releases(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for a message of the daemon.  Raises Hangup on stop, and when the daemon is gone.

        Returns whether a message came.
        """
        if not select.select([self._link], [], [], timeout_s)[0]:
            return False
        try:
            data = self._link.recv(MESSAGE_BYTES)
        except OSError as error:
            raise Hangup(str(error)) from None
        if not data.startswith(_FREE):
            raise Hangup("stop")
        self._free += [slot for (slot,) in _SLOT.iter_unpack(data[1:])]
        return True

    def sleep_until(self, due_ns: int) -> None:
        """Sleep until a moment of CLOCK_MONOTONIC, and receive releases meanwhile.  Raises Hangup."""
        while (left_ns := due_ns - self._clock.monotonic_ns()) > 0:
            self.receive_releases(left_ns / NS_PER_S)

    def put(self, pixels: Gray, grabbed_ns: int, decode_us: int = 0, label: str = "") -> bool:
        """Deliver one frame.  pixels: (H, W) uint8, copied.

        Returns False if a live source dropped it because no slot was free; other sources wait here for a slot.
        Raises Hangup, and CameraError if the frame is too large for any ring.
        """
        self._need_bytes = max(self._need_bytes, pixels.size)
        while self.receive_releases(0.0):
            pass
        while not self._has_slot():
            if self._live:
                self._drop()
                return False
            self.receive_releases(3600.0)
        self.send_dropped()
        slot = self._free.pop()
        h, w = pixels.shape
        assert self._mapped is not None
        np.frombuffer(self._mapped, np.uint8, h * w, slot * self._slot_bytes).reshape(h, w)[:] = pixels
        head = _FRAME.pack(b"F", slot, h, w, min(decode_us, 0xFFFFFFFF), self._number, grabbed_ns)
        # A cut may leave half a character at the front: the reader makes it readable.
        self._send(head + one_line(label, LABEL_BYTES, keep_end=True).encode()[-LABEL_BYTES:])
        self._number += 1
        return True

    def send_note(self, kind: str, **fields: Any) -> None:
        """kind: one of NOTES.  Raises Hangup."""
        self._send(json.dumps({"kind": kind, **fields}).encode("ascii"))

    def send_dropped(self) -> None:
        """Report the drops since the last report; before the next frame, so that the numbers add up in the daemon."""
        if self._dropped:
            self.send_note("discarded", count=self._dropped, reason="no_slot")
            self._dropped = 0
            self._sent_dropped_ns = self._clock.monotonic_ns()

    def _drop(self) -> None:
        self._dropped += 1
        self._number += 1
        if self._clock.monotonic_ns() - self._sent_dropped_ns >= self._send_dropped_every_ns:
            self.send_dropped()

    def _has_slot(self) -> bool:
        """Whether a slot is free that is large enough; grows the ring once all slots are back."""
        if self._need_bytes <= self._slot_bytes:
            return bool(self._free)
        if len(self._free) < self._slots:
            return False
        page = mmap.PAGESIZE
        slot_bytes = -(-self._need_bytes // page) * page
        slots = min(self._wanted_slots, self._max_bytes // slot_bytes)
        if slots < 2:
            raise CameraError(f"a frame of {self._need_bytes} bytes is too large: two must fit into {self._max_bytes}")
        try:
            self._bytes = max(self._bytes, slots * slot_bytes)  # the seal forbids shrinking
            os.ftruncate(self._memory, self._bytes)
            self._mapped = mmap.mmap(self._memory, slots * slot_bytes)
        except OSError as error:
            raise CameraError(f"no memory for {slots} frames of {slot_bytes} bytes: {error.strerror}") from None
        self._slots, self._slot_bytes, self._free = slots, slot_bytes, list(range(slots))
        self.send_note("ring", slots=slots, slot_bytes=slot_bytes)
        return True

    def _send(self, data: bytes) -> None:
        try:
            self._link.send(data)
        except OSError as error:
            raise Hangup(str(error)) from None


def cut(text: str) -> str:
    """Make a text fit into a note."""
    return one_line(text, TEXT_CHARACTERS)
