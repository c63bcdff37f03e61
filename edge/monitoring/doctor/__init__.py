"""What is wrong with this node: each module examines one part and yields findings, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from edge import config
from edge.control.effective_config import with_calibrations
from edge.errors import ConfigError
from edge.host.clock import Clock
from edge.monitoring.doctor import (
    broker,
    calibrations,
    cameras,
    certificates,
    machine,
    model,
    outputs,
    page,
    pictures,
    position,
)
from edge.monitoring.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(settings: config.Config, clock: Clock, *, open_cameras: bool = True) -> Iterator[Finding]:
    """Yield each finding as soon as it is made.  open_cameras: open each camera briefly, unless a daemon has them."""
    yield model.finding(settings, clock)
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
    yield from outputs.findings(settings.state_dir)
    yield from page.findings(settings, clock)
    yield cameras.opencv(settings.active_cameras)
    yield from cameras.devices(settings.active_cameras)
    yield from cameras.networks(settings.active_cameras)
    if open_cameras:
        yield from cameras.opened(settings, clock)


def _position(settings: config.Config) -> Iterator[Finding]:
    try:
        settings = with_calibrations(settings)
    except ConfigError:
        return  # the model cannot be loaded either, and its finding gives the reason
    yield from position.findings(settings)
