"""A second model beside the one that decides: it judges a share of the frames, and what it judges otherwise is counted.

It never decides, and it only runs when every frame that may come meanwhile would still be in time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge.frame import Gray
from edge.host.clock import Clock
from edge.pipeline.scheduler import Cost
from edge.vision.inspector import Inspector, Verdict

log = logging.getLogger(__name__)

SPARE: Final = 1.5
"""So many times its expected duration must be free."""
MAX_FAILURES: Final = 10
"""In a row: then it is left alone until the next configuration."""


@dataclass(slots=True)
class Tally:
    """Frames of one camera.  otherwise: by "ours>its" state, `class` where only the classes differ."""

    frames: int = 0
    otherwise: dict[str, int] = field(default_factory=dict)
    no_time: int = 0
    failed: int = 0

    @property
    def disagreed(self) -> int:
        return sum(tuple(self.otherwise.values()))

    def as_json(self) -> dict[str, Any]:
        counts = {"frames": self.frames, "disagreed": self.disagreed, "no_time": self.no_time, "failed": self.failed}
        return {**counts, "otherwise": dict(self.otherwise)}


class Shadow:
    """Owned by the line; other threads may read the tallies.

    model: name, version and sha256.  share: of the frames, 0 to 1.  inspectors: one for each camera, its own.
    """

    def __init__(
        self, model: Mapping[str, str], share: float, inspectors: Mapping[str, Inspector], clock: Clock
    ) -> None:
        self.model = dict(model)
        self.share = share
        self.tallies: Mapping[str, Tally] = {name: Tally() for name in inspectors}
        self._inspectors = inspectors
        self._clock = clock
        self._cost = {name: Cost() for name in inspectors}
        self._owed = dict.fromkeys(inspectors, 0.0)
        self._failures = 0

    def watch(self, camera: str, pixels: Gray, verdict: Verdict, spare_ns: int) -> None:
        """Judge this frame too, if it is its turn and there is time.  spare_ns: how long the line may be kept."""
        tally = self.tallies.get(camera)
        if tally is None or verdict.skipped or verdict.state == "bad_image" or self._failures >= MAX_FAILURES:
            return
        self._owed[camera] += self.share
        if self._owed[camera] < 1.0:
            return
        self._owed[camera] -= 1.0
        inspector, cost = self._inspectors[camera], self._cost[camera]
        try:
            inspector.follow(pixels)
            # Before the first time its cost is taken to be that of the model it stands beside.
            expected_ns = cost.of(inspector.tiles(pixels)) or verdict.preprocess_ns + verdict.inference_ns
            if SPARE * expected_ns > spare_ns:
                tally.no_time += 1
                return
            began_ns = self._clock.monotonic_ns()
            its = inspector.inspect(pixels, looked=True)
        except Exception as error:  # noqa: BLE001 (it only looks on: what it does wrong costs nothing but its word)
            self._fail(tally, str(error))
            return
        cost.learn(its.tiles, its.inference_ns, self._clock.monotonic_ns() - began_ns)
        if its.broken:
            self._fail(tally, "its scores are no numbers")
            return
        self._failures = 0
        tally.frames += 1
        how = _difference(verdict, its)
        if how:
            tally.otherwise[how] = tally.otherwise.get(how, 0) + 1

    def _fail(self, tally: Tally, reason: str) -> None:
        tally.failed += 1
        self._failures += 1
        if self._failures == MAX_FAILURES:
            log.error("the shadow model failed %d times in a row and is left alone: %s", MAX_FAILURES, reason)

    def as_json(self, camera: str) -> dict[str, Any] | None:
        """For the state message of a camera."""
        tally = self.tallies.get(camera)
        return None if tally is None else {"model": self.model, "share": self.share, **tally.as_json()}


def _difference(ours: Verdict, its: Verdict) -> str:
    if ours.state != its.state:
        return f"{ours.state}>{its.state}"
    classes = [{region.class_name for region in verdict.detections.regions} for verdict in (ours, its)]
    return "class" if classes[0] != classes[1] else ""
