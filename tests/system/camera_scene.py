"""A scene: a supervisor with real camera processes, and its consumer."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from edge.camera.notices import FramesLost, Notice
from edge.camera.supervisor import Supervisor
from edge.config import Camera
from edge.host.clock import SystemClock

PATIENCE_S = 30.0
"""More than any step takes, even on a loaded machine: a test that waits this long has failed."""


def camera(name: str, source: object, **keys: Any) -> Camera:
    return Camera.model_validate({"name": name, "source": str(source), **keys})


class Scene:
    """Pops the frames, keeps their numbers and labels, and the notices; tests wait by `until`."""

    def __init__(self, *cameras: Camera, **supervision: Any) -> None:
        """supervision: keyword arguments of the Supervisor."""
        self.supervisor = Supervisor(cameras, SystemClock(), **supervision)
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.labels: dict[str, list[str]] = defaultdict(list)
        self.latencies_ms: dict[str, list[float]] = defaultdict(list)
        self.notices: list[Notice] = []
        self.supervisor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop(2.0)
        self.supervisor.close()
        assert self.children() == []

    def step(self, timeout_s: float = 0.05) -> None:
        """Take the notices, and pop and release one frame of each camera."""
        self.supervisor.wait(timeout_s)
        for name, _ in self.supervisor.heads():
            frame = self.supervisor.pop(name)
            self.latencies_ms[name].append((time.monotonic_ns() - frame.grabbed_ns) / 1e6)
            self.numbers[name].append(frame.number)
            self.labels[name].append(frame.label)
            assert frame.pixels.ndim == 2
            self.supervisor.release(frame)
        self.notices += self.supervisor.take_notices()

    def until(self, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> float:
        """Consume until the condition holds.  Returns the seconds it took; fails after `limit_s`."""
        start = time.monotonic()
        while not condition():
            took_s = time.monotonic() - start
            assert took_s < limit_s, f"not within {limit_s:g} s: {self.supervisor.snapshot()} {self.notices[-10:]}"
            self.step()
        return time.monotonic() - start

    def idle_until(self, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
        """Wait without consuming."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < limit_s, self.supervisor.snapshot()
            time.sleep(0.005)

    def reported(self, kind: type, name: str | None = None) -> list[Any]:
        return [n for n in self.notices if isinstance(n, kind) and name in (None, n.camera)]

    def lost(self, name: str, *reasons: str) -> int:
        return sum(n.count for n in self.reported(FramesLost, name) if not reasons or n.reason in reasons)

    def more(self, name: str, count: int = 5) -> Callable[[], bool]:
        """A condition: this many frames more than now."""
        goal = len(self.numbers[name]) + count
        return lambda: len(self.numbers[name]) >= goal

    def adds_up(self, name: str) -> bool:
        """The accounting of the supervisor's docstring.  Valid after the supervisor has stopped."""
        self.notices += self.supervisor.take_notices()
        status = self.supervisor.snapshot()[name]
        lost = self.lost(name, "overflow", "no_slot")
        return status.delivered == len(self.numbers[name]) + status.waiting + lost

    def pid(self, name: str) -> int:
        pid = self.supervisor.snapshot()[name].pid
        assert pid is not None
        return pid

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.pid(name), number)

    def children(self) -> Sequence[int]:
        return children_of(os.getpid())


def missing_frames(numbers: Sequence[int], first: int = 0) -> Iterator[int]:
    """The gaps in a camera's frame numbers: frames that were delivered and lost."""
    expected = first
    for number in numbers:
        yield from range(expected, number)
        expected = number + 1


def children_of(parent: int) -> list[int]:
    """The camera processes that this process started."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and b"edge.camera.process" in command:
            found.append(int(folder.name))
    return found
