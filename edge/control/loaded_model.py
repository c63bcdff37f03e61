"""A bundle with its network in memory: what decides, may decide, or may be gone back to."""

from __future__ import annotations

from dataclasses import dataclass

from edge.model.bundle import Bundle
from edge.model.classifier import Classifier


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A bundle, and its network as this machine runs it.  The network has passed its self-test."""

    bundle: Bundle
    classifier: Classifier

    @property
    def identity(self) -> dict[str, str]:
        """What events state about the model that decided them."""
        return identity(self.bundle, self.classifier)

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.bundle.card.name} {self.bundle.card.version}"


def identity(bundle: Bundle, classifier: Classifier) -> dict[str, str]:
    """What events state about the model that decided them."""
    card = bundle.card
    return {"name": card.name, "version": card.version, "sha256": classifier.sha256, "bundle": bundle.digest}
