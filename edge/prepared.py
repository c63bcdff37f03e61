"""Everything that can be refused before anything starts: the model tested, the thresholds fitted to it."""

from __future__ import annotations

from dataclasses import dataclass

from edge import bundle, calibration, config, overrides
from edge.camera.source import SourceSpec
from edge.clock import Clock
from edge.errors import ConfigError, Problem
from edge.line import Station
from edge.vision.classifier import Classifier
from edge.vision.precision import choose


@dataclass(frozen=True, slots=True)
class Prepared:
    """Found good: `defectd check` ends here, `defectd run` goes on."""

    settings: config.Config
    bundle: bundle.Bundle
    classifier: Classifier
    stations: tuple[Station, ...]
    configured: config.Config
    """The settings without what commands have changed."""
    changes: overrides.Changes


def prepare(settings: config.Config, clock: Clock) -> Prepared:
    """Load and test the model, fit the thresholds to it.  Raises ConfigError or BundleError; connects to nothing."""
    configured = settings = calibration.applied(settings)
    loaded = bundle.load(settings.model.bundle)
    classifier = choose(loaded, settings.model, clock).classifier
    changes = overrides.load(configured, classifier.card.classes)
    settings = overrides.adjusted(configured, changes)
    active(settings)
    stations = tuple(station_of(camera, classifier, clock) for camera in settings.active_cameras)
    return Prepared(settings, loaded, classifier, stations, configured, changes)


def active(settings: config.Config) -> tuple[config.Camera, ...]:
    """The cameras that are enabled.  Raises ConfigError when there are none."""
    if not settings.active_cameras:
        raise ConfigError("cameras", (Problem("cameras", "all disabled", "none is enabled", "Enable one"),))
    return settings.active_cameras


def station_of(camera: config.Camera, classifier: Classifier, clock: Clock) -> Station:
    """Raises ConfigError when the camera's thresholds do not fit the model."""
    return Station(camera, classifier, clock, live=SourceSpec.of(camera).live)
