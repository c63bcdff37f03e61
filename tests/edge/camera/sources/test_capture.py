"""Live captures: backlog, slow reads and the end of a stream."""

from __future__ import annotations

import numpy as np
import pytest

from edge.camera.sources.capture import MAX_BACKLOG, LiveCapture
from edge.camera.sources.contract import SourceInfo
from edge.errors import CameraError, EndOfRecording


class Script:
    """A capture whose grabs take the given times; it moves the clock itself."""

    def __init__(self, waits_ms: list[float], now: list[int]) -> None:
        self.waits_ms = waits_ms
        self.now = now
        self.shown = -1

    def grab(self) -> bool:
        if not self.waits_ms:
            return False
        self.now[0] += round(self.waits_ms.pop(0) * 1e6)
        self.shown += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6, 3), self.shown % 256, np.uint8)

    def release(self) -> None:
        pass


class HandClock:
    def __init__(self, now: list[int]) -> None:
        self.now = now

    def monotonic_ns(self) -> int:
        return self.now[0]

    def wall_ns(self) -> int:
        return 0


def live(waits_ms: list[float], timeout_s: float = 2.0) -> LiveCapture:
    now = [0]
    return LiveCapture(Script(waits_ms, now), "cam", SourceInfo("FFMPEG", 6, 4, 10.0), timeout_s, HandClock(now))


def test_backlog_after_open_is_discarded_and_counted():
    """Pictures that come without a wait are old; the first one after a wait is shown."""
    source = live([1, 0, 0, 95, 100])
    source.discard_backlog()
    assert [(one.count, one.reason) for one in source.take_lost()] == [(3, "stale")]
    assert [source.read().pixels[0, 0] for _ in range(2)] == [3, 4]


def test_no_backlog_is_nothing_lost():
    """A stream that starts with a wait loses no picture."""
    source = live([800, 100])
    source.discard_backlog()
    assert source.take_lost() == ()
    assert source.read().pixels[0, 0] == 0


def test_endless_backlog_is_shown_after_all():
    """A recording behind a URL never makes the reader wait: after a limit its pictures are shown."""
    source = live([1.0] * 1000)
    source.discard_backlog()
    assert source.take_lost()[0].count == MAX_BACKLOG
    assert source.read().pixels[0, 0] == MAX_BACKLOG % 256


def test_slow_read_has_failed_even_if_it_returns_ok():
    """After a timeout FFmpeg returns what its decoder still held."""
    source = live([100, 2000])
    source.read()
    with pytest.raises(CameraError, match="no picture within 2 s"):
        source.read()


def test_stopped_stream_is_an_error_not_an_end():
    """A live source has no end."""
    source = live([100])
    source.read()
    with pytest.raises(CameraError, match="stopped") as caught:
        source.read()
    assert not isinstance(caught.value, EndOfRecording)
