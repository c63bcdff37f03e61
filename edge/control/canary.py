"""Compares a canary model's unsure and missed rates with those of the previous model.

What shows from the first frame on (a call that fails, scores that are not numbers) the inspection loop answers itself,
at once. This module judges what takes many frames: the share of frames that are unsure, and what the model costs in
time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from edge.host.clock import NS_PER_S
from edge.pipeline.camera_session import CameraSession

MIN_FRAMES: Final = 100
"""Minimum frames per camera before judging."""
MARGIN: Final = 0.05
"""A share may rise by this much: the surface of the strip changes too."""
SIGMAS: Final = 4.0
"""It may also rise by this many standard errors: few frames prove nothing."""

Judgement = Literal["watching", "good", "unsure", "missed"]


@dataclass(frozen=True, slots=True)
class Record:
    """What one camera's frames came to, since some moment.

    unsure: inspected whole, without a clear verdict.  missed: late, dropped because they waited, or inspected in part.
    """

    delivered: int = 0
    inspected: int = 0
    unsure: int = 0
    missed: int = 0

    @classmethod
    def of(cls, session: CameraSession) -> Record:
        """The counts of a camera since the start of the daemon."""
        total = session.counters.account.total()
        frames, partial = total["frames"], total["partial"]
        inspected = frames["ok"] + frames["defect"] + frames["unsure"]
        waited = frames["dropped"] - total["paused_frames"]
        # Frames inspected in part without a defect are unsure for want of time; with a defect the verdict is complete.
        unsure = max(0, frames["unsure"] - partial)
        return cls(total["delivered"], inspected, unsure, frames["late"] + waited + partial)

    def since(self, earlier: Record) -> Record:
        """The difference to an earlier record."""
        return Record(*(max(0, a - b) for a, b in zip(self.as_tuple(), earlier.as_tuple(), strict=True)))

    def as_tuple(self) -> tuple[int, int, int, int]:
        return self.delivered, self.inspected, self.unsure, self.missed

    def as_json(self) -> dict[str, int]:
        return asdict(self)


class Canary:
    """Watches a canary: compares the frames after the change of the model with those before it."""

    def __init__(self, before: Mapping[str, Record], at: Mapping[str, Record], now_ns: int, canary_s: float) -> None:
        """before: the previous model's record, by camera.  at: the counts at the change.

        canary_s: how long the watch takes; without enough frames at any camera it takes longer.
        """
        self._before = dict(before)
        self._at = dict(at)
        self.canary_s = canary_s
        self._until_ns = now_ns + int(canary_s * NS_PER_S)

    def judge(self, now: Mapping[str, Record], now_ns: int) -> tuple[Judgement, str]:
        """Judge by the present counts of each camera.  Returns the judgement, for `unsure` and `missed` with reason."""
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

    def comparison(self, now: Mapping[str, Record]) -> dict[str, dict[str, dict[str, int]]]:
        """What `judge` compares, for people: by camera the counts of the previous model and of this one."""
        return {
            name: {
                "before": self._before.get(name, Record()).as_json(),
                "after": record.since(self._at.get(name, Record())).as_json(),
            }
            for name, record in now.items()
        }

    def left_s(self, now_ns: int) -> float:
        """How long the watch still takes, if there are frames enough."""
        return max(0.0, (self._until_ns - now_ns) / NS_PER_S)

    def excuse(self, now: Mapping[str, Record]) -> None:
        """The canary did not cause the missed frames: from now on their share counts as usual."""
        for name, record in now.items():
            at, before = self._at.get(name, Record()), self._before.get(name, Record())
            after = record.since(at)
            self._before[name] = Record(after.delivered, before.inspected, before.unsure, after.missed)
            self._at[name] = Record(record.delivered, at.inspected, at.unsure, record.missed)


def _rise(before: int, of_before: int, after: int, of_after: int) -> str:
    """In words, if the share has risen by more than the margin and more than chance explains; else empty."""
    if of_before < MIN_FRAMES or of_after < MIN_FRAMES:
        return ""
    old, new = before / of_before, after / of_after
    pooled = (before + after) / (of_before + of_after)
    error = math.sqrt(pooled * (1 - pooled) * (1 / of_before + 1 / of_after))
    if new - old <= MARGIN or new - old <= SIGMAS * error:
        return ""
    return f"{new:.1%} of {of_after}, with the previous model {old:.1%} of {of_before}"
