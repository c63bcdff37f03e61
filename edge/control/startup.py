"""Everything that can be refused before anything starts: the model is tested, the thresholds are fitted to it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge import config
from edge.camera.opening import spec_of
from edge.control.effective_config import (
    EffectiveConfig,
    effective_config,
    load_model,
    load_named,
    without_foreign_calibrations,
)
from edge.control.loaded_model import LoadedModel
from edge.control.model_validation import validate
from edge.errors import BundleError, ConfigError, Problem
from edge.frame import Frame
from edge.host.clock import Clock
from edge.model import bundle
from edge.model.bundle import Bundle
from edge.model.classifier import Classifier
from edge.model.store import CONFIGURED, ActiveModel, Store
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.shadow import Shadow
from edge.vision.inspector import Inspector

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything has been checked: `defectd check` ends here, `defectd run` goes on."""

    effective: EffectiveConfig
    sessions: tuple[CameraSession, ...]
    previous: LoadedModel | None = None
    """The model to go back to, while the one that decides is a canary."""
    shadow: Shadow | None = None

    @property
    def settings(self) -> config.Config:
        return self.effective.settings

    @property
    def bundle(self) -> Bundle:
        return self.effective.model.bundle

    @property
    def classifier(self) -> Classifier:
        return self.effective.model.classifier

    def picture_fault(self, frame: Frame) -> str | None:
        """Why the daemon would not inspect the next frame of a camera; None where it would."""
        session = next(session for session in self.sessions if session.name == frame.camera)
        return session.inspector.check(frame.pixels, frame.grabbed_ns).fault


def prepare(file: config.Config, clock: Clock) -> Prepared:
    """Load and test the model, fit the thresholds to it.  Raises ConfigError or BundleError; connects to nothing.

    file: what the configuration file states.
    """
    effective = effective_config(file, clock)
    settings = effective.settings
    cameras = active(settings)
    sessions = tuple(session_of(camera, effective.model.classifier, clock) for camera in cameras)
    previous = None
    if effective.active_model.is_canary:
        try:
            previous = load_named(settings, effective.active_model.previous or CONFIGURED, clock)
        except BundleError as error:
            log.warning("the canary model has no previous model to go back to: %s", error)
    return Prepared(effective, sessions, previous, shadow_of(settings, clock))


def active(settings: config.Config) -> tuple[config.Camera, ...]:
    """The cameras that are enabled.  Raises ConfigError when there are none."""
    if not settings.active_cameras:
        raise ConfigError("cameras", (Problem("cameras", "all disabled", "none is enabled", "Enable one"),))
    return settings.active_cameras


def session_of(camera: config.Camera, classifier: Classifier, clock: Clock) -> CameraSession:
    """Raises ConfigError when the camera's thresholds do not fit the model."""
    return CameraSession.of(camera, classifier, clock, live=spec_of(camera).live)


def shadow_of(settings: config.Config, clock: Clock) -> Shadow | None:
    """The model that runs in shadow mode, if the configuration has one.  Raises BundleError, ConfigError."""
    section = settings.model.shadow
    if section is None:
        return None
    model = load_model(settings, bundle.load(section.bundle), clock)
    inspectors = {}
    for camera in settings.active_cameras:
        fitting, left_out = without_foreign_calibrations(camera, model.classifier)
        for sentence in left_out:
            log.warning("shadow model: %s", sentence)
        inspectors[camera.name] = Inspector(fitting, model.classifier, clock)
    return Shadow(model.identity, section.share, inspectors, clock)


def use_from_next_start(file: config.Config, digest: str, clock: Clock) -> None:
    """Without a running daemon: let an installed bundle decide, as a canary.  Raises BundleError, ConfigError."""
    store = Store(file.state_dir)
    if digest == store.active(file.model.bundle).current:
        return
    effective = effective_config(file, clock, model=load_named(file, digest, clock))
    validate(effective.model, effective.settings.active_cameras or effective.settings.cameras, clock)
    canary = effective.active_model.with_canary(digest, {})
    store.write(canary)
    store.prune(keep=file.model.keep, keep_bytes=file.model.keep_mb << 20, active=canary)


def roll_back_from_next_start(file: config.Config, clock: Clock) -> ActiveModel | None:
    """Without a running daemon: let the previous model decide; None when there is none.  Raises BundleError."""
    store = Store(file.state_dir)
    active_model = store.active(file.model.bundle)
    if active_model.current == CONFIGURED:
        return None
    active_model = active_model.rolled_back()
    load_named(file, active_model.current, clock)
    store.write(active_model)
    return active_model
