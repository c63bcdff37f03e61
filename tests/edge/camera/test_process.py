"""The camera process: its pace, its signals, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera import process
from edge.camera.process import Job, play
from edge.camera.ring import Hangup, Note, Received, RingReader, open_ring
from edge.camera.sources.contract import Lost, Picture, SourceInfo, SourceSpec
from edge.errors import CameraError, EndOfRecording

MS = 1_000_000


class Sleeper:
    """Clock and ring in one: time passes only while something waits for it, or where the test moves it."""

    def __init__(self) -> None:
        self.now = 0
        self.put_at_ms: list[float] = []
        self.notes: list[tuple[str, dict[str, object]]] = []

    def monotonic_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.now

    def sleep_until(self, due_ns: int) -> None:
        assert due_ns >= self.now
        self.now = due_ns

    def send_note(self, kind: str, **fields: object) -> None:
        self.notes.append((kind, fields))

    def put(self, _pixels: object, grabbed_ns: int, _decode_us: int, _label: str) -> bool:
        assert grabbed_ns == self.now
        self.put_at_ms.append(self.now / MS)
        return True


class Costs:
    """A recording whose pictures take the given times to read."""

    actual = SourceInfo("costs")

    def __init__(self, clock: Sleeper, costs_ms: list[float], period_s: float) -> None:
        self.clock, self.costs_ms, self.period_s = clock, costs_ms, period_s
        self.lost = [Lost(2, "unreadable", "two files")]

    def read(self) -> Picture:
        if not self.costs_ms:
            raise EndOfRecording("over")
        self.clock.now += round(self.costs_ms.pop(0) * MS)
        return Picture(np.zeros((2, 2), np.uint8))

    def take_lost(self) -> tuple[Lost, ...]:
        lost, self.lost = tuple(self.lost), []
        return lost

    def close(self) -> None:
        pass


def played(costs_ms: list[float], period_ms: float, burst: int = 3) -> list[float]:
    clock = Sleeper()
    with pytest.raises(EndOfRecording):
        play(Costs(clock, costs_ms, period_ms / 1000), clock, clock, burst=burst)
    assert clock.notes == [("discarded", {"count": 2, "reason": "unreadable", "detail": "two files"})]
    return clock.put_at_ms


def test_pace_does_not_drift():
    """A picture that takes less than the period to read comes on schedule."""
    assert played([1, 7, 2, 9, 3, 1], 10) == [1, 10, 20, 30, 40, 50]


def test_pace_catches_up_after_a_late_picture():
    """The pictures that were due meanwhile follow at once, then the schedule is the old one."""
    assert played([1, 25, 1, 1, 1, 1], 10) == [1, 26, 27, 30, 40, 50]


def test_pace_forgets_what_is_too_late():
    """After a long stop comes a short burst and a new schedule, not a flood."""
    times = played([1, 1000, 1, 1, 1, 1, 1, 1], 10, burst=3)
    assert times[1] == 1001
    assert sum(t < 1010 for t in times) <= 3 + 3
    assert times[-1] - times[-2] == pytest.approx(10)


def test_unpaced_recording_does_not_wait():
    """With a period of 0 each picture is delivered as soon as it is read."""
    assert played([1, 2, 3], 0) == [1, 3, 6]


def test_job_survives_json():
    """The child gets the job that the supervisor sent."""
    job = Job("top", SourceSpec("strip:", fps=5, live=True), 11, 42)
    assert Job.from_json(job.to_json()) == job
    for text in ("", "{}", "[]", '{"camera": "a", "spec": "{}", "slots": 1, "number": 0}'):
        with pytest.raises(CameraError):
            Job.from_json(text)


class Child:
    """A real camera process and the daemon's end of its ring."""

    def __init__(self, spec: SourceSpec, *, slots: int = 4, parent: int | None = None, job: str | None = None) -> None:
        ours, theirs, memory = open_ring()
        self.reader = RingReader("top", ours, memory)
        command = [sys.executable, "-m", "edge.camera.process", str(theirs.fileno()), str(memory)]
        self.process = subprocess.Popen(
            [*command, str(parent or os.getpid())],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(), memory),
            cwd=Path(process.__file__).parents[2],
        )
        theirs.close()
        assert self.process.stdin
        with self.process.stdin as stdin:
            stdin.write((job if job is not None else Job("top", spec, slots).to_json()).encode())

    def messages(self, enough: Callable[[list[Note | Received]], bool], limit_s: float = 30.0) -> list[Note | Received]:
        """The messages until there are enough, or the child hangs up."""
        found: list[Note | Received] = []
        end = time.monotonic() + limit_s
        while not enough(found):
            assert time.monotonic() < end, found
            try:
                message = self.reader.receive()
            except Hangup:
                break
            if message is None:
                time.sleep(0.001)
                continue
            found.append(message)
            if isinstance(message, Received):
                self.reader.release(message.slot)
        return found

    def end(self) -> int:
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        assert self.process.stderr
        self.process.stderr.close()
        self.reader.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(url: str, **keys: object) -> Child:
        spec = {k: keys.pop(k) for k in tuple(keys) if k in SourceSpec.__dataclass_fields__}
        children.append(Child(SourceSpec(url, **spec), **keys))
        return children[-1]

    yield start
    for child in children:
        child.close()


def kinds(messages: list[Note | Received]) -> list[str]:
    return [m.kind if isinstance(m, Note) else "frame" for m in messages]


FAST = "strip:?width=256&height=64"


def test_child_plays_a_recording_and_leaves(start, tmp_path):
    """started, opened, ring, frames, ended, exit 0: in this order."""
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((9, 9), n, np.uint8))
    child = start(str(tmp_path), fps=0)
    messages = child.messages(lambda _: False)
    assert kinds(messages) == ["started", "opened", "ring", "frame", "frame", "frame", "ended"]
    assert child.end() == process.EXIT_DONE
    assert child.process.stderr.read() == b""


def test_child_reports_what_is_wrong_and_ends(start):
    """A source that does not open: the reason comes as a note, the exit code is that of a camera."""
    child = start("/missing.png")
    messages = child.messages(lambda _: False)
    assert kinds(messages) == ["started", "error"]
    assert "does not exist" in messages[1].fields["message"]
    assert child.end() == process.EXIT_CAMERA


def test_child_with_a_broken_job_ends(start):
    """Nonsense instead of a job is a bug of the daemon and ends with a traceback."""
    child = start("strip:", job="nonsense")
    assert child.end() == process.EXIT_BUG
    assert b"cannot be read" in child.process.stderr.read()


def test_child_stops_on_request_and_when_the_daemon_is_gone(start):
    """`stop` and a closed socket both end it, at once and without noise."""
    for leave in (lambda c: c.reader.stop(), lambda c: c.reader.close()):
        child = start(FAST, fps=50, live=True)
        child.messages(lambda m: "frame" in kinds(m))
        leave(child)
        assert child.end() == process.EXIT_DONE
        assert child.process.stderr.read() == b""


def test_child_stops_within_a_long_pause(start):
    """It receives messages while it waits until the next picture is due."""
    child = start(FAST, fps=0.001, live=True)
    child.messages(lambda m: "frame" in kinds(m))
    child.reader.stop()
    assert child.end() == process.EXIT_DONE


def test_child_whose_parent_is_gone_does_not_start(start):
    """A daemon that dies before its child has tied its life to it leaves a child that ends by itself."""
    assert start(FAST, parent=1 << 22).end() == process.EXIT_ORPHAN


def test_child_ignores_ctrl_c_and_ends_on_sigterm(start):
    """Ctrl-C is the daemon's; SIGTERM ends the child even if the daemon had blocked it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = start(FAST, fps=100, live=True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    child.messages(lambda m: "frame" in kinds(m))
    child.process.send_signal(signal.SIGINT)
    assert kinds(child.messages(lambda m: kinds(m).count("frame") >= 5)).count("frame") == 5
    child.process.send_signal(signal.SIGTERM)
    assert child.end() == -signal.SIGTERM


def test_child_has_a_name_and_is_killed_first_when_memory_runs_out(start):
    """`top` shows the camera; the OOM killer prefers it to the daemon."""
    child = start(FAST, fps=50, live=True)
    child.messages(lambda m: "frame" in kinds(m))
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    assert "Name:\tcam-top\n" in status
    score = int(Path(f"/proc/{child.process.pid}/oom_score_adj").read_text())
    assert score == process.OOM_SCORE


def test_child_drops_frames_of_a_live_source_without_slots(start):
    """When no slot is released, every further frame is counted, and the numbers go on."""
    child = start(FAST, fps=400, live=True, slots=2)
    end = time.monotonic() + 30
    while child.reader.next_number < 50:
        assert time.monotonic() < end
        child.reader.receive()
    assert len(child.reader.outstanding) == 2


def test_daemon_sees_the_hangup_of_a_killed_child(start):
    """The daemon's end closes although the daemon made both ends."""
    child = start(FAST)
    child.process.kill()
    child.end()
    child.messages(lambda _: False)
    with pytest.raises(Hangup):
        child.reader.receive()
