"""Reports of a real daemon to a socket that plays systemd: ready, alive, stuck, stopping."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node import Node, until

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
STUCK = ROOT / "tests" / "plant" / "stuck.py"


class Systemd:
    """The receiver of sd_notify: keeps all reports in order with their times."""

    def __init__(self, path: Path, watchdog_s: float) -> None:
        self.env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}
        self._queue: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._received: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(65_536):
            self._queue.put((time.monotonic(), data.decode()))

    def received(self, prefix: str) -> list[tuple[float, str]]:
        while not self._queue.empty():
            self._received.append(self._queue.get())
        return [(at, words) for at, words in self._received if words.startswith(prefix)]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.env["NOTIFY_SOCKET"])
        self._thread.join(5)
        self._socket.close()


@contextmanager
def systemd(path: Path, watchdog_s: float) -> Iterator[Systemd]:
    there = Systemd(path, watchdog_s)
    try:
        yield there
    finally:
        there.close()


@contextmanager
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never sends a byte: it stands for the worst dead broker or camera."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def test_dead_camera_and_dead_broker_do_not_trip_the_watchdog(tmp_path: Path) -> None:
    """The node is ready without both, feeds the watchdog, reports both in its status, and stops in order."""
    with silent_port() as port, systemd(tmp_path / "notify", 4.0) as manager:
        camera = {"name": "dead", "source": f"rtsp://127.0.0.1:{port}/x", "open_timeout_s": 1}
        with Node(tmp_path / "node", port, [camera]) as node:
            node.start(env=manager.env)
            (ready_at, _), *_ = until(lambda: manager.received("READY=1"), 20, f"ready\n{node.log()}")
            until(lambda: len(manager.received("WATCHDOG=1")) >= 10, 20, "more than a watchdog's period of feeding")
            fed = [at for at, _ in manager.received("WATCHDOG=1")]
            assert max(b - a for a, b in zip([ready_at, *fed], fed, strict=False)) < 4.0
            assert not manager.received("WATCHDOG=trigger")
            status = until(lambda: manager.received("STATUS=0 of 1 cameras run (dead no_signal)"), 5, "the status")
            assert "broker AWAY" in status[-1][1]
            assert node.stop() == 0
            assert len(manager.received("STOPPING=1")) == 1
            assert len(manager.received("READY=1")) == 1


def test_node_with_a_refused_configuration_is_never_ready(tmp_path: Path) -> None:
    """The daemon ends with 78 and does not report READY."""
    with systemd(tmp_path / "notify", 30.0) as manager, Node(tmp_path / "node", 1, []) as node:
        node.start(env=manager.env)
        assert node.process is not None
        assert node.process.wait(20) == 78
        assert not manager.received("READY=1")


@pytest.mark.parametrize("loop", ["inspection", "recorder", "publisher", "cameras"])
def test_loop_that_hangs_trips_the_watchdog(loop: str, tmp_path: Path, free_port: int) -> None:
    """The daemon names the loop and the place where it hangs, and stops feeding the watchdog."""
    order = tmp_path / "order"
    camera = {"name": "top", "source": "strip:?seed=3", "fps": 30, "budget_ms": 1000}
    with systemd(tmp_path / "notify", 4.0) as manager, Node(tmp_path / "node", free_port, [camera]) as node:
        node.start(entry=(str(STUCK),), env={**manager.env, "DEFECTD_STUCK": str(order), "PYTHONPATH": str(ROOT)})
        until(lambda: manager.received("STATUS=1 of 1 cameras run"), 20, f"a running camera\n{node.log()}")
        assert not manager.received("WATCHDOG=trigger")
        order.write_text(loop)
        until(lambda: manager.received("WATCHDOG=trigger"), 20, f"the watchdog\n{node.log()}")
        fed = len(manager.received("WATCHDOG=1"))
        assert f"the thread {loop} has not moved" in node.log()
        assert "threading.Event().wait()" in node.log()
        if loop == "inspection":  # systemd does not act: the node ends by itself, for a supervisor without a watchdog
            assert node.process is not None
            assert node.process.wait(20) == 1
        assert len(manager.received("WATCHDOG=1")) == fed, "the watchdog was fed although a loop hangs"


def test_reload_is_framed_by_reloading_and_ready(tmp_path: Path, free_port: int) -> None:
    """On SIGHUP the daemon reports RELOADING with its start time, then READY, also for a refused file."""
    camera = {"name": "top", "source": "strip:?seed=3", "fps": 30, "budget_ms": 1000}
    with systemd(tmp_path / "notify", 30.0) as manager, Node(tmp_path / "node", free_port, [camera]) as node:
        node.start(env=manager.env)
        until(lambda: manager.received("READY=1"), 20, "ready")
        for count, words in enumerate((node.config.read_text(), "node: [nonsense"), 1):
            node.config.write_text(words)
            os.kill(node.pid, signal.SIGHUP)
            until(lambda n=count: len(manager.received("READY=1")) == n + 1, 10, "the end of the reload")
            started_at, report = manager.received("RELOADING=1")[-1]
            assert abs(int(report.partition("MONOTONIC_USEC=")[2]) / 1e6 - started_at) < 5.0
        assert len(manager.received("RELOADING=1")) == 2
        assert node.stop() == 0


def test_sigabrt_logs_a_traceback_of_every_thread(tmp_path: Path, free_port: int) -> None:
    """systemd ends a process that hangs as a whole by SIGABRT; the log then shows where each thread stood."""
    camera = {"name": "top", "source": "strip:?seed=3", "fps": 30, "budget_ms": 1000}
    with systemd(tmp_path / "notify", 30.0) as manager, Node(tmp_path / "node", free_port, [camera]) as node:
        node.start(env=manager.env)
        until(lambda: manager.received("WATCHDOG=1"), 20, "the first feeding")
        os.kill(node.pid, signal.SIGABRT)
        assert node.process is not None
        assert node.process.wait(10) == -signal.SIGABRT
        log = node.log()
        assert "Fatal Python error: Aborted" in log
        for module in ("loop.py", "recorder.py", "connection.py", "supervisor.py"):
            assert module in log


def test_kernel_kills_a_camera_process_first_when_memory_ends(tmp_path: Path, free_port: int) -> None:
    """Its OOM score is above the daemon's, and it does not inherit systemd's socket."""
    camera = {"name": "top", "source": "strip:?seed=3", "fps": 30, "budget_ms": 1000}
    with systemd(tmp_path / "notify", 30.0) as manager, Node(tmp_path / "node", free_port, [camera]) as node:
        node.start(env=manager.env)
        until(lambda: manager.received("STATUS=1 of 1 cameras run"), 20, "a running camera")
        (child,) = node.children()
        score = lambda pid: int(Path(f"/proc/{pid}/oom_score_adj").read_text())  # noqa: E731
        assert score(child) >= 500 > score(node.pid)
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
