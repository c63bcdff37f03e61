"""The state of one camera, as state messages and metrics publish it. Pure: a table of triggers and a table of names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

StateName = Literal["running", "no_signal", "frozen", "bad_image", "paused"]
"""The published states."""
STATES: Final[tuple[StateName, ...]] = get_args(StateName)
Signal = Literal["opening", "running", "lost", "ended", "removed", "stopped"]
"""Whether the source delivers frames, and why not: the supervisor's states, and the two ends of a session."""
Trigger = Literal["opened", "lost", "ended", "removed", "stopped", "fault", "restored", "paused", "resumed", "drift"]
FROZEN: Final = "frozen"
"""The one image fault that is a state of its own."""

NO_SIGNAL_REASONS: Final[dict[Signal, str]] = {
    "opening": "opening",
    "ended": "end of recording",
    "removed": "removed",
    "stopped": "stopped",
}
PAUSED_REASON: Final = "by a command"


@dataclass(frozen=True, slots=True)
class CameraState:
    """What is true of a camera at one moment. `name` and `reason` are published."""

    signal: Signal = "opening"
    lost_reason: str = ""
    """Why the signal is lost."""
    fault: str | None = None
    """What is wrong with the picture, while it is bad. A lost camera keeps it: it may come back with the same fault."""
    is_paused: bool = False
    drifted: tuple[str, ...] = ()
    """Figures that differ from the calibration."""

    def after(self, trigger: Trigger, reason: str = "", drifted: tuple[str, ...] = ()) -> CameraState:
        """The next state.  reason: of a lost signal or a fault.  drifted: figures that have drifted by now."""
        match trigger:
            case "opened":
                return replace(self, signal="running", lost_reason="", drifted=drifted)
            case "lost" | "ended" | "removed" | "stopped":
                return replace(self, signal=trigger, lost_reason=reason, drifted=drifted)
            case "fault":
                return replace(self, fault=reason, drifted=drifted)
            case "restored":
                return replace(self, fault=None, drifted=drifted)
            case "paused" | "resumed":
                return replace(self, is_paused=trigger == "paused", drifted=drifted)
            case "drift":
                return replace(self, drifted=drifted)

    @property
    def name(self) -> StateName:
        """The first that applies: no signal, paused, a fault of the picture, running."""
        if self.signal != "running":
            return "no_signal"
        if self.is_paused:
            return "paused"
        if self.fault is not None:
            return "frozen" if self.fault == FROZEN else "bad_image"
        return "running"

    @property
    def reason(self) -> str:
        """Why the camera is in this state; "" for running without drift."""
        match self.name:
            case "no_signal":
                return NO_SIGNAL_REASONS.get(self.signal, self.lost_reason)
            case "paused":
                return PAUSED_REASON
            case "frozen" | "bad_image":
                return self.fault or ""
            case "running":
                return f"drifted: {', '.join(self.drifted)}" if self.drifted else ""
