"""What the training showed, as the card carries it: the daemon says when a camera shows something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.model.bundle import Bundle
from edge.model.classifier import Classifier
from edge.model.surface import Surface, measured
from trainer.data.samples import Samples
from trainer.data.training_set import TrainingSet

GOOD: Final = "good"
STRIP_GOOD: Final = "generated surface"
STRIP_DEFECTS: Final = "generated defects"
MAX_TILES: Final = 2000
"""Of each kind."""
MIN_TILES: Final = 8
"""A kind with fewer is left out: it has no covariance worth the name."""


def training_surface(classifier: Classifier, tiles: TrainingSet, *, seed: int = 0) -> Surface | None:
    """Describe the tiles that the network was trained with; None without maximum activations, or with too few tiles."""
    card = classifier.card
    if not card.has_max_activations:
        return None
    defects, good, strip_good, strip_defects, _ = tiles.sources
    parts = [(name, defects.only(number)) for number, name in enumerate(card.classes)]
    parts += [(GOOD, good), (STRIP_GOOD, strip_good), (STRIP_DEFECTS, strip_defects)]
    rng = np.random.default_rng(seed)
    values: list[npt.NDArray[np.float32]] = []
    kinds: list[str] = []
    for name, source in parts:
        if len(source) >= MIN_TILES:
            values.append(classifier.score(_some(source, rng)).outputs())
            kinds += [name] * len(values[-1])
    if not set(card.classes) <= set(kinds):
        return None
    return measured(np.concatenate(values), kinds, (*card.classes, GOOD), seed=seed)


def with_surface(made: Bundle, tiles: TrainingSet) -> Bundle:
    """The bundle with the surface of these tiles in its card; unchanged where they cannot be described."""
    found = training_surface(Classifier(made), tiles)
    return made if found is None else replace(made, card=made.card.model_copy(update={"surface": found}))


def _some(source: Samples, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """At most MAX_TILES unchanged tiles, (N, S, S); balanced sources repeat tiles, which are taken once."""
    tiles = np.unique(source.tiles[:, 0].numpy(), axis=0)
    return np.asarray(rng.permutation(tiles)[:MAX_TILES])
