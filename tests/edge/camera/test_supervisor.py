"""The supervisor: its counts add up, it restarts cameras, and no camera harms another."""

from __future__ import annotations

import gc
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_scene import Scene, camera, missing_frames

import edge
from edge.camera.child import MAX_LINES, Child, launch_process, start_child
from edge.camera.notices import CameraEnded, CameraLost, CameraOpened, CameraRemoved, FramesLost
from edge.camera.process import Job
from edge.camera.ring import open_ring
from edge.camera.sources.contract import SourceInfo, SourceSpec
from edge.camera.supervised_camera import DEFAULT_LIMITS, SPARE_SLOTS, Limits, stall_limit_s
from edge.camera.supervisor import Supervisor
from edge.delivery.mqtt.messages import encoded
from edge.host.backoff import Backoff
from edge.host.clock import Clock, SystemClock

FAST = "strip:?width=256&height=64"


def write_images(folder: Path, count: int, sizes: tuple[tuple[int, int], ...] = ((40, 60),)) -> Path:
    folder.mkdir(exist_ok=True)
    for n in range(count):
        cv2.imwrite(str(folder / f"{n}.png"), np.full(sizes[n % len(sizes)], n, np.uint8))
    return folder


class Impostor:
    """Stands in for the start of a child: runs another program with the same descriptors."""

    def __init__(self, code: str, *, python: bool = True) -> None:
        self.command = [sys.executable, "-c", code] if python else ["/bin/sh", "-c", code]
        self.started = 0

    def __call__(self, job: Job, clock: Clock) -> Child:
        return start_child(job, clock, launch=self.launch)

    def launch(self, _job: Job, link: int, memory: int) -> subprocess.Popen[bytes]:
        self.started += 1
        return subprocess.Popen(
            [*self.command, str(link), str(memory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(link, memory),
            bufsize=0,
        )


KILLER = """
import os, signal, sys
import edge.camera.sources.files as files
from edge.camera import process

read = files.read_image

def read_or_die(path):
    if "killer" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)

files.read_image = read_or_die
sys.exit(process.main(sys.argv[1:]))
"""
"""A camera process that pictures of some names kill, as a decoder or a lack of memory would."""


def launch_mortal(job: Job, link: int, memory: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLER, str(link), str(memory), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(link, memory),
        env={**os.environ, "PYTHONPATH": str(Path(edge.__file__).parents[1])},
        bufsize=0,
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(job.to_json().encode())
    return process


# Pure parts


def test_backoff_doubles_from_a_fifth_of_a_second_to_ten():
    """The first attempt comes soon, the ceiling is 10 s, and half of each delay is random."""
    backoff = Backoff(DEFAULT_LIMITS.backoff_first_s, DEFAULT_LIMITS.backoff_max_s, random.Random(1).random)
    for failures, ceiling in ((1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (7, 10.0), (5000, 10.0)):
        waits = []
        for _ in range(200):
            backoff.attempts = failures - 1
            waits.append(backoff.next_s())
        assert ceiling / 2 <= min(waits) < ceiling * 0.6
        assert ceiling * 0.9 < max(waits) <= ceiling


def test_stall_limit_follows_the_timeouts_and_the_rate():
    """A live camera is missed soon, a slow one later, a recording much later."""
    spec = SourceSpec("rtsp://h/x", open_timeout_s=3, read_timeout_s=2)
    assert stall_limit_s(spec, None, delivers=False) == 6.0
    assert stall_limit_s(spec, SourceInfo("FFMPEG", fps=10.0), delivers=True) == pytest.approx(2.6)
    assert stall_limit_s(SourceSpec("strip:", fps=0.1), SourceInfo("strip"), delivers=True) == pytest.approx(12.5)
    assert stall_limit_s(SourceSpec("a.mp4"), SourceInfo("FFMPEG", fps=25.0), delivers=True) >= 60
    assert stall_limit_s(SourceSpec("a.mp4", fps=0.01), None, delivers=True) >= 160


# Recordings


def test_recording_is_played_whole_and_ends_once(tmp_path):
    """Each image becomes one frame, in order; the end is reported after the last frame was popped."""
    folder = write_images(tmp_path / "a", 30)
    with Scene(camera("a", folder, fps=0)) as scene:
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.numbers["a"] == list(range(30))
        assert scene.labels["a"] == [f"{n}.png" for n in range(30)]
        assert [type(n) for n in scene.notices] == [CameraOpened, CameraEnded]
        assert scene.reported(CameraEnded)[0].frames == 30
        assert scene.reported(CameraOpened)[0].actual == SourceInfo("images", 60, 40, 0.0, "GREY")
        status = scene.supervisor.snapshot()["a"]
        assert (status.state, status.restarts, status.pid) == ("ended", 0, None)
        assert (status.waiting, status.delivered) == (0, 30)


def test_file_name_that_is_not_utf8_reaches_the_consumer_as_valid_text(tmp_path):
    """The reason of a lost camera and the label of a frame can be sent, whatever a file is called."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / os.fsdecode(b"Pr\xfcfung.png")).touch()
    good = write_images(tmp_path / "good", 1)
    (good / "0.png").rename(good / os.fsdecode(b"Pr\xfc\x1b[2Jfung.png"))
    with Scene(camera("bad", tmp_path / "bad"), camera("good", good, fps=0)) as scene:
        scene.until(lambda: scene.reported(CameraLost, "bad") and scene.reported(CameraEnded, "good"))
        reason = scene.reported(CameraLost, "bad")[0].reason
        assert "Pr\\xfcfung.png is empty" in encoded({"reason": reason}).decode().replace("\\\\", "\\")
        assert scene.labels["good"] == ["Pr\\xfc\\x1b[2Jfung.png"]


def test_end_is_not_reported_while_frames_wait(tmp_path):
    """The consumer has popped every frame before it gets CameraEnded."""
    folder = write_images(tmp_path / "a", 5)
    with Scene(camera("a", folder, fps=0)) as scene:
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].state == "ended")
        assert scene.supervisor.snapshot()["a"].waiting == 5
        assert [type(n) for n in scene.supervisor.take_notices()] == [CameraOpened]
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.numbers["a"] == [0, 1, 2, 3, 4]


def test_slow_consumer_holds_a_recording_back_and_loses_nothing(tmp_path):
    """A recording can wait: no frame is dropped, and the ring bounds the memory."""
    folder = write_images(tmp_path / "a", 60)
    with Scene(camera("a", folder, fps=0, ring_frames=4)) as scene:
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].waiting == 4 + SPARE_SLOTS)
        for _ in range(20):
            scene.supervisor.wait(0.01)
            assert scene.supervisor.snapshot()["a"].waiting <= 4 + SPARE_SLOTS
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.numbers["a"] == list(range(60))
        assert scene.reported(FramesLost) == []


def test_held_back_recording_is_not_taken_for_hung(tmp_path):
    """While its frames are out it may be waiting for their slots: its process is not killed."""
    folder = write_images(tmp_path / "a", 40)
    source = camera("a", folder, fps=0, ring_frames=2, open_timeout_s=5, read_timeout_s=0.05)
    with Scene(source, limits=Limits(recording_s=0.05)) as scene:
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].waiting == 5)
        before = time.monotonic()
        scene.idle_until(lambda: time.monotonic() - before > 0.6)
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.numbers["a"] == list(range(40))
        assert scene.reported(CameraLost) == []


def test_images_of_mixed_sizes_come_in_one_recording(tmp_path):
    """The ring grows when a larger image comes; all arrive with their own size and content."""
    sizes = ((40, 60), (300, 500), (10, 10), (700, 900), (40, 60))
    folder = write_images(tmp_path / "a", 25, sizes)
    with Scene(camera("a", folder, fps=0)) as scene:
        shapes = []
        while len(shapes) < 25:
            assert scene.supervisor.wait(20)
            for name, _ in scene.supervisor.heads():
                frame = scene.supervisor.pop(name)
                assert (frame.pixels == frame.number).all()
                shapes.append(frame.pixels.shape)
                scene.supervisor.release(frame)
        assert shapes == [sizes[n % 5] for n in range(25)]


def test_unreadable_images_are_counted_separately(tmp_path):
    """They are no delivered frames: the numbers have no gap, and the sums still hold."""
    folder = write_images(tmp_path / "a", 6)
    (folder / "3.png").write_bytes(b"")
    (folder / "7.png").write_bytes(b"x")
    with Scene(camera("a", folder, fps=0)) as scene:
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.numbers["a"] == [0, 1, 2, 3, 4]
        assert scene.labels["a"] == ["0.png", "1.png", "2.png", "4.png", "5.png"]
        assert scene.lost("a", "unreadable") == 2
        assert scene.adds_up("a")


@pytest.mark.parametrize("killers", [(2, 4, 5), (0, 1), (7,), tuple(range(8))], ids=["inside", "first", "last", "all"])
def test_pictures_that_kill_the_process_are_left_out_and_counted(tmp_path, caplog, killers):
    """The recording goes on behind them and ends; each picture is a frame or unreadable, once."""
    folder = write_images(tmp_path / "a", 8)
    (folder / "3.png").write_bytes(b"no picture")
    for n in killers:
        (folder / f"{n}.png").rename(folder / f"{n} killer.png")
    start = partial(start_child, launch=launch_mortal)
    with Scene(camera("a", folder, fps=0), start_child=start) as scene, caplog.at_level("WARNING"):
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.labels["a"] == [f"{n}.png" for n in range(8) if n not in (*killers, 3)]
        assert scene.numbers["a"] == list(range(len(scene.labels["a"])))
        assert scene.lost("a") == scene.lost("a", "unreadable") == 8 - len(scene.labels["a"])
        assert "left out" in caplog.text


def test_process_that_dies_once_costs_its_recording_nothing(tmp_path):
    """It goes on with the picture at which it died."""
    folder = write_images(tmp_path / "a", 40)
    with Scene(camera("a", folder, fps=30)) as scene:
        scene.until(scene.more("a", 10))
        scene.signal("a", signal.SIGKILL)
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.labels["a"] == [f"{n}.png" for n in range(40)]
        assert scene.lost("a") == 0


def test_recording_with_new_settings_starts_at_its_first_picture(tmp_path):
    """What was shown of the old one says nothing about the new one."""
    folder = write_images(tmp_path / "a", 5)
    with Scene(camera("a", folder, fps=0)) as scene:
        scene.until(lambda: scene.reported(CameraEnded))
        scene.supervisor.rearrange([camera("a", write_images(tmp_path / "b", 3), fps=0)])
        scene.until(lambda: len(scene.reported(CameraEnded)) == 2)
        assert scene.labels["a"][5:] == ["0.png", "1.png", "2.png"]


def test_recording_keeps_its_pace(tmp_path):
    """30 frames at 100 per second take 0.29 s by their stamps, without drift."""
    folder = write_images(tmp_path / "a", 30)
    with Scene(camera("a", folder, fps=100)) as scene:
        stamps: list[int] = []
        while len(stamps) < 30:
            assert scene.supervisor.wait(20)
            for name, _ in scene.supervisor.heads():
                frame = scene.supervisor.pop(name)
                stamps.append(frame.grabbed_ns)
                scene.supervisor.release(frame)
        assert stamps == sorted(stamps)
        assert (stamps[-1] - stamps[0]) / 1e9 >= 0.28


# Live cameras


def test_overflow_takes_the_oldest_and_every_frame_is_accounted_for():
    """When no frame is popped the newest wait, the others are counted, and the sums are exact."""
    with Scene(camera("a", FAST, fps=500, ring_frames=3)) as scene:
        scene.until(scene.more("a", 3))
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].delivered > 60)
        (head,) = scene.supervisor.heads()
        assert head[0] == "a"
        scene.supervisor.stop(5)
        status = scene.supervisor.snapshot()["a"]
        assert status.waiting == 3
        scene.until(lambda: scene.supervisor.heads() == ())
        assert scene.adds_up("a")
        missing = set(range(status.delivered)) - set(scene.numbers["a"])  # also those after the last that waited
        assert len(missing) == scene.lost("a", "overflow", "no_slot")
        assert scene.numbers["a"][-3:] == sorted(scene.numbers["a"][-3:])
        assert scene.lost("a", "overflow") > 0


def test_consumer_that_keeps_frames_starves_only_itself():
    """Frames that are popped and never released leave no slot: the camera drops, counts, and is not killed."""
    with Scene(camera("a", FAST, fps=200, ring_frames=2, read_timeout_s=0.3)) as scene:
        kept = []
        while len(kept) < 5:
            assert scene.supervisor.wait(20)
            kept += [scene.supervisor.pop(name) for name, _ in scene.supervisor.heads()]
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].delivered > 300)
        assert scene.supervisor.heads() == ()
        for frame in kept:
            scene.supervisor.release(frame)
            scene.supervisor.release(frame)
        scene.until(scene.more("a", 10))
        scene.numbers["a"] = sorted([f.number for f in kept] + scene.numbers["a"])
        scene.supervisor.stop(5)
        scene.until(lambda: scene.supervisor.heads() == ())
        assert scene.lost("a", "no_slot") > 200
        after_all = scene.supervisor.snapshot()["a"].delivered  # the last ones may be lost, too
        gaps = list(missing_frames([*scene.numbers["a"], after_all]))
        assert len(gaps) == scene.lost("a", "no_slot", "overflow")
        assert scene.adds_up("a")
        assert scene.reported(CameraLost) == []


def test_missing_camera_is_reported_once_and_opened_when_it_comes(tmp_path):
    """The other camera runs meanwhile; the retries are silent; the missing one opens once it is there."""
    folder = tmp_path / "later"
    with Scene(camera("a", folder / "0.png", loop=True, fps=50), camera("b", FAST, fps=50, live=False)) as scene:
        scene.until(lambda: scene.supervisor.snapshot()["a"].restarts >= 3)
        (lost,) = scene.reported(CameraLost)
        assert lost.camera == "a"
        assert "does not exist" in lost.reason
        assert scene.supervisor.snapshot()["a"].reason == lost.reason
        write_images(folder, 1)
        scene.until(scene.more("a"))
        assert scene.reported(CameraOpened, "a")
        assert scene.supervisor.snapshot()["a"].state == "open"
        assert scene.supervisor.snapshot()["a"].reason == ""
        assert scene.numbers["b"] == list(range(len(scene.numbers["b"])))


def test_numbers_count_on_after_a_crash():
    """A camera that comes back does not start at 0: numbers and sums hold over all its processes."""
    with Scene(camera("a", FAST, fps=100)) as scene:
        for _ in range(3):
            scene.until(scene.more("a", 10))
            opened = len(scene.reported(CameraOpened))
            scene.signal("a", signal.SIGKILL)
            scene.until(lambda: len(scene.reported(CameraOpened)) > opened)  # noqa: B023 (called here)
        scene.until(scene.more("a", 10))
        assert "SIGKILL" in scene.reported(CameraLost)[0].reason
        scene.supervisor.stop(5)
        scene.until(lambda: scene.supervisor.heads() == ())
        assert list(missing_frames(scene.numbers["a"])) == []
        assert scene.adds_up("a")
        assert scene.supervisor.snapshot()["a"].restarts >= 3


def test_frames_of_a_dead_camera_can_still_be_inspected():
    """Frames that arrived before the crash stay valid until they are released."""
    with Scene(camera("a", FAST, fps=100, ring_frames=20)) as scene:
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].waiting >= 5)
        before = scene.supervisor.snapshot()["a"].pid
        scene.signal("a", signal.SIGKILL)
        frame = scene.supervisor.pop("a")
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].pid not in (None, before))
        gc.collect()
        assert 10 < frame.pixels.mean() < 245
        scene.supervisor.release(frame)


# Children that misbehave


NONSENSE = "import socket,sys; s=socket.socket(fileno=int(sys.argv[1])); s.send({}); import time; time.sleep(60)"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NONSENSE.format("b'garbage'"), "nonsense"),
        (NONSENSE.format('b\'{"kind": "opened"}\''), "nonsense"),
        (NONSENSE.format('b\'{"kind": "opened", "actual": [1]}\''), "nonsense"),
        (NONSENSE.format('b\'{"kind": "opened", "actual": {"backend": "x", "fps": "y"}}\''), "nonsense"),
        (NONSENSE.format('b\'{"kind": "opened", "actual": {"backend": "x", "fps": NaN}}\''), "nonsense"),
        (NONSENSE.format('b\'{"kind": "discarded", "count": 1, "reason": [1]}\''), "nonsense"),
        ("import sys; print('last words rtsp://u:secret@h/x'); sys.exit(7)", r"code 7: last words rtsp://\*\*\*@h/x"),
        ("import os; os.abort()", "SIGABRT"),
        ("import os, sys, time; os.close(int(sys.argv[1])); os.close(int(sys.argv[2])); time.sleep(60)", "SIGKILL"),
    ],
    ids=["garbage", "nothing", "list", "text", "nan", "lost", "exit", "abort", "stays"],
)
def test_child_that_misbehaves_costs_only_its_camera(code, words):
    """Each such child is killed and its camera lost with a reason; the daemon goes on."""
    with Scene(camera("a", FAST), start_child=Impostor(code)) as scene:
        scene.until(lambda: scene.reported(CameraLost))
        assert re.search(words, scene.reported(CameraLost)[0].reason)


def test_child_that_never_sends_a_message_is_killed():
    """A child that hangs before it opens its source is replaced after the limit for starts."""
    impostor = Impostor("exec sleep 60", python=False)
    with Scene(camera("a", FAST), start_child=impostor, limits=Limits(start_s=0.2)) as scene:
        scene.until(lambda: impostor.started >= 2)
        assert "does not open" in scene.reported(CameraLost)[0].reason


def test_daemon_that_stood_still_does_not_blame_its_cameras():
    """After a pause of the daemon beyond the stall limit, messages that wait in the sockets are a sign of life."""
    cameras = [camera(name, FAST, fps=50, read_timeout_s=0.1) for name in "abc"]
    with Scene(*cameras) as scene:
        scene.until(lambda: all(scene.numbers[name] for name in "abc"))
        pids = [scene.pid(name) for name in "abc"]
        with scene.supervisor._changed:  # its thread waits for the lock
            before = time.monotonic()
            while time.monotonic() - before < 1.0:
                time.sleep(0.05)
        for name in "abc":
            scene.until(scene.more(name, 20))
        assert scene.reported(CameraLost) == []
        assert [scene.pid(name) for name in "abc"] == pids


def test_output_of_a_child_is_bounded_and_redacted(caplog):
    """A child that prints without end fills neither log nor memory, and slows no other camera."""
    source = "rtsp://admin:secret@127.0.0.1/x?token=hidden"
    impostor = Impostor(f"while :; do echo 'error at {source}'; done", python=False)
    caplog.set_level(logging.DEBUG, logger="edge.camera")

    def start(job: Job, clock: Clock) -> Child:
        return impostor(job, clock) if job.camera == "a" else start_child(job, clock)

    with Scene(camera("a", source), camera("b", FAST, fps=50), start_child=start) as scene:
        scene.until(scene.more("b", 50))
        assert scene.reported(FramesLost) == []
        assert scene.numbers["b"] == list(range(len(scene.numbers["b"])))
    lines = [r.getMessage() for r in caplog.records if "error at" in r.getMessage()]
    assert 0 < len(lines) <= MAX_LINES
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


def test_hundreds_of_restarts_leave_nothing_open():
    """There are as many descriptors, threads and zombies as before."""
    impostor = Impostor("exit 3", python=False)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    limits = Limits(backoff_max_s=0.0)
    with Scene(camera("a", FAST), camera("b", FAST), start_child=impostor, limits=limits) as scene:
        scene.until(lambda: impostor.started >= 10)
        running = len(list(Path("/proc/self/fd").iterdir()))
        scene.until(lambda: impostor.started >= 400)
        assert len(list(Path("/proc/self/fd").iterdir())) <= running + 10
        assert len(scene.reported(CameraLost)) == 2
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert "cameras" not in [t.name for t in threading.enumerate()]


def test_real_restarts_leave_nothing_open():
    """The same with real children that open, deliver and are killed."""
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Scene(camera("a", FAST, fps=200), limits=Limits(backoff_max_s=0.0)) as scene:
        for _ in range(8):
            scene.until(scene.more("a", 3))
            scene.signal("a", signal.SIGKILL)
            scene.until(lambda: scene.supervisor.snapshot()["a"].state != "open")
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_start_that_fails_is_tried_again():
    """No memory for a process is a lost camera, not the end of the daemon."""
    failures = iter([OSError(12, "Cannot allocate memory")] * 2)

    def launch(job: Job, link: int, memory: int) -> subprocess.Popen[bytes]:
        for error in failures:
            raise error
        return launch_process(job, link, memory)

    with Scene(camera("a", FAST), start_child=partial(start_child, launch=launch)) as scene:
        scene.until(scene.more("a"))
        assert "Cannot allocate memory" in scene.reported(CameraLost)[0].reason


def test_thread_that_fails_ends_visibly(monkeypatch, caplog):
    """A bug in the supervisor is logged, every camera is reported as lost, and no child stays behind."""
    with Scene(camera("a", FAST)) as scene:
        scene.until(scene.more("a"))
        monkeypatch.setattr(Supervisor, "_tend", lambda *_: 1 / 0)
        scene.until(lambda: scene.reported(CameraLost))
        assert scene.reported(CameraLost)[0].reason == "the camera thread failed"
        scene.idle_until(lambda: "ZeroDivisionError" in caplog.text)
        assert scene.children() == []


def test_daemon_without_descriptors_keeps_running():
    """When no ring can be made the camera is lost for now, and opens when there are descriptors again."""
    failures = iter([OSError(24, "Too many open files")] * 2)

    def scarce() -> tuple[socket.socket, socket.socket, int]:
        for error in failures:
            raise error
        return open_ring()

    with Scene(camera("a", FAST), start_child=partial(start_child, open_ring=scarce)) as scene:
        scene.until(scene.more("a"))
        assert "Too many open files" in scene.reported(CameraLost)[0].reason


def test_unreadable_images_do_not_flood_the_log(tmp_path, caplog):
    """All are counted, the first few are named."""
    folder = write_images(tmp_path / "a", 2)
    for n in range(100):
        (folder / f"bad{n}.png").touch()
    with Scene(camera("a", folder, fps=0)) as scene:
        scene.until(lambda: scene.reported(CameraEnded))
        assert scene.lost("a", "unreadable") == 100
    assert caplog.text.count("is empty") == MAX_LINES


# Life


def test_stop_before_start_and_twice_is_safe():
    """Stop and close may be called in any order."""
    supervisor = Supervisor([camera("a", FAST)], SystemClock())
    supervisor.stop(1)
    supervisor.close()
    supervisor.close()
    with Scene(camera("a", FAST)) as scene:
        scene.until(scene.more("a"))
        scene.supervisor.stop(5)
        scene.supervisor.stop(5)
        scene.supervisor.close()
        assert scene.supervisor.heads() == ()
        with pytest.raises(LookupError):
            scene.supervisor.pop("a")


def test_frames_stay_after_stop_until_close():
    """The consumer can still pop the frames that arrived before the stop."""
    with Scene(camera("a", FAST, fps=100, ring_frames=6)) as scene:
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].waiting == 6)
        scene.supervisor.stop(5)
        assert scene.supervisor.snapshot()["a"].pid is None
        assert scene.supervisor.wait(0)
        frame = scene.supervisor.pop("a")
        assert frame.pixels.mean() > 10
        scene.supervisor.release(frame)
        assert scene.supervisor.snapshot()["a"].waiting == 5


def test_stop_kills_a_child_that_does_not_end():
    """A stopped process cannot delay the end beyond the deadline."""
    with Scene(camera("a", FAST)) as scene:
        scene.until(scene.more("a"))
        scene.signal("a", signal.SIGSTOP)
        start = time.monotonic()
        scene.supervisor.stop(0.3)
        assert 0.2 < time.monotonic() - start < 5
        assert scene.children() == []


def test_wait_returns_early_only_for_frames_and_notices():
    """With nothing to take it waits for its timeout and returns False."""
    supervisor = Supervisor([], SystemClock())
    supervisor.start()
    assert not supervisor.wait(0.01)
    assert supervisor.snapshot() == {}
    supervisor.stop(1)
    supervisor.close()


def test_command_line_of_a_child_holds_no_secret():
    """Every user of the machine can read command lines; the job goes through stdin."""
    with Scene(camera("a", "rtsp://admin:secret@127.0.0.1:9/x")) as scene:
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].pid)
        try:
            command = Path(f"/proc/{scene.pid('a')}/cmdline").read_bytes()
        except (OSError, AssertionError):
            pytest.skip("the child ended before its command line was read")
        assert b"secret" not in command
        scene.until(lambda: scene.reported(CameraLost))
        assert "secret" not in scene.reported(CameraLost)[0].reason


def test_child_finds_the_package_from_any_folder(tmp_path, monkeypatch):
    """Neither the working directory nor what lies in it matters."""
    (tmp_path / "cv2.py").write_text("raise SystemExit('wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Scene(camera("a", FAST)) as scene:
        scene.until(scene.more("a"))
        environment = Path(f"/proc/{scene.pid('a')}/environ").read_bytes()
        assert os.fsencode(Path(edge.__file__).parents[1]) in environment


def test_child_gets_no_secret_of_the_environment(monkeypatch):
    """A variable of any name may hold a password; other processes of this user can read what a child starts with."""
    monkeypatch.setenv("LINE3", "hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/hunter2")
    with Scene(camera("a", FAST)) as scene:
        scene.until(scene.more("a"))
        assert b"hunter2" not in Path(f"/proc/{scene.pid('a')}/environ").read_bytes()


# Rearranging


def test_cameras_come_go_and_change_while_the_others_go_on():
    """One is added, one removed, one opened differently: the fourth keeps its process and loses no frame."""
    kept = camera("kept", FAST, fps=100, ring_frames=64)
    first = [kept, camera("gone", FAST, fps=100), camera("other", FAST, fps=100)]
    with Scene(*first) as scene:
        scene.until(lambda: len(scene.reported(CameraOpened)) == 3)
        pids = {name: scene.pid(name) for name in ("kept", "other")}
        changed = camera("other", "strip:?width=320&height=64", fps=100)
        scene.supervisor.rearrange(
            [kept.model_copy(update={"max_memory_mb": 400}), changed, camera("new", FAST, fps=100)]
        )
        scene.until(lambda: scene.reported(CameraRemoved, "gone") and scene.reported(CameraOpened, "new"))
        scene.until(lambda: len(scene.reported(CameraOpened, "other")) == 2)
        scene.until(scene.more("kept"))
        assert scene.pid("kept") == pids["kept"]
        assert scene.pid("other") != pids["other"]
        assert scene.reported(CameraOpened, "other")[1].actual.width == 320
        assert [n.reason for n in scene.reported(CameraLost)] == ["its settings were changed: it starts again"]
        assert set(scene.supervisor.snapshot()) == {"kept", "other", "new"}
        assert list(missing_frames(scene.numbers["kept"])) == []
        assert scene.lost("kept", "overflow", "no_slot") == 0
        assert len(scene.children()) == 3
        removed = scene.notices.index(scene.reported(CameraRemoved)[0])
        assert all(getattr(n, "camera", "") != "gone" for n in scene.notices[removed + 1 :])


def test_removed_camera_is_gone_once_its_frames_are_popped():
    """Frames that it delivered can still be inspected; a process that does not end is killed."""
    with Scene(camera("a", FAST, fps=200), camera("b", FAST, fps=200)) as scene:
        scene.until(lambda: len(scene.reported(CameraOpened)) == 2)
        scene.idle_until(lambda: scene.supervisor.snapshot()["a"].waiting == 8)
        scene.signal("a", signal.SIGSTOP)
        pid = scene.pid("a")
        scene.supervisor.rearrange([camera("b", FAST, fps=200)])
        scene.idle_until(lambda: not Path(f"/proc/{pid}").exists())
        assert scene.supervisor.snapshot()["a"].waiting == 8
        before = len(scene.numbers["a"])
        scene.until(lambda: scene.reported(CameraRemoved))
        assert len(scene.numbers["a"]) == before + 8
        assert scene.reported(CameraLost, "a") == []


def test_removed_camera_that_is_configured_again_comes_back():
    """It comes back even if its old process has not ended yet; its numbers go on."""
    a, b = camera("a", FAST, fps=100), camera("b", FAST, fps=100)
    with Scene(a, b) as scene:
        scene.until(lambda: len(scene.reported(CameraOpened)) == 2)
        scene.signal("a", signal.SIGSTOP)
        scene.supervisor.rearrange([b])
        scene.until(scene.more("b"))
        scene.supervisor.rearrange([a, b])
        scene.until(lambda: len(scene.reported(CameraOpened, "a")) == 2)
        scene.until(scene.more("a"))
        assert scene.reported(CameraRemoved) == []
        assert scene.numbers["a"] == sorted(scene.numbers["a"])
