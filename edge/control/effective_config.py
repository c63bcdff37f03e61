"""What a node runs with: the one place that puts the configuration together from its parts.

The parts, each of which overrides the ones below it, key by key:

    thresholds that a command set    `config.overrides`
    the configuration file           `config.loader`
    calibrations of the cameras      `config.calibration`
    what a generated strip knows     `camera.simulator_defaults`
    tuning for this machine          `config.tuning`: how the network runs, never what it decides

Which model decides is one of the parts: thresholds must fit its classes, and tuning holds for one bundle.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge import config
from edge.camera import simulator_defaults
from edge.config import calibration, diff, overrides, tuning
from edge.control.loaded_model import LoadedModel
from edge.errors import BundleError, ConfigError, Problem
from edge.host.clock import Clock
from edge.model import bundle
from edge.model.bundle import Bundle
from edge.model.classifier import Classifier
from edge.model.store import CONFIGURED, ActiveModel, Store
from edge.model.variant import choose
from edge.vision import anomaly, taught_classes
from edge.vision.taught_classes import classes_of

log = logging.getLogger(__name__)

MAX_CANARY_STARTS: Final = 2
"""Starts with a canary that did not end properly. The next start goes back to the previous model."""


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """Everything that a node runs with.  Found to be usable, except for what needs a camera's frames."""

    settings: config.Config
    configured: config.Config
    """The settings without the thresholds that commands set."""
    overrides: overrides.Changes
    """Those thresholds."""
    model: LoadedModel
    """The model that decides."""
    active_model: ActiveModel
    """Whether that model is installed or configured, a canary or promoted."""
    passed_over: str = ""
    """Why an installed model does not decide; empty when one does, or none is installed."""
    needs_restart: tuple[str, ...] = ()
    """Keys, as `section.key`, that a running node cannot take over."""


def effective_config(
    file: config.Config, clock: Clock, *, model: LoadedModel | None = None, running: config.Config | None = None
) -> EffectiveConfig:
    """Put together what a node runs with.

    file: what the configuration file states.  model: decides in place of the active model.
    running: `configured` of a running node: the result differs from it only in what a running node can take over.
    Raises ConfigError or BundleError when a part cannot be used.
    """
    configured = wanted = with_calibrations(file, None if running is None else running.state_dir)
    if running is not None:
        configured = diff.merged(running, wanted)
    passed_over = ""
    if model is None:
        active_model, model, passed_over = _active_model(configured, clock)
    else:
        active_model = Store(configured.state_dir).active(configured.model.bundle)
    card = model.classifier.card
    changes = overrides.load(configured, {camera.name: classes_of(camera, card) for camera in configured.cameras})
    return EffectiveConfig(
        overrides.adjusted(configured, changes),
        configured,
        changes,
        model,
        active_model,
        passed_over,
        () if running is None else diff.needs_restart(running, wanted),
    )


def with_calibrations(file: config.Config, state_dir: Path | None = None) -> config.Config:
    """The part that needs no model: the file, calibrations, and what generated strips know about themselves.

    state_dir: that of the running node; a different one in the file takes effect at the next start.
    Raises ConfigError when a calibration cannot be used.
    """
    settings = simulator_defaults.described(calibration.applied(file, state_dir))
    problems = [problem for camera in settings.active_cameras for problem in _lane_problems(camera)]
    if problems:
        raise ConfigError("cameras", tuple(problems))
    return settings


def _lane_problems(camera: config.Camera) -> list[Problem]:
    """What is missing for the lanes of a camera: a defect has to have a place across the strip."""
    if not camera.lanes:
        return []
    key = f"cameras.{camera.name}.lanes"
    needs = {
        f"Run `defectd calibrate scale --camera {camera.name}`, or give cameras.scale": camera.scale,
        "Give cameras.direction": camera.direction,
        "Give cameras.operator_side": camera.operator_side,
        f"Give cameras.across_at_mm, or run `defectd calibrate roi --track --camera {camera.name}`": (
            camera.across_at_mm if camera.across_at_mm is not None else camera.calibration.track
        ),
    }
    names = ", ".join(lane.name for lane in camera.lanes)
    words = "need places across the strip, and there are none"
    return [Problem(key, names, words, remedy) for remedy, value in needs.items() if value is None]


def load_model(settings: config.Config, loaded: Bundle, clock: Clock) -> LoadedModel:
    """Load the network of a bundle, tuned for this machine, and run its self-test.  Raises BundleError."""
    section = tuning.fitted(settings.model, loaded.digest, settings.state_dir)
    return LoadedModel(loaded, choose(loaded, section, clock).classifier)


def load_named(settings: config.Config, which: str, clock: Clock) -> LoadedModel:
    """The same for an installed bundle, by its digest, or for the configured one.  Raises BundleError."""
    found = bundle.load(settings.model.bundle) if which == CONFIGURED else Store(settings.state_dir).get(which)
    return load_model(settings, found, clock)


def _active_model(settings: config.Config, clock: Clock) -> tuple[ActiveModel, LoadedModel, str]:
    """The installed model, or the one before it where it cannot be used, or the configured one; and why."""
    active = Store(settings.state_dir).active(settings.model.bundle)
    passed_over = ""
    if active.is_canary and active.unclean_starts >= MAX_CANARY_STARTS:
        passed_over = f"{active.unclean_starts} starts with this canary did not end properly"
        active = active.rolled_back(passed_over)
    while active.current != CONFIGURED:
        try:
            return active, load_named(settings, active.current, clock), passed_over
        except BundleError as error:
            passed_over = str(error)
            log.error("the installed model is not used: %s", error)  # noqa: TRY400 (the message says it all)
            active = active.rolled_back(passed_over)
    return active, load_named(settings, CONFIGURED, clock), passed_over


def without_foreign_calibrations(
    camera: config.Camera, classifier: Classifier
) -> tuple[config.Camera, tuple[str, ...]]:
    """The camera for a model that it was not calibrated with, and what was left out, for people.

    For a shadow model, or one that is tried out on recordings: the model that decides must fit its calibrations.
    """
    left_out: list[str] = []
    thresholds = camera.calibrated_thresholds
    if thresholds is not None and thresholds.bundle not in (None, classifier.bundle):
        left_out.append(f"camera {camera.name}: its calibrated thresholds are for another model and do not apply")
        camera = camera.model_copy(update={"calibrated_thresholds": None})
    try:
        anomaly.of_camera(camera, classifier.card)
    except ConfigError as error:
        left_out.append(
            f"camera {camera.name}: its anomaly model does not apply, the classes decide: {error.problems[0]}"
        )
        camera = camera.model_copy(update={"anomaly": "classes"})
    known = taught_classes.known_of(camera)
    if known and taught_classes.fitting(known, classifier.card, camera) is None:
        left_out.append(f"camera {camera.name}: {taught_classes.refusal(known, classifier.card, camera)}")
        camera = camera.with_calibration(replace(camera.calibration, taught=()))
    return camera, tuple(left_out)
