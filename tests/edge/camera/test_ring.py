"""The ring: frames arrive whole and in order, everything is bounded, and malformed messages are refused."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.camera import ring
from edge.camera.ring import Hangup, Note, Received, RingReader, RingWriter, open_ring
from edge.errors import CameraError
from edge.host.clock import SystemClock


class Pair:
    """Both ends in one process."""

    def __init__(self, slots: int = 4, *, live: bool = False, number: int = 0, **limits: int) -> None:
        ours, self.theirs, memory = open_ring()
        self.child_memory = os.dup(memory)
        self.reader = RingReader("top", ours, memory, number)
        self.writer = RingWriter(
            self.theirs, self.child_memory, SystemClock(), slots=slots, live=live, number=number, **limits
        )

    def receive(self) -> Received | Note:
        message = self.reader.receive()
        assert message is not None
        return message

    def frames(self) -> list[Received]:
        """All frames that wait; their notes are received and left out."""
        found = []
        while (message := self.reader.receive()) is not None:
            if isinstance(message, Received):
                found.append(message)
        return found

    def close(self) -> None:
        self.reader.close()
        self.theirs.close()
        with contextlib.suppress(OSError):
            os.close(self.child_memory)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture
def live() -> Iterator[Pair]:
    pair = Pair(live=True)
    yield pair
    pair.close()


def picture(value: int, h: int = 8, w: int = 16) -> np.ndarray:
    return np.full((h, w), value, np.uint8)


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_frame_arrives_as_it_was_put(pair):
    """Pixels, stamp, decoding time, label and number arrive unchanged; the first message describes the ring."""
    pixels = np.arange(128, dtype=np.uint8).reshape(8, 16)
    assert pair.writer.put(pixels, 123_456_789_012, 77, "coil 7/ä.png")
    assert pair.receive() == Note("ring", {"slots": 4, "slot_bytes": 4096})
    frame = pair.receive().frame
    assert np.array_equal(frame.pixels, pixels)
    assert (frame.camera, frame.number, frame.grabbed_ns, frame.decode_us) == ("top", 0, 123_456_789_012, 77)
    assert frame.label == "coil 7/ä.png"
    assert pair.reader.receive() is None


def test_pixels_are_a_read_only_view_of_the_ring(pair):
    """No copy is made, and the daemon cannot write into a frame."""
    pair.writer.put(picture(1), 0)
    (received,) = pair.frames()
    assert not received.frame.pixels.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        received.frame.pixels[0, 0] = 2


def test_frames_that_are_out_are_not_overwritten(pair):
    """A slot is filled again only after its release."""
    for value in range(3):
        pair.writer.put(picture(value), 0)
    held = pair.frames()
    for value in range(3, 20):
        pair.writer.put(picture(value), 0)
        (one,) = pair.frames()
        pair.reader.release(one.slot)
    assert [int(r.frame.pixels[0, 0]) for r in held] == [0, 1, 2]
    assert len({r.slot for r in held}) == 3


def test_writer_of_a_recording_waits_for_a_slot(pair):
    """No frame of a recording is ever dropped: the writer waits until a slot is released."""
    for value in range(4):
        pair.writer.put(picture(value), 0)
    held = pair.frames()
    thread = threading.Thread(target=pair.writer.put, args=(picture(4), 0))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    pair.reader.release(held[2].slot)
    thread.join(5)
    (last,) = pair.frames()
    assert (last.slot, last.frame.number) == (held[2].slot, 4)


def test_writer_of_a_live_source_drops_and_counts(live):
    """Without a free slot the frame and its number are lost, and the count comes before the next frame."""
    assert [live.writer.put(picture(v), 0) for v in range(7)] == [True] * 4 + [False] * 3
    messages = []
    while (message := live.reader.receive()) is not None:
        messages.append(message)
    live.reader.release(messages[1].slot)
    assert live.writer.put(picture(9), 0)
    while (message := live.reader.receive()) is not None:
        messages.append(message)
    found = [m.frame.number if isinstance(m, Received) else (m.kind, m.fields.get("count")) for m in messages]
    lost = sum(count for kind, count in (m for m in found if isinstance(m, tuple)) if kind == "discarded")
    assert [m for m in found if isinstance(m, int)] == [0, 1, 2, 3, 7]
    assert lost == 3
    assert isinstance(messages[-1], Received)
    assert live.reader.next_number == 8


def test_drops_are_reported_without_waiting_for_a_frame():
    """A camera that gets no slot for long still reports how many frames it lost."""
    live = Pair(live=True, send_dropped_every_ns=0)
    for value in range(6):
        live.writer.put(picture(value), 0)
    live.frames()
    assert live.reader.next_number == 6
    live.close()


def test_numbers_count_on_from_the_last_process():
    """A restarted camera continues its numbers."""
    pair = Pair(number=41)
    pair.writer.put(picture(1), 0)
    assert [r.frame.number for r in pair.frames()] == [41]
    pair.close()


def test_larger_frame_grows_the_ring_once_all_slots_are_back(pair):
    """Mixed sizes work; frames that were not released stay valid and unchanged."""
    pair.writer.put(picture(5), 0)
    (small,) = pair.frames()
    thread = threading.Thread(target=pair.writer.put, args=(picture(6, 100, 200), 0))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    kept = small.frame.pixels.copy()
    pair.reader.release(small.slot)
    thread.join(5)
    (large,) = pair.frames()
    assert large.frame.pixels.shape == (100, 200)
    assert (large.frame.pixels == 6).all()
    pair.reader.release(large.slot)
    pair.writer.put(picture(7, 3, 5), 0)
    (tiny,) = pair.frames()
    assert tiny.frame.pixels.tolist() == picture(7, 3, 5).tolist()
    assert kept.shape == small.frame.pixels.shape


def test_live_source_drops_while_the_ring_is_to_grow(live):
    """A camera that changes its size never waits for inspection."""
    live.writer.put(picture(1), 0)
    (held,) = live.frames()
    assert not live.writer.put(picture(2, 100, 200), 0)
    assert not live.writer.put(picture(3), 0)
    live.reader.release(held.slot)
    assert live.writer.put(picture(4, 100, 200), 0)
    assert [r.frame.number for r in live.frames()] == [3]


def test_views_outlive_the_ring(pair):
    """A frame taken from a camera that died can still be inspected."""
    pair.writer.put(picture(9), 0)
    (received,) = pair.frames()
    pair.close()
    gc.collect()
    assert (received.frame.pixels == 9).all()
    pair.reader.release(received.slot)


def test_huge_frames_get_fewer_slots():
    """The memory of one ring is bounded; a frame that fits fewer than two times is refused."""
    pair = Pair(slots=11, max_bytes=10 * 4096)
    pair.writer.put(picture(1, 3, 4096), 0)
    assert pair.receive() == Note("ring", {"slots": 3, "slot_bytes": 3 * 4096})
    (one,) = pair.frames()
    pair.reader.release(one.slot)
    with pytest.raises(CameraError, match="too large"):
        pair.writer.put(picture(1, 6, 4096), 0)
    pair.close()


def test_slot_freed_last_is_filled_first(pair):
    """With a consumer that keeps up, the memory of one slot is touched and no more."""
    seen = set()
    for value in range(20):
        pair.writer.put(picture(value), 0)
        (one,) = pair.frames()
        seen.add(one.slot)
        pair.reader.release(one.slot)
    assert len(seen) == 1


def test_long_labels_are_cut_at_the_front(pair):
    """The end of a path identifies it best; a message stays small."""
    pair.writer.put(picture(1), 0, 0, "ä" * 5000 + "/end.png")
    (one,) = pair.frames()
    assert one.frame.label.endswith("ä/end.png")
    assert len(one.frame.label) <= ring.LABEL_BYTES


def test_names_that_are_no_text_do_not_break_a_message(pair):
    """File names are bytes; those that are not UTF-8 become readable escapes."""
    pair.writer.put(picture(1), 0, 0, os.fsdecode(b"bad\xff.png"))
    assert pair.frames()[0].frame.label == "bad\\xff.png"
    pair.writer.send_note("discarded", count=1, reason="unreadable", detail=ring.cut("\U0001f4a9\udcff" * 5000))
    assert pair.receive().kind == "discarded"


def test_stop_and_hangup_end_the_writer(pair):
    """Whether the daemon sends stop or dies, the child leaves its wait."""
    pair.reader.stop()
    with pytest.raises(Hangup):
        pair.writer.put(picture(1), 0)
    other = Pair()
    for value in range(4):
        other.writer.put(picture(value), 0)
    threading.Timer(0.05, other.reader.close).start()
    with pytest.raises(Hangup):
        other.writer.put(picture(5), 0)
    with pytest.raises(Hangup):
        other.writer.send_note("ended")
    other.close()


def test_messages_of_a_dead_child_are_still_read(pair):
    """The messages that it sent come first, then the hangup, however often the reader asks."""
    pair.writer.put(picture(3), 0)
    pair.theirs.close()
    assert [r.frame.number for r in [m for m in (pair.receive(), pair.receive()) if isinstance(m, Received)]] == [0]
    for _ in range(2):
        with pytest.raises(Hangup):
            pair.reader.receive()


def test_last_frames_arrive_although_the_child_left_releases_unread(pair):
    """Linux then reports a reset ahead of the messages that are still queued: it is not the end."""
    for value in range(3):
        pair.writer.put(picture(value), 0)
    pair.receive()
    pair.reader.release(pair.receive().slot)
    pair.theirs.close()
    assert [r.frame.number for r in (pair.receive(), pair.receive())] == [1, 2]
    with pytest.raises(Hangup):
        pair.reader.receive()


def test_releases_to_a_stopped_child_are_kept_and_bounded():
    """A child that does not empty its socket cannot block or bloat the daemon; later it gets every slot."""
    pair = Pair(slots=259, live=True)
    for _ in range(259):
        pair.writer.put(picture(1), 0)
    held = pair.frames()
    assert len(held) == 259
    for _ in range(50):  # far more than there are slots, to fill any buffer
        for one in held:
            pair.reader.release(one.slot)
        assert len(pair.reader._freed) <= 259 * 50 * 2
    pair.close()


def test_memory_cannot_be_shrunk_under_the_daemon(pair):
    """Without the seal, a child that shrank it would kill the daemon by SIGBUS."""
    pair.writer.put(picture(1), 0)
    with pytest.raises(PermissionError):
        os.ftruncate(pair.child_memory, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(pair.child_memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def frame_message(slot=0, h=8, w=16, number=0) -> bytes:
    return ring._FRAME.pack(b"F", slot, h, w, 0, number, 0)


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        b"F",
        b"F" * 20,
        b"{",
        b"[]",
        b"{}",
        b"null",
        b'"kind"',
        b'{"kind": 3}',
        b'{"kind": []}',
        b'{"kind": "dance"}',
        b"\xff\xfe{",
        b"[" * 8000,
        b'{"kind": "discarded"}',
        b'{"kind": "discarded", "count": -1, "reason": "no_slot"}',
        b'{"kind": "discarded", "count": true}',
        b'{"kind": "discarded", "count": 1e9}',
        b'{"kind": "ring", "slots": 0, "slot_bytes": 4096}',
        b'{"kind": "ring", "slots": 4, "slot_bytes": 1000000}',
        b'{"kind": "ring", "slots": 99999999, "slot_bytes": 99999999}',
        b" " * 60_000,
        frame_message(slot=4),
        frame_message(slot=65535),
        frame_message(h=0),
        frame_message(h=4096, w=4096),
        frame_message(h=2**31, w=2**31),
        frame_message(number=1),
        frame_message(number=2**63),
    ],
    ids=range(28),
)
def test_malformed_message_of_a_dying_child_is_a_camera_error(message):
    """Whatever bytes come, the daemon sees CameraError and nothing else."""
    pair = Pair()
    pair.writer._has_slot()
    assert pair.receive().kind == "ring"
    pair.theirs.send(message)
    with pytest.raises(CameraError):
        pair.reader.receive()
    pair.close()


@given(st.binary(max_size=200) | st.tuples(*[st.integers(0, 2**n - 1) for n in (16, 32, 32, 32, 64)]))
@settings(max_examples=300, deadline=None)
def test_no_message_can_break_the_reader(message):
    """Any bytes, and any numbers in the form of a frame, end in a frame within the ring or in CameraError."""
    pair = Pair()
    pair.writer._has_slot()
    pair.receive()
    data = message if isinstance(message, bytes) else ring._FRAME.pack(b"F", *message, 0)
    pair.theirs.send(data)
    try:
        received = pair.reader.receive()
        assert isinstance(received, Note) or received.frame.pixels.size <= 4096
    except (CameraError, Hangup):
        pass
    pair.close()


def test_frame_before_its_ring_and_a_slot_sent_twice_are_refused(pair):
    """A child can only send slots that it owns."""
    pair.theirs.send(frame_message())
    with pytest.raises(CameraError, match="slot"):
        pair.reader.receive()
    pair.writer._has_slot()
    pair.receive()
    pair.theirs.send(frame_message())
    pair.receive()
    pair.theirs.send(frame_message(number=1))
    with pytest.raises(CameraError, match="slot 0"):
        pair.reader.receive()
    pair.theirs.send(json.dumps({"kind": "ring", "slots": 2, "slot_bytes": 4096}).encode())
    with pytest.raises(CameraError, match="in use"):
        pair.reader.receive()


def test_nothing_is_left_open():
    """Hundreds of rings, with growth and views, leave no descriptor and no mapping."""
    pair = Pair()
    pair.close()
    before = open_descriptors()
    for n in range(300):
        pair = Pair()
        pair.writer.put(picture(n % 256), 0)
        (one,) = pair.frames()
        pair.reader.release(one.slot)
        pair.writer.put(picture(n % 256, 80, 80), 0)
        (one,) = pair.frames()
        pair.close()
        pair.close()
        pair.writer._mapped = None
        del one
    assert open_descriptors() == before
    assert "defectd-ring" not in Path("/proc/self/maps").read_text()


def test_socket_keeps_messages_apart():
    """A packet arrives whole or not at all, so a half-written message cannot be read."""
    ours, theirs, memory = open_ring()
    assert ours.type == socket.SOCK_SEQPACKET
    ours.close()
    theirs.close()
    os.close(memory)
