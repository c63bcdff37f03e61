"""What the page costs inspection: one camera at 30 fps, the page off, on, watched and hammered, interleaved.

    PYTHONPATH=.:tests python tests/bench/page_cost.py [ROUNDS]

Prints for each mode: frames, p50 and p99 from grab to verdict, the median over the windows, ms; late frames; and the
processor time of the daemon with its camera and its page, as a share of a core.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import yaml
from fakes.page_client import PageClient
from fakes.ports import free_port
from fakes.waiting import until

from edge.delivery.page.messages import CameraWant

MODES: Final = ("off", "on", "watched", "four hammer")
WINDOW_S: Final = 8
WINDOWS: Final = 3
"""Of one start; the first one, with the start in it, does not count."""
LINE: Final = re.compile(r"top: running, [\d.]+ fps, ms p50 ([\d.]+) p95 [\d.]+ p99 ([\d.]+) .*? max [\d.]+, ([^;]*);")


def measure(mode: str, folder: Path) -> list[tuple[float, float, int, int, float]]:
    """One start of the daemon.  Returns for each window: p50, p99, frames, late frames, share of a core."""
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
        with viewers(mode, folder / "var" / "web.sock", port):
            _, status, used = os.wait4(daemon.pid, 0)
            daemon.returncode = os.waitstatus_to_exitcode(status)
    finally:
        daemon.kill()
    share = (used.ru_utime + used.ru_stime) / run_s
    found = []
    for p50, p99, counts in LINE.findall(log.read_text())[1:WINDOWS]:
        words = counts.split()
        frames = {words[n]: int(words[n + 1]) for n in range(0, len(words) - 1, 2) if words[n + 1].isdigit()}
        found.append(
            (float(p50), float(p99), sum(frames.values()), frames.get("late", 0) + frames.get("dropped", 0), share)
        )
    return found


@contextmanager
def viewers(mode: str, path: Path, port: int) -> Iterator[None]:
    """Look at the node in the way of this mode, from another process with the lowest priority."""
    if mode in ("off", "on"):
        yield
        return
    watcher = os.fork()
    if watcher == 0:
        os.nice(19)
        try:
            (watch if mode == "watched" else hammer)(path, port)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(watcher, 9)
        os.waitpid(watcher, 0)


def watch(path: Path, _port: int) -> None:
    """One viewer: five pictures a second."""
    until(path.exists, 60)
    with suppress(EOFError, OSError), PageClient(path) as client:
        while True:
            client.want({"top": CameraWant(5.0, 1600)})
            client.next("frame", 60)


def hammer(_path: Path, port: int) -> None:
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
    found: dict[str, list[tuple[float, float, int, int, float]]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        for mode in MODES[number % len(MODES) :] + MODES[: number % len(MODES)]:
            with tempfile.TemporaryDirectory() as folder:
                found[mode] += measure(mode, Path(folder))
    for mode, windows in found.items():
        p50, p99, share = (statistics.median(window[n] for window in windows) for n in (0, 1, 4))
        frames, late = (sum(window[n] for window in windows) for n in (2, 3))
        sys.stdout.write(
            f"{mode:12} n {frames:6} in {len(windows)} windows  p50 {p50:5.2f}  p99 {p99:5.2f}  late {late}  "
            f"core {share:.3f}\n"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
