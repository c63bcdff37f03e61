"""The first time of a new model, held against the one before it.

What can be seen from the first frame on (a call that fails, scores that are no numbers) the line answers itself, at
once. Here is judged what takes many frames: the share of frames that it leaves unsure, and what it costs in time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from edge.host.clock import NS_PER_S
from edge.pipeline.camera_session import CameraSession

MIN_FRAMES: Final = 100
"""Below that nothing is said of a camera."""
MARGIN: Final = 0.05
"""A share may be larger by so much: the surface of the strip changes too."""
SIGMAS: Final = 4.0
"""And by so many standard errors: few frames prove nothing."""

Judgement = Literal["watching", "good", "unsure", "missed"]


@dataclass(frozen=True, slots=True)
class Record:
    """What was done at one camera, in frames since some moment.

    unsure: inspected whole and left in doubt.  missed: late, dropped because they waited, or inspected in part.
    """

    delivered: int = 0
    inspected: int = 0
    unsure: int = 0
    missed: int = 0

    @classmethod
    def of(cls, session: CameraSession) -> Record:
        """Since the start of the daemon."""
        total = session.counters.account.total()
        frames, partial = total["frames"], total["partial"]
        inspected = frames["ok"] + frames["defect"] + frames["unsure"]
        waited = frames["dropped"] - total["paused_frames"]
        # Frames in part without a finding are unsure for want of time, not of knowledge; one with a finding is no harm.
        unsure = max(0, frames["unsure"] - partial)
        return cls(total["delivered"], inspected, unsure, frames["late"] + waited + partial)

    def since(self, earlier: Record) -> Record:
        return Record(*(max(0, a - b) for a, b in zip(self.as_tuple(), earlier.as_tuple(), strict=True)))

    def as_tuple(self) -> tuple[int, int, int, int]:
        return self.delivered, self.inspected, self.unsure, self.missed

    def as_json(self) -> dict[str, int]:
        return asdict(self)


class Canary:
    """Compares what comes after the change with what was before.

    before: the predecessor's record, by camera.  at: what was counted at the change.  canary_s: how long it takes at
    least; without enough frames at any camera it takes longer.
    """

    def __init__(self, before: Mapping[str, Record], at: Mapping[str, Record], now_ns: int, canary_s: float) -> None:
        self._before = dict(before)
        self._at = dict(at)
        self._until_ns = now_ns + int(canary_s * NS_PER_S)

    def judge(self, now: Mapping[str, Record], now_ns: int) -> tuple[Judgement, str]:
        """now: what is counted now, by camera.  The judgement, and for `unsure` and `missed` the complaint."""
        after = {name: record.since(self._at.get(name, Record())) for name, record in now.items()}
        for name, record in after.items():
            before = self._before.get(name, Record())
            rates = _rise(before.unsure, before.inspected, record.unsure, record.inspected)
            if rates:
                return "unsure", f"camera {name}: unsure frames: {rates}"
            rates = _rise(before.missed, before.delivered, record.missed, record.delivered)
            if rates:
                return "missed", f"camera {name}: frames late, dropped or inspected in part: {rates}"
        enough = any(record.inspected >= MIN_FRAMES for record in after.values())
        return ("good" if enough and now_ns >= self._until_ns else "watching"), ""

    def excuse(self, now: Mapping[str, Record]) -> None:
        """What was missed is not the model's doing: from here on that much is taken to be usual."""
        for name, record in now.items():
            at, before = self._at.get(name, Record()), self._before.get(name, Record())
            after = record.since(at)
            self._before[name] = Record(after.delivered, before.inspected, before.unsure, after.missed)
            self._at[name] = Record(record.delivered, at.inspected, at.unsure, record.missed)


def _rise(before: int, of_before: int, after: int, of_after: int) -> str:
    """In words, if the share has risen by more than the margin and more than chance explains; else ""."""
    if of_before < MIN_FRAMES or of_after < MIN_FRAMES:
        return ""
    old, new = before / of_before, after / of_after
    pooled = (before + after) / (of_before + of_after)
    error = math.sqrt(pooled * (1 - pooled) * (1 / of_before + 1 / of_after))
    if new - old <= MARGIN or new - old <= SIGMAS * error:
        return ""
    return f"{new:.1%} of {of_after}, with the model before {old:.1%} of {of_before}"
