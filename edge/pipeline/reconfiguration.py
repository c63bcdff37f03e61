"""The cameras and models in use, and every change of them: a new configuration, a canary model and its fall back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from edge import config
from edge.host.clock import Clock
from edge.model.classifier import Classifier
from edge.pipeline.camera_monitor import CameraMonitor
from edge.pipeline.camera_session import CameraSession, SessionSettings
from edge.pipeline.drift_monitor import DriftMonitor
from edge.pipeline.orders import Reconfigure
from edge.pipeline.reporting import Reporter, thresholds_json
from edge.pipeline.scheduler import Scheduler
from edge.pipeline.shadow import ShadowSlot

log = logging.getLogger(__name__)


class ActiveSetup:
    """The sessions, and the models that inspect.  Owned by the inspection loop."""

    def __init__(
        self,
        sessions: Sequence[CameraSession],
        scheduler: Scheduler,
        cameras: CameraMonitor,
        drift: DriftMonitor,
        reporter: Reporter,
        shadow: ShadowSlot,
        clock: Clock,
    ) -> None:
        self.sessions: Mapping[str, CameraSession] = {session.name: session for session in sessions}
        """By name. A change replaces the mapping, so that other threads may read it."""
        self._scheduler = scheduler
        self._cameras = cameras
        self._drift = drift
        self._reporter = reporter
        self._shadow = shadow
        self._clock = clock
        self._names = frozenset(self.sessions)
        """Cameras of the configuration. A camera that is removed has a session until its last frame."""
        self._classifier: Classifier | None = None
        """The model of the last order that brought one."""
        self._previous: Classifier | None = None
        self._on_fall_back: Callable[[str], None] | None = None
        for session in sessions:
            self._schedule(session)

    def _schedule(self, session: CameraSession) -> None:
        settings = session.settings
        self._scheduler.add(
            session.name,
            budget_ns=settings.budget_ns,
            tile_revisit_frames=settings.camera.tile_revisit_frames,
        )

    # ---- the configuration -----------------------------------------------------------------------------

    def reconfigure(self, order: Reconfigure) -> None:
        """Carry out the whole order.  Raises ConfigError when a threshold does not fit a model: nothing was changed."""
        refitted = {name: self._refitted(name, order) for name in self.sessions if _is_refitted(name, order)}
        cameras = {
            name: settings if self._classifier is None else settings.with_model(self._classifier)
            for name, settings in order.cameras.items()  # another model may have come since the settings were made
        }
        for name in cameras:
            if name in self.sessions:
                self._cameras.close_defects(self.sessions[name])
        order.on_change()
        self._change_node(order)
        for name, settings in refitted.items():
            self.sessions[name].settings = settings
        for name, decision in order.thresholds.items():
            self._report_thresholds(self.sessions[name], decision)
        for name, settings in cameras.items():
            self._change_camera(name, settings)

    def set_thresholds(self, session: CameraSession, decision: config.Decision) -> None:
        """Use other thresholds from the next frame on.  Raises ConfigError for a class that the model does not have."""
        session.settings = session.settings.with_thresholds(decision)
        self._report_thresholds(session, decision)

    def remove(self, session: CameraSession) -> None:
        """Forget a camera, unless the configuration has one of that name again."""
        if session.name in self._names:
            return
        self.sessions = {name: kept for name, kept in self.sessions.items() if kept is not session}
        self._scheduler.remove(session.name)
        self._reporter.forget(session)

    def _refitted(self, name: str, order: Reconfigure) -> SessionSettings:
        settings, decision = self.sessions[name].settings, order.thresholds.get(name)
        if decision is not None:
            return settings.with_thresholds(decision, order.classifier)
        assert order.classifier is not None
        return settings.with_model(order.classifier)

    def _change_node(self, order: Reconfigure) -> None:
        """Change what all cameras share."""
        if order.names is not None:
            self._names = order.names
        if order.replaces_shadow:
            self._shadow.current = order.shadow
        if order.report_s is not None:
            self._reporter.set_interval(order.report_s)
        if order.severities is not None:
            self._reporter.severities = order.severities
        if order.classifier is not None:
            self._classifier = order.classifier
            self._previous, self._on_fall_back = order.previous, order.on_fall_back

    def _change_camera(self, name: str, settings: SessionSettings) -> None:
        """Add a camera, or give a known one new settings."""
        session = self.sessions.get(name)
        if session is None:
            session = CameraSession(settings, self._clock)
            self.sessions = {**self.sessions, name: session}
        else:
            since_ns = session.drift_since_ns
            session.reconfigure(settings)
            self._cameras.forget_fault(session)
            if since_ns is not None and session.drift_since_ns is None:
                self._drift.clear(session, since_ns, recalibrated=True)
        self._schedule(session)
        self._reporter.publish_state(session)

    def _report_thresholds(self, session: CameraSession, decision: config.Decision) -> None:
        self._reporter.emit(session, "thresholds.changed", detail=thresholds_json(decision))
        self._reporter.publish_state(session)

    # ---- the canary ------------------------------------------------------------------------------------

    @property
    def can_fall_back(self) -> bool:
        """Whether the model in use is a canary, with a previous model to fall back to."""
        return self._previous is not None

    def promote(self) -> None:
        """End the canary: from now on a failure of the model ends the loop."""
        self._previous = None

    def fall_back(self, reason: str) -> None:
        """Let the previous model decide again, from this frame on.  reason: why the canary failed."""
        previous, self._previous = self._previous, None
        assert previous is not None
        self._classifier = previous
        for session in self.sessions.values():
            session.settings = session.settings.with_model(previous)
        log.error("the canary model failed, the previous model decides again: %s", reason)
        if self._on_fall_back is not None:
            self._on_fall_back(reason)


def _is_refitted(name: str, order: Reconfigure) -> bool:
    """Whether a session stays and gets another model or other thresholds."""
    return name not in order.cameras and (order.classifier is not None or name in order.thresholds)
