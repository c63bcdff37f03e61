"""Outputs: further ways to publish what the node finds, beside the JSON events over MQTT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

OutputState = Literal["running", "restarting"]


class Output(Protocol):
    """One running output: `SparkplugOutput`, or a fake.  No method but `stop` waits."""

    def start(self) -> None: ...
    def wake(self) -> None: ...
    def set_properties(self, values: Mapping[str, str | int | float | None]) -> None: ...
    def state(self, camera: str, message: Mapping[str, Any]) -> None: ...
    def report(self, camera: str, *, fps: float, p50_ms: float, p99_ms: float, coverage: Mapping[str, Any]) -> None: ...
    def ask_stop(self, timeout_s: float) -> None: ...
    def stop(self, timeout_s: float) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    @property
    def beat_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """How one output is doing, for the status message, metrics and the doctor."""

    name: str
    state: OutputState
    since_ns: int
    """Monotonic, since when it is in this state."""
    restarts: int
    """Since the start of the node."""
    last_error: str | None
    """Why it was restarted last, without credentials."""
