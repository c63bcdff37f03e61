"""Gives frames to the people who look: what one frame showed, what was found in it, and where on the strip it was."""

from __future__ import annotations

from collections.abc import Callable

from edge.coverage.accounting import FrameState
from edge.coverage.severity import Severities
from edge.coverage.strip_position import PositionTracker, StripPosition
from edge.delivery.frame_tap import FrameTap, ShownFrame, ShownRegion, ShownTiles
from edge.frame import Frame
from edge.host.clock import Clock
from edge.pipeline.camera_session import CameraSession
from edge.vision.decision import Region
from edge.vision.inspector import PreparedFrame, Verdict


class FrameDisplay:
    """Offers frames to the tap.  Owned by the inspection loop; costs one attribute read while nobody looks."""

    def __init__(
        self, tap: FrameTap, strip: PositionTracker, clock: Clock, severities: Callable[[], Severities] = Severities
    ) -> None:
        """severities: returns the rules in use."""
        self._severities = severities
        self._tap = tap
        self._strip = strip
        self._clock = clock

    def show_missed(
        self, session: CameraSession, frame: Frame, state: FrameState, position: StripPosition | None
    ) -> None:
        """Offer a frame that was not inspected."""
        if self._tap.wanted:
            self._offer(session, frame, position, state, None, None)

    def show(
        self,
        session: CameraSession,
        frame: Frame,
        prepared: PreparedFrame,
        verdict: Verdict,
        position: StripPosition | None,
    ) -> None:
        """Offer an inspected frame, after its tracks were followed."""
        if self._tap.wanted:
            self._offer(session, frame, position, verdict.state, prepared, verdict)

    def _offer(
        self,
        session: CameraSession,
        frame: Frame,
        position: StripPosition | None,
        state: FrameState,
        prepared: PreparedFrame | None,
        verdict: Verdict | None,
    ) -> None:
        now_ns = self._clock.monotonic_ns()
        if not self._tap.is_due(frame.camera, now_ns):
            return
        coil, m = (None, None) if position is None else session.on_coil(position, self._strip)
        self._tap.put(
            ShownFrame(
                frame.camera,
                frame.number,
                frame.grabbed_ns,
                frame.pixels,
                state,
                () if verdict is None else _regions(session, verdict, coil, self._severities()),
                ShownTiles() if verdict is None else ShownTiles(verdict.tiles, verdict.skipped, verdict.outside),
                _roi_px(session, prepared),
                None if m is None else round(m, 3),
                coil,
            ),
            now_ns,
        )


def _regions(
    session: CameraSession, verdict: Verdict, coil: str | None, severities: Severities
) -> tuple[ShownRegion, ...]:
    regions = verdict.detections.regions
    if not regions:
        return ()
    tracks = session.tracking.defects.track_ids()
    shown = []
    for region in regions:
        length_mm, width_mm = _size_mm(session, region)
        severity = severities.of(coil, region.class_name, length_mm, width_mm, session.camera.surface)
        shown.append(
            ShownRegion(
                region.class_name,
                round(region.confidence, 4),
                region.box_px,
                tracks.get(id(region)),
                region.anomaly,
                region.extent_px,
                length_mm,
                severity,
                region.candidates,
            )
        )
    return tuple(shown)


def _size_mm(session: CameraSession, region: Region) -> tuple[float | None, float | None]:
    """Length along the strip and width across it, as far as this frame shows them."""
    ruler, heading = session.ruler, session.heading
    if ruler is None or heading is None:
        return None, None
    _, _, w, h = ruler.box_mm(region.extent_px or region.box_px)
    along, across = (h, w) if heading.direction in ("up", "down") else (w, h)
    return round(along, 1), round(across, 1)


def _roi_px(session: CameraSession, prepared: PreparedFrame | None) -> object:
    """Where tiles lie: the region of the configuration, or where the strip is now if the region follows it."""
    if session.inspector.edges and prepared is not None and prepared.layout is not None:
        return prepared.layout.grid.window
    return session.camera.roi
