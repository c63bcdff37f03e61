"""Compares inspected frames with the calibration, and reports a camera that has drifted from it."""

from __future__ import annotations

import logging
from typing import Any

from edge.frame import Frame
from edge.host.clock import NS_PER_S, Clock
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.reporting import Reporter
from edge.vision import drift
from edge.vision.inspector import PreparedFrame, Verdict

log = logging.getLogger(__name__)


class DriftMonitor:
    """Feeds the drift watch of each session.  Owned by the inspection loop."""

    def __init__(self, reporter: Reporter, clock: Clock) -> None:
        self._reporter = reporter
        self._clock = clock

    def compare(self, session: CameraSession, frame: Frame, prepared: PreparedFrame, verdict: Verdict) -> None:
        """Compare an inspected frame with the calibration, if that is due; emit when drift starts or ends."""
        watch = session.drift
        if watch is None:
            return
        now_ns = self._clock.monotonic_ns()
        if not watch.due(now_ns) or any(misfit.part == "reference" for misfit in session.tracking.misfits):
            return
        stats, distance, unsure = session.inspector.stats(prepared), None, None
        if not verdict.skipped:  # the tiles of a partial frame are chosen by suspicion: no fair sample
            distance = watch.distance(verdict.features, session.inspector.network)
            unsure = bool(verdict.detections.unsure_boxes)
        change = watch.step(drift.Figures(stats.brightness, stats.sharpness, distance, unsure), now_ns)
        if change is None:
            return
        if change.started:
            session.drift_since_ns = session.drift_since_ns or self._clock.wall_ns()
            figures = {name: figure for name, figure in watch.figures().items() if figure["drifted"]}
            log.warning("camera %s has drifted from its calibration: %s", session.name, ", ".join(figures))
            self._reporter.enter(session, "drift")
            detail = {"began": list(change.started), "window_s": watch.window_s, "figures": figures}
            self._reporter.emit(session, "camera.drifted", frame=frame, detail=detail)
        elif session.drift_since_ns is not None:
            self.clear(session, session.drift_since_ns, recalibrated=False)

    def clear(self, session: CameraSession, since_ns: int, *, recalibrated: bool) -> None:
        """Emit that a drift is over.  since_ns: its start, wall time.  recalibrated: the reference was replaced."""
        session.drift_since_ns = None
        log.info("camera %s has no drift from its calibration any more", session.name)
        if session.state.name == "running":
            self._reporter.enter(session, "drift")
        else:
            self._reporter.change_state(session, "drift")
        seconds = round((self._clock.wall_ns() - since_ns) / NS_PER_S, 3)
        detail: dict[str, Any] = {"seconds": seconds, "recalibrated": recalibrated}
        self._reporter.emit(session, "camera.drift_cleared", detail=detail)
