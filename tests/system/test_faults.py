"""Faulty pictures and a machine that is too slow: reported within 3 s, ended within 5 s, and the sums add up."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from node_scene import PICTURES, STRIP, HttpCamera, Scene
from proxy import Proxy
from rtsp_camera import RtspServer, need_gstreamer

from edge.host import machine
from edge.vision.image_quality import LEARN_FRAMES

pytestmark = pytest.mark.system
log = logging.getLogger(__name__)
REPORT_S = 3.0
RECOVER_S = 5.0
OTHER = {"name": "other", "source": "strip:?width=256&height=128", "fps": 40, "ring_frames": 64}


@pytest.mark.parametrize("fault", ["frozen", "dark", "saturated", "blurred", "torn"])
def test_faulty_picture_is_reported_within_three_seconds_and_restored_within_five(fault: str, tmp_path: Path) -> None:
    """An event gives the reason, no frame is inspected meanwhile, and the other camera loses nothing."""
    with HttpCamera() as camera, Scene(tmp_path, {"name": "a", "source": camera.url}, OTHER) as scene:
        scene.until(scene.more("a", 2 * LEARN_FRAMES))
        scene.until(scene.more("other", 1))
        assert scene.count("a", "bad_image") == 0
        camera.mode = fault
        reported_s = scene.until(lambda: scene.has("a", "image.bad", fault))
        inspected = scene.count("a", "ok", "defect", "unsure")
        scene.until(scene.more("a", 20))
        assert scene.count("a", "ok", "defect", "unsure") == inspected
        assert scene.sessions["a"].state.name == ("frozen" if fault == "frozen" else "bad_image")
        camera.mode = "good"
        restored_s = scene.until(lambda: scene.has("a", "image.restored", fault))
        scene.until(lambda: scene.count("a", "ok", "defect", "unsure") > inspected + 5)
        scene.until(lambda: any(k == "coverage.gap" and d["cause"] == "bad_image" for _, k, d in scene.reported("a")))
        log.info("%s: reported after %.2f s, restored after %.2f s", fault, reported_s, restored_s)
        assert reported_s < REPORT_S
        assert restored_s < RECOVER_S
        assert scene.count("other", "bad_image", "dropped") == 0
        assert not scene.has("other", "camera.lost")


@pytest.fixture
def rtsp(free_port: int) -> Iterator[RtspServer]:
    need_gstreamer()
    server = RtspServer(free_port, "25", "320", "240")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def link(rtsp: RtspServer) -> Iterator[Proxy]:
    """The network on the way to the camera."""
    proxy = Proxy(rtsp.port)
    yield proxy
    proxy.close()


def lost_and_back(scene: Scene, fault: str, start: Callable[[], object], end: Callable[[], object]) -> None:
    """Camera `a` is lost within 3 s of the fault and delivers within 5 s of its end; `other` loses nothing."""
    scene.until(scene.more("a", 20))
    scene.until(scene.more("other", 1))
    start()
    reported_s = scene.until(lambda: scene.has("a", "camera.lost"))
    scene.until(scene.more("other", 20))
    end()
    back_s = scene.until(lambda: scene.has("a", "camera.restored"))
    scene.until(scene.more("a", 20))
    log.info("%s: reported after %.2f s, back after %.2f s", fault, reported_s, back_s)
    assert reported_s < REPORT_S
    assert back_s < RECOVER_S
    assert scene.count("other", "dropped", "bad_image") == 0
    assert not scene.has("other", "camera.lost")


@pytest.mark.parametrize("fault", ["killed", "stopped", "black-holed"])
def test_rtsp_camera_comes_back_after_its_server_fails(
    rtsp: RtspServer, link: Proxy, tmp_path: Path, fault: str
) -> None:
    """The server is killed or stopped, or the link keeps its sockets and carries nothing."""
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "killed": (rtsp.kill, rtsp.start),
        "stopped": (lambda: rtsp.signal(signal.SIGSTOP), lambda: rtsp.signal(signal.SIGCONT)),
        "black-holed": (lambda: link.set("blackhole"), lambda: link.set("pass")),
    }
    with Scene(tmp_path, {"name": "a", "source": f"rtsp://127.0.0.1:{link.port}/cam"}, OTHER) as scene:
        lost_and_back(scene, f"RTSP server {fault}", *ways[fault])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_camera_process_that_fails_is_replaced(number: signal.Signals, tmp_path: Path) -> None:
    """The supervisor replaces a process that was killed or hangs."""
    with HttpCamera() as camera, Scene(tmp_path, {"name": "a", "source": camera.url}, OTHER) as scene:

        def hit() -> None:
            pid = scene.supervisor.snapshot()["a"].pid
            assert pid is not None
            os.kill(pid, number)

        lost_and_back(scene, f"camera process, {number.name}", hit, lambda: None)


def test_camera_comes_back_after_its_stream_hung(tmp_path: Path) -> None:
    """The read does not return, and the connection stays open."""
    with HttpCamera() as camera, Scene(tmp_path, {"name": "a", "source": camera.url}, OTHER) as scene:
        lost_and_back(scene, "hung in read", camera.flows.clear, camera.flows.set)


def test_stream_that_changes_its_size_is_inspected_further(tmp_path: Path) -> None:
    """The node lays new tiles for the new frame size and accounts for every frame."""
    with HttpCamera() as camera, Scene(tmp_path, {"name": "a", "source": camera.url}, OTHER) as scene:
        scene.until(scene.more("a", 2 * LEARN_FRAMES))
        camera.mode = "larger"
        scene.until(scene.more("a", 5))
        inspected = scene.count("a", "ok", "defect", "unsure")
        took_s = scene.until(lambda: scene.count("a", "ok", "defect", "unsure") > inspected + 10)
        camera.mode = "good"
        scene.until(scene.more("a", 20))
        log.info("new size: ten frames inspected after %.2f s", took_s)
        assert took_s < RECOVER_S
        assert scene.count("other", "dropped") == 0


def test_recording_that_ends_is_reported_and_complete(tmp_path: Path) -> None:
    """Every picture of a folder is in a state, an unreadable one is a bad image, and an event reports the end."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(30):
        cv2.imwrite(str(pictures / f"{n:03}.png"), STRIP.frame(n))
    (pictures / "012.png").write_bytes(b"no picture")
    with Scene(tmp_path, {"name": "a", "source": str(pictures), "fps": 0}) as scene:
        took_s = scene.until(lambda: scene.has("a", "camera.ended"))
        assert scene.frames("a") == 30
        assert scene.count("a", "bad_image") == 1
        assert scene.count("a", "late", "dropped") == 0
        log.info("a recording of 30 pictures ended after %.2f s", took_s)


def test_camera_process_that_uses_too_much_memory_is_replaced(tmp_path: Path) -> None:
    """The supervisor replaces a process above its memory limit and reports why; the other camera loses nothing."""
    growing = {"name": "a", "source": "strip:?width=512&height=512", "fps": 40, "ring_frames": 64, "max_memory_mb": 60}
    with Scene(tmp_path, growing, OTHER) as scene:  # the ring alone comes to 16 MB
        took_s = scene.until(lambda: scene.has("a", "camera.lost"))
        lost = next(d for _, k, d in scene.reported("a") if k == "camera.lost")
        assert "max_memory_mb is 60" in lost["reason"]
        scene.until(lambda: scene.has("a", "camera.restored"))
        log.info("a process above its limit was replaced after %.2f s", took_s)
        assert scene.count("other", "dropped") == 0


def overload(folder: Path, seconds: float, load: float) -> None:
    """Run two cameras at `load` times the capacity of the processor, and check everything that must hold."""
    url = "strip:?width=1600&height=256"
    cameras = [{"name": name, "source": url, "fps": 20, "budget_ms": 100} for name in ("a", "b")]
    with Scene(folder, *cameras, tile_s=load / (18 * 40)) as scene:  # 18 tiles, 40 frames a second
        scene.until(lambda: all(scene.frames(name) > 40 for name in ("a", "b")))
        before = {name: session.counters.stages["total"].counts() for name, session in scene.sessions.items()}
        held = scene.resident_bytes()
        end = time.monotonic() + seconds
        scene.until(lambda: time.monotonic() > end, seconds + 5)
        shares = {}
        for name, session in scene.sessions.items():
            summary = session.counters.stages["total"].counts().since(before[name]).summary()
            total = session.counters.account.total()
            shares[name] = total["tiles"]["inspected"] / (18 * total["delivered"])
            log.info("%g x capacity, %s: %s, tiles inspected %.0f %%", load, name, summary, 100 * shares[name])
            assert summary.n > 5 * seconds
            assert summary.p95 <= 100  # the budget; other processes may hold up one frame in twenty
            assert total["partial"] > 0.25 * summary.n
            assert total["frames"]["ok"] <= total["delivered"] - total["partial"]
            assert any(k == "coverage.gap" and d["cause"] == "overload" for _, k, d in scene.reported(name))
        assert 0.8 < shares["a"] / shares["b"] < 1.25
        assert scene.longest_queue <= 8
        grown = {name: (size - held[name]) / 2**20 for name, size in scene.resident_bytes().items()}
        log.info("%g x capacity, %.0f s: memory grew by MiB: %s", load, seconds, grown)
        assert max(grown.values()) < 20


def test_cameras_at_twice_the_capacity_share_it_and_report_the_gap(tmp_path: Path) -> None:
    """Verdicts stay within the budget, both cameras lose the same share of tiles, no queue and no memory grows."""
    overload(tmp_path, 4.0, 2.0)


@pytest.mark.soak
def test_ten_minutes_above_the_capacity_leave_memory_flat(tmp_path: Path) -> None:
    """Two cameras run for ten minutes at one and a half times the capacity."""
    overload(tmp_path, float(os.environ.get("SOAK_S", "600")), 1.5)


@pytest.mark.soak
def test_random_faults_leave_no_frame_unaccounted(tmp_path: Path) -> None:
    """Pictures are faulty and processes are killed or stopped at random; 100,000 frames are all accounted for."""
    rng = random.Random(int(os.environ.get("SOAK_SEED", "1")))
    frames = int(os.environ.get("SOAK_FRAMES", "100000"))
    fast = [{"name": f"s{n}", "source": f"strip:?width=256&height=128&seed={n + 1}", "fps": 200} for n in range(2)]
    with (
        HttpCamera() as camera,
        Scene(tmp_path, {"name": "a", "source": camera.url, "read_timeout_s": 0.5}, *fast) as scene,
    ):
        names = ["a", "s0", "s1"]
        scene.until(lambda: all(scene.frames(name) > 50 for name in names))
        held, events = [machine.resident_bytes(os.getpid()) or 0], 0
        while (seen := sum(scene.frames(name) for name in names)) < frames:
            if seen >= frames * len(held) / 10:
                held.append(machine.resident_bytes(os.getpid()) or 0)
                events += len(scene.events)
                scene.delivery.events.clear()  # they are the test's own memory
            camera.mode = rng.choice(["good", *PICTURES])
            pid = scene.supervisor.snapshot()[rng.choice(names)].pid
            if pid is not None and rng.random() < 0.5:
                os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGSTOP]))
            pause_until = time.monotonic() + rng.uniform(0.5, 4.0)
            scene.until(lambda: time.monotonic() > pause_until)  # noqa: B023 (called here)
        camera.mode = "good"
        held.append(machine.resident_bytes(os.getpid()) or 0)
        grown = [(size - held[0]) >> 20 for size in held[1:]]
        log.info("%d frames, %d events, memory grew, MiB by tenths: %s", seen, events + len(scene.events), grown)
        assert grown[-1] < 40
        assert grown[-1] - grown[len(grown) // 2 - 1] < 8, "the second half takes memory that the first did not"
