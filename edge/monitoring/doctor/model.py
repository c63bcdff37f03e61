"""The model: whether this machine computes the expected logits with it."""

from __future__ import annotations

from edge import config
from edge.control.startup import prepare
from edge.errors import ConfigError, DefectdError
from edge.host.clock import Clock
from edge.monitoring.doctor.finding import Finding


def finding(settings: config.Config, clock: Clock) -> Finding:
    """Load the model as the daemon does."""
    try:
        classifier = prepare(settings, clock).classifier
    except ConfigError as error:
        return Finding("model", "fail", f"not examined: {error}", "Correct that first, then run this again")
    except DefectdError as error:
        return Finding("model", "fail", str(error), "Install a bundle that fits: model.bundle")
    card = classifier.card
    says = f"{card.name} {card.version} gives the expected logits on this processor; it runs as {classifier.network}"
    return Finding("model", "ok", says)
