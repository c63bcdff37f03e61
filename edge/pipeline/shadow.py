"""A second model in shadow mode: it inspects a share of the frames, and its disagreements are counted.

It never decides, and it runs only when every frame that may come meanwhile would still be in time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge.frame import Gray
from edge.host.clock import Clock
from edge.pipeline.scheduler import Cost
from edge.vision.decision import UNKNOWN
from edge.vision.inspector import Inspector, Verdict, never

log = logging.getLogger(__name__)

SPARE_FACTOR: Final = 1.5
"""The shadow model runs only when this many times its expected duration is free."""
MAX_FAILURES: Final = 10
"""Failures in a row after which the shadow model stops, until the next configuration."""


def _nobody(_theirs: Verdict) -> None:
    """Nobody looks at disputes."""


@dataclass(slots=True)
class Tally:
    """Frames of one camera.  otherwise: disagreements by "ours>theirs" state, `class` where only the classes differ."""

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
    """A model in shadow mode.  Owned by the inspection loop; other threads may read the tallies.

    model: name, version and sha256.  share: of the frames, 0 to 1.  inspectors: one for each camera, used by nothing
    else.
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
        """Share of a frame that each camera is due; a frame is inspected when it reaches 1."""
        self._failures = 0

    def compare(
        self,
        camera: str,
        pixels: Gray,
        verdict: Verdict,
        spare_ns: int,
        is_over: Callable[[], bool] = never,
        on_dispute: Callable[[Verdict], None] = _nobody,
    ) -> None:
        """Inspect this frame too, if it is due and there is time.

        verdict: of the deciding model.  spare_ns: how long the inspection loop may be busy with it.  is_over: see
        `Inspector.inspect`.  on_dispute: called with the shadow model's verdict where it differs.
        """
        tally = self.tallies.get(camera)
        if tally is None or verdict.skipped or verdict.state == "bad_image" or self._failures >= MAX_FAILURES:
            return
        self._owed[camera] += self.share
        if self._owed[camera] < 1.0:
            return
        self._owed[camera] -= 1.0
        inspector, cost = self._inspectors[camera], self._cost[camera]
        try:
            prepared = inspector.prepare(pixels, follow=True)
            # Until its cost is measured, it is assumed to be that of the deciding model.
            expected_ns = cost.of(prepared.tiles) or verdict.preprocess_ns + verdict.inference_ns
            if SPARE_FACTOR * expected_ns > spare_ns:
                tally.no_time += 1
                return
            start_ns = self._clock.monotonic_ns()
            theirs = inspector.inspect(prepared, is_over=is_over)
        except Exception as error:  # noqa: BLE001 (the shadow model decides nothing: its failure must stop nothing)
            self._fail(tally, str(error))
            return
        if theirs.skipped:  # the node stops
            return
        cost.learn(theirs.tiles, theirs.inference_ns, self._clock.monotonic_ns() - start_ns)
        if theirs.broken:
            self._fail(tally, "its scores are not finite")
            return
        self._failures = 0
        tally.frames += 1
        difference = _difference(verdict, theirs)
        if difference:
            tally.otherwise[difference] = tally.otherwise.get(difference, 0) + 1
            on_dispute(theirs)

    def _fail(self, tally: Tally, reason: str) -> None:
        tally.failed += 1
        self._failures += 1
        if self._failures == MAX_FAILURES:
            log.error("the shadow model failed %d times in a row and is no longer run: %s", MAX_FAILURES, reason)

    def summary(self) -> dict[str, Any]:
        """The model and the tallies of all cameras."""
        cameras = {name: tally.as_json() for name, tally in self.tallies.items()}
        return {"model": self.model, "share": self.share, "cameras": cameras}

    def as_json(self, camera: str) -> dict[str, Any] | None:
        """For the state message of a camera."""
        tally = self.tallies.get(camera)
        return None if tally is None else {"model": self.model, "share": self.share, **tally.as_json()}


@dataclass(slots=True)
class ShadowSlot:
    """The shadow model in use, or none.  A new configuration may replace it; any thread may read it."""

    current: Shadow | None = None

    def as_json(self, camera: str) -> dict[str, Any] | None:
        """For the state message of a camera; None without a shadow model."""
        return None if self.current is None else self.current.as_json(camera)


def _difference(ours: Verdict, theirs: Verdict) -> str:
    if ours.state != theirs.state:
        return f"{ours.state}>{theirs.state}"
    classes = [{region.class_name for region in verdict.detections.regions} for verdict in (ours, theirs)]
    if UNKNOWN in classes[0] | classes[1]:  # on strange steel neither name counts
        return ""
    return "class" if classes[0] != classes[1] else ""
