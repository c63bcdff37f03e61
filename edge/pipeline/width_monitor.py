"""The width of the strip along the coil, and whether it is within its limits."""

from __future__ import annotations

import logging
from typing import Any

from edge.coverage.strip_position import PositionTracker, StripPosition
from edge.coverage.strip_trace import WidthNote
from edge.coverage.width_curve import WidthSample
from edge.frame import Frame
from edge.host.clock import NS_PER_S, Clock
from edge.pipeline.camera_session import CameraSession, size_px
from edge.pipeline.reporting import Reporter

log = logging.getLogger(__name__)


class WidthMonitor:
    """Measures each frame in which both edges are seen, and emits what leaves its limits.  Owned by the loop."""

    def __init__(self, reporter: Reporter, strip: PositionTracker, clock: Clock) -> None:
        self._reporter = reporter
        self._strip = strip
        self._clock = clock

    def measure(self, session: CameraSession, frame: Frame, position: StripPosition | None) -> None:
        """Take the width that a frame shows.  position: of the frame; the width is that of its middle."""
        width_mm = session.width_mm(size_px(frame))
        if width_mm is None:
            return
        coil, at_m = self._strip.coil, None
        if position is not None and session.heading is not None:
            coil, at_m = session.on_coil(position.plus(session.counters.view_m / 2), self._strip)
        sample = session.width.curve.add(width_mm, coil, at_m, self._clock.monotonic_ns())
        if sample is None:
            return
        self._reporter.note(
            WidthNote(session.name, sample.coil, sample.at_m, sample.median_mm, sample.least_mm, sample.most_mm)
        )
        self._check(session, sample)

    def _check(self, session: CameraSession, sample: WidthSample) -> None:
        state = session.width
        if state.limits is None:
            return
        detail: dict[str, Any] = {
            "width_mm": round(sample.median_mm, 2),
            "nominal_mm": state.limits.nominal_mm,
            "tolerance_mm": state.limits.tolerance_mm,
            "at_m": sample.at_m,
            "coil": sample.coil,
        }
        match state.limits.check(sample.median_mm):
            case "out":
                state.out_since_ns = self._clock.wall_ns()
                log.warning("camera %s: the strip is %.2f mm wide", session.name, sample.median_mm)
                self._reporter.emit(session, "width.out", detail=detail)
                self._reporter.publish_state(session)
            case "restored":
                now_ns = self._clock.wall_ns()
                since_ns, state.out_since_ns = state.out_since_ns or now_ns, None
                detail["seconds"] = round((now_ns - since_ns) / NS_PER_S, 3)
                log.info("camera %s: the width of the strip is in order again", session.name)
                self._reporter.emit(session, "width.restored", detail=detail)
                self._reporter.publish_state(session)
