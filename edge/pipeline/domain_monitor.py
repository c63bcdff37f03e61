"""Reports a camera that shows another kind of steel than the model was trained on; its defects then have no class."""

from __future__ import annotations

import logging

from edge.frame import Frame
from edge.host.clock import NS_PER_S, Clock
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.reporting import Reporter
from edge.vision.domain import DomainWatch
from edge.vision.inspector import Verdict

log = logging.getLogger(__name__)


class DomainMonitor:
    """Feeds the domain watch of each session.  Owned by the inspection loop."""

    def __init__(self, reporter: Reporter, clock: Clock) -> None:
        self._reporter = reporter
        self._clock = clock

    def compare(self, session: CameraSession, frame: Frame, verdict: Verdict) -> None:
        """Compare an inspected frame with the training's surface, if that is due; emit when the answer changes."""
        surface = session.inspector.surface
        if session.domain is None or session.domain.surface is not surface:
            if session.domain is None and surface is None:
                return
            self._restart(session)
        watch = session.domain
        if watch is None:
            return
        now_ns = self._clock.monotonic_ns()
        if verdict.scores is None or not watch.due(now_ns):
            return
        answer = watch.step(session.inspector.suspects(verdict), now_ns)
        if answer == "outside":
            session.inspector.names_known = False
            session.domain_since_ns = self._clock.wall_ns()
            remedy = _remedy(session)
            log.warning(
                "camera %s shows steel unlike that of the model's training: its defects are `unknown`. %s",
                session.name,
                remedy,
            )
            detail = {"distance": watch.median, "tiles": watch.tiles, "remedy": remedy}
            self._reporter.emit(session, "model.out_of_domain", frame=frame, detail=detail)
            self._reporter.publish_state(session)
        elif answer == "inside" and session.domain_since_ns is not None:
            session.inspector.names_known = True
            self._end(session, "measured", watch.median)

    def _restart(self, session: CameraSession) -> None:
        """The model, the taught classes or the settings have changed: what was found about the surface is void."""
        surface = session.inspector.surface
        session.inspector.names_known = True
        session.domain = None if surface is None else DomainWatch(surface)
        if session.domain_since_ns is not None:
            taught = session.inspector.taught is not None
            self._end(session, "taught" if taught else "changed", None)

    def _end(self, session: CameraSession, reason: str, distance: float | None) -> None:
        """Emit that defects have names of classes again."""
        assert session.domain_since_ns is not None
        seconds = round((self._clock.wall_ns() - session.domain_since_ns) / NS_PER_S, 3)
        session.domain_since_ns = None
        log.info("camera %s: its defects have class names again (%s)", session.name, reason)
        detail = {"reason": reason, "seconds": seconds, "distance": distance}
        self._reporter.emit(session, "model.in_domain", detail=detail)
        self._reporter.publish_state(session)


def _remedy(session: CameraSession) -> str:
    """Without a region, what is beside the strip was inspected, too: it is unlike any steel."""
    teach = f"`defectd calibrate classes --camera {session.name}` with a few labelled tiles of each class"
    if session.camera.roi is None:
        region = f"`defectd calibrate auto --camera {session.name}`"
        return f"Run {region} first: it finds the region. If the warning stays, run {teach}"
    return f"Run {teach}"
