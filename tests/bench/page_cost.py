"""What the page costs inspection: one camera at 30 fps, the page off, on, watched and hammered, interleaved.

    PYTHONPATH=.:tests python tests/bench/page_cost.py [ROUNDS]

Prints for each mode: frames, p50 and p99 from grab to verdict, the median over the windows, ms; p99 as a share of that
without a page in the same round, the median over the rounds; late and dropped frames; the processor time of the daemon
with its camera and its page, as a share of a core; and the most memory that the page process had for itself, MB.
"""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from fakes.ports import free_port
from fakes.waiting import until

MODES: Final = ("off", "on", "one viewer", "four hammer")
WINDOW_S: Final = 8
WINDOWS: Final = 3
"""Of one start; the first one, with the start in it, does not count."""
LINE: Final = re.compile(r"top: running, [\d.]+ fps, ms p50 ([\d.]+) p95 [\d.]+ p99 ([\d.]+) .*? max [\d.]+, ([^;]*);")


@dataclass(frozen=True)
class Window:
    """p50, p99: ms.  late: with the dropped ones.  core: share of the start as a whole.  page_mb: private, at most."""

    p50: float
    p99: float
    frames: int
    late: int
    core: float
    page_mb: float


def measure(mode: str, folder: Path) -> list[Window]:
    """One start of the daemon."""
    port, config, log = free_port(), folder / "config.yaml", folder / "log"
    camera = {"name": "top", "source": "strip:?width=1600&height=256&seed=3", "fps": 30, "tile_px": 128}
    settings = {
        "node": "bench",
        "state_dir": str(folder / "var"),
        "report_s": WINDOW_S,
        "log": {"format": "plain"},
        "mqtt": {"broker": f"embedded:{free_port()}"},
        "metrics": {"listen": None},
        "web": {"listen": None if mode == "off" else f"127.0.0.1:{port}"},
        "cameras": [camera],
    }
    config.write_text(yaml.safe_dump(settings))
    run_s = WINDOW_S * WINDOWS + 2
    command = [sys.executable, "-m", "edge.cli", "run", "-c", str(config), "--for", f"{run_s}s"]
    with log.open("wb") as file:
        daemon = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        with viewers(mode, port), memory_of_page(daemon.pid) as page_mb:
            _, status, used = os.wait4(daemon.pid, 0)
            daemon.returncode = os.waitstatus_to_exitcode(status)
    finally:
        daemon.kill()
    share = (used.ru_utime + used.ru_stime) / run_s
    found = []
    for p50, p99, counts in LINE.findall(log.read_text())[1:WINDOWS]:
        words = counts.split()
        frames = {words[n]: int(words[n + 1]) for n in range(0, len(words) - 1, 2) if words[n + 1].isdigit()}
        late = frames.get("late", 0) + frames.get("dropped", 0)
        found.append(Window(float(p50), float(p99), sum(frames.values()), late, share, max(page_mb, default=0.0)))
    return found


@contextmanager
def memory_of_page(daemon: int) -> Iterator[list[float]]:
    """Private memory of the daemon's page process, MB, read each second."""
    found: list[float] = []
    over = threading.Event()

    def read() -> None:
        while not over.wait(1.0):
            for task in Path(f"/proc/{daemon}/task").glob("*/children"):
                with suppress(OSError):
                    pids = [int(pid) for pid in task.read_text().split()]
                    found.extend(private_mb(pid) for pid in pids if is_page(pid))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def is_page(pid: int) -> bool:
    return b"edge.web" in Path(f"/proc/{pid}/cmdline").read_bytes()


def private_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return sum(int(kb) for kb in re.findall(r"Private_(?:Clean|Dirty): +(\d+)", text)) / 1024


@contextmanager
def viewers(mode: str, port: int) -> Iterator[None]:
    """Look at the node in the way of this mode, from another process with the lowest priority."""
    if mode in ("off", "on"):
        yield
        return
    watcher = os.fork()
    if watcher == 0:
        os.nice(19)
        try:
            (watch if mode == "one viewer" else hammer)(port)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(watcher, 9)
        os.waitpid(watcher, 0)


def watch(port: int) -> None:
    """One viewer, as the page in a browser: the live stream, and five pictures a second."""
    until(lambda: is_served(port), 60)

    def read() -> None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/live", timeout=60) as stream:
            while stream.readline():
                pass

    threading.Thread(target=read, daemon=True).start()
    after = ""
    with suppress(OSError):
        while True:
            url = f"http://127.0.0.1:{port}/api/v1/cameras/top/frame?max_fps=5&longest_px=1600{after}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                answer.read()
                if answer.status == 200:
                    frame = json.loads(answer.headers["Defectd-Frame"])
                    after = f"&after={frame['epoch']}.{frame['number']}"
            time.sleep(0.15)


def is_served(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def hammer(port: int) -> None:
    """Four viewers that ask for the state and for pictures as fast as they get them."""

    def ask() -> None:
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/state", timeout=10).read()
                url = f"http://127.0.0.1:{port}/api/v1/cameras/top/frame"
                urllib.request.urlopen(url, timeout=10).read()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(rounds: int) -> None:
    found: dict[str, list[list[Window]]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        for mode in MODES[number % len(MODES) :] + MODES[: number % len(MODES)]:
            with tempfile.TemporaryDirectory() as folder:
                found[mode].append(measure(mode, Path(folder)))
    for mode, starts in found.items():
        windows = [window for start in starts for window in start]
        p50, p99, core = (statistics.median(getattr(w, name) for w in windows) for name in ("p50", "p99", "core"))
        ratios = [p99_of(start) / p99_of(off) for start, off in zip(starts, found["off"], strict=True)]
        sys.stdout.write(
            f"{mode:12} n {sum(w.frames for w in windows):6} in {len(windows)} windows of {rounds} rounds  "
            f"p50 {p50:5.2f}  p99 {p99:5.2f}  ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})  late {sum(w.late for w in windows)}  core {core:.3f}  "
            f"page {max(w.page_mb for w in windows):.1f} MB\n"
        )


def p99_of(start: list[Window]) -> float:
    return statistics.median(window.p99 for window in start)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
