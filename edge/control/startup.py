"""Everything that can be refused before anything starts: the model tested, the thresholds fitted to it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from edge import config
from edge.camera import simulator_defaults
from edge.camera.sources.device import SourceSpec
from edge.config import calibration, overrides, tuning
from edge.control.model_validation import ValidatedModel, identity, validate
from edge.errors import BundleError, ConfigError, Problem
from edge.host.clock import Clock
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.model.store import CONFIGURED, ActiveModel, Store
from edge.model.variant import choose
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.shadow import Shadow
from edge.vision.anomaly import of_camera
from edge.vision.inspector import Inspector

log = logging.getLogger(__name__)

MAX_STARTS: Final = 2
"""Of a model on trial that did not come to a proper end: a third is not tried."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Found good: `defectd check` ends here, `defectd run` goes on."""

    settings: config.Config
    bundle: bundle.Bundle
    classifier: Classifier
    sessions: tuple[CameraSession, ...]
    configured: config.Config
    """The settings without what commands have changed."""
    changes: overrides.Changes
    standing: ActiveModel
    former: ValidatedModel | None = None
    """The predecessor of a model on trial."""
    passed_over: str = ""
    """Why an installed model is not used, when it is not."""
    shadow: Shadow | None = None


def prepare(settings: config.Config, clock: Clock) -> Prepared:
    """Load and test the model, fit the thresholds to it.  Raises ConfigError or BundleError; connects to nothing."""
    configured = settings = simulator_defaults.described(calibration.applied(settings))
    standing, chosen, passed_over = _chosen(configured, clock)
    classes = chosen.classifier.card.classes
    changes = overrides.load(configured, classes)
    settings = overrides.adjusted(configured, changes)
    active(settings)
    sessions = tuple(session_of(camera, chosen.classifier, clock) for camera in settings.active_cameras)
    former = None
    if standing.on_trial:
        try:
            former = _loaded(settings, standing.previous or CONFIGURED, clock)
        except BundleError as error:
            log.warning("the model on trial has no predecessor to go back to: %s", error)
    shadow = shadow_of(settings, clock)
    return Prepared(
        settings,
        chosen.bundle,
        chosen.classifier,
        sessions,
        configured,
        changes,
        standing,
        former,
        passed_over,
        shadow,
    )


def _chosen(settings: config.Config, clock: Clock) -> tuple[ActiveModel, ValidatedModel, str]:
    """The installed model, or its predecessor where it cannot be used, or what the configuration names."""
    standing = Store(settings.state_dir).standing(settings.model.bundle)
    passed_over = ""
    if standing.on_trial and standing.starts >= MAX_STARTS:
        passed_over = f"{standing.starts} starts with it on trial came to no proper end"
        standing = standing.back(passed_over)
    while standing.current != CONFIGURED:
        try:
            return standing, _loaded(settings, standing.current, clock), passed_over
        except BundleError as error:
            passed_over = str(error)
            log.error("the installed model is not used: %s", error)  # noqa: TRY400 (all is said)
            standing = standing.back(passed_over)
    return standing, _loaded(settings, CONFIGURED, clock), passed_over


def _loaded(settings: config.Config, which: str, clock: Clock) -> ValidatedModel:
    found = _bundle_of(settings, which)
    return ValidatedModel(found, classifier_in_use(settings, found, clock), 0.0)


def _bundle_of(settings: config.Config, which: str) -> bundle.Bundle:
    return bundle.load(settings.model.bundle) if which == CONFIGURED else Store(settings.state_dir).get(which)


def bundle_in_use(settings: config.Config) -> bundle.Bundle:
    """The one that decides here: installed, or named by the configuration.  Raises BundleError."""
    return _bundle_of(settings, Store(settings.state_dir).standing(settings.model.bundle).current)


def classifier_in_use(settings: config.Config, loaded: bundle.Bundle, clock: Clock) -> Classifier:
    """Its network as this box runs it, tested.  Raises BundleError."""
    return choose(loaded, tuning.fitted(settings.model, loaded.digest, settings.state_dir), clock).classifier


def used_from_next_start(settings: config.Config, digest: str, clock: Clock) -> None:
    """With no daemon to do it: let an installed bundle decide, on trial.  Raises BundleError."""
    store = Store(settings.state_dir)
    standing = store.standing(settings.model.bundle)
    if digest != standing.current:
        configured = calibration.applied(settings)
        adjusted = overrides.adjusted(configured, overrides.load(configured, store.get(digest).card.classes))
        model = tuning.fitted(settings.model, digest, settings.state_dir)
        validate(store.get(digest), model, adjusted.active_cameras or settings.cameras, clock)
        standing = standing.after(digest, {})
        store.write(standing)
        store.prune(keep=settings.model.keep, keep_bytes=settings.model.keep_mb << 20, standing=standing)


def rolled_back(settings: config.Config, clock: Clock) -> ActiveModel | None:
    """With no daemon to do it: let the predecessor decide; None when there is none.  Raises BundleError."""
    store = Store(settings.state_dir)
    standing = store.standing(settings.model.bundle)
    if standing.current == CONFIGURED:
        return None
    standing = standing.back()
    _loaded(settings, standing.current, clock)
    store.write(standing)
    return standing


def shadow_of(settings: config.Config, clock: Clock) -> Shadow | None:
    """The model that is to look on.  Raises BundleError, ConfigError."""
    wanted = settings.model.shadow
    if wanted is None:
        return None
    loaded = bundle.load(wanted.bundle)
    classifier = classifier_in_use(settings, loaded, clock)
    inspectors = {
        camera.name: Inspector(_looked_on(camera, classifier), classifier, clock) for camera in settings.active_cameras
    }
    return Shadow(identity(loaded, classifier), wanted.share, inspectors, clock)


def _looked_on(camera: config.Camera, classifier: Classifier) -> config.Camera:
    """The camera for a model that only looks on: by its classes, where good surface was not calibrated with it."""
    try:
        of_camera(camera, classifier.card)
    except ConfigError as error:
        log.warning("the model that looks on judges camera %s by its classes: %s", camera.name, error.problems[0])
        return camera.model_copy(update={"anomaly": "classes"})
    return camera


def deciding(settings: config.Config, clock: Clock) -> Classifier:
    """The network of the model that would decide if the daemon started now.  Raises BundleError."""
    return _chosen(settings, clock)[1].classifier


def active(settings: config.Config) -> tuple[config.Camera, ...]:
    """The cameras that are enabled.  Raises ConfigError when there are none."""
    if not settings.active_cameras:
        raise ConfigError("cameras", (Problem("cameras", "all disabled", "none is enabled", "Enable one"),))
    return settings.active_cameras


def session_of(camera: config.Camera, classifier: Classifier, clock: Clock) -> CameraSession:
    """Raises ConfigError when the camera's thresholds do not fit the model."""
    return CameraSession.of(camera, classifier, clock, live=SourceSpec.of(camera).live)
