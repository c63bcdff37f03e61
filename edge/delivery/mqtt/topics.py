"""The topic tree of a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CAMERA_TOPICS: Final = ("state", "event", "coverage")
"""Last levels of a camera's topics. Consumers subscribe to PREFIX/+/+/LEVEL: nothing else may be published there."""


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one node.  The camera name `node` stands for the node itself."""

    prefix: str
    node: str

    @property
    def status(self) -> str:
        return f"{self.prefix}/{self.node}/status"

    def state(self, camera: str) -> str:
        return f"{self.prefix}/{self.node}/{camera}/state"

    def event(self, camera: str) -> str:
        return f"{self.prefix}/{self.node}/{camera}/event"

    def coverage(self, camera: str) -> str:
        return f"{self.prefix}/{self.node}/{camera}/coverage"

    @property
    def coil_report(self) -> str:
        """Summary of the last coil's report."""
        return f"{self.prefix}/{self.node}/coil/report"

    @property
    def doctor(self) -> str:
        """`defectd doctor` publishes here, to test whether this node may publish."""
        return f"{self.prefix}/{self.node}/doctor"

    def command(self, verb: str) -> str:
        """verb: `+` for a subscription to all commands."""
        return f"{self.prefix}/{self.node}/cmd/{verb}"
