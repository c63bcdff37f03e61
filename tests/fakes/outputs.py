"""Toy outputs: one that works, one that raises, one that hangs, one that dies at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from edge.config import Config
from edge.delivery.output import Output, OutputContext
from edge.delivery.outputs import OutputKind

METHODS = (
    "start",
    "wake",
    "set_properties",
    "set_strip",
    "set_node",
    "state",
    "report",
    "ask_stop",
    "stop",
    "alive",
    "beat_ns",
)


class ToyOutput:
    """Remembers what it receives.  Its thread only moves its heartbeat."""

    def __init__(self, context: OutputContext, name: str = "toy") -> None:
        self.name = name
        self.cameras = [camera.name for camera in context.settings.active_cameras]
        self.received: dict[str, Any] = {}
        self.wakes = 0
        self.beat_ns = context.clock.monotonic_ns()
        self.is_stopped = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def run(self) -> None:
        while not self.is_stopped.wait(0.01):
            self.beat_ns = time.monotonic_ns()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self.wakes += 1

    def set_properties(self, properties: Any) -> None:
        self.received["properties"] = properties

    def set_strip(self, reading: Any) -> None:
        self.received["strip"] = reading

    def set_node(self, status: Any) -> None:
        self.received["node"] = status

    def state(self, camera: str, message: Any) -> None:
        self.received[f"state {camera}"] = message

    def report(self, report: Any) -> None:
        self.received[f"report {report.camera}"] = report

    def ask_stop(self, _timeout_s: float) -> None:
        self.is_stopped.set()

    def stop(self, timeout_s: float) -> bool:
        self.is_stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


class DyingOutput(ToyOutput):
    """Its thread ends at once at every start."""

    def run(self) -> None:
        pass


class HangingOutput(ToyOutput):
    """Its thread hangs and ignores stops until `release` is set."""

    release = threading.Event()

    def run(self) -> None:
        self.release.wait()


class BlockingOutput(ToyOutput):
    """A call hangs until `release` is set."""

    release = threading.Event()

    def state(self, camera: str, message: Any) -> None:
        del camera, message
        self.release.wait()


class RaisingOutput(ToyOutput):
    """Some of its methods, or all of them, raise."""

    def __init__(self, context: OutputContext, name: str = "toy", *, methods: tuple[str, ...] = METHODS) -> None:
        super().__init__(context, name)
        self.methods = methods

    def __getattribute__(self, name: str) -> Any:
        if name in METHODS and name in object.__getattribute__(self, "methods"):
            raise OSError(f"{name} of rtmp://user:secret@host fails")
        return super().__getattribute__(name)


def kind(
    build: Callable[[OutputContext], Output],
    name: str = "toy",
    is_enabled: Callable[[Config], bool] = lambda _settings: True,
) -> OutputKind:
    return OutputKind(name, is_enabled, build)
