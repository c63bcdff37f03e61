"""What is wrong with this box, one finding a line, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from edge import config
from edge.control.effective_config import with_calibrations
from edge.control.startup import prepare
from edge.errors import ConfigError, DefectdError
from edge.host.clock import Clock
from edge.monitoring.doctor import (
    broker,
    calibrations,
    cameras,
    certificates,
    machine,
    pictures,
    position,
)
from edge.monitoring.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(settings: config.Config, clock: Clock, *, open_cameras: bool = True) -> Iterator[Finding]:
    """Findings as they are made.  open_cameras: also open each for a moment, unless a daemon has them."""
    yield _model(settings, clock)
    yield machine.disk(settings.state_dir)
    yield from pictures.findings(settings)
    yield from calibrations.findings(settings)
    yield from _position(settings)
    yield machine.memory()
    yield machine.clock()
    yield from machine.power_and_heat()
    yield from machine.unit()
    yield from certificates.files(settings.mqtt, clock)
    yield from certificates.of_broker(settings.mqtt, clock)
    yield broker.finding(settings, clock)
    yield cameras.opencv(settings.active_cameras)
    yield from cameras.devices(settings.active_cameras)
    yield from cameras.networks(settings.active_cameras)
    if open_cameras:
        yield from cameras.opened(settings, clock)


def _position(settings: config.Config) -> Iterator[Finding]:
    try:
        settings = with_calibrations(settings)
    except ConfigError:
        return  # the model cannot be loaded with it either, which was told
    yield from position.findings(settings)


def _model(settings: config.Config, clock: Clock) -> Finding:
    try:
        classifier = prepare(settings, clock).classifier
    except ConfigError as error:
        return Finding("model", "bad", f"it was not looked at: {error}", "Do that first, then look again")
    except DefectdError as error:
        return Finding("model", "bad", str(error), "Install a bundle that fits: model.bundle")
    card = classifier.card
    says = f"{card.name} {card.version} gives the expected logits on this processor; it runs as {classifier.network}"
    return Finding("model", "good", says)
