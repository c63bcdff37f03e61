"""What a training showed goes into the card, and the daemon's distances follow from it."""

from __future__ import annotations

import numpy as np
import torch

from edge.camera.sources.simulator import CLASSES
from edge.model.bundle import load
from edge.model.classifier import Classifier
from trainer.data import samples
from trainer.data.samples import Samples
from trainer.data.training_set import TrainingSet
from trainer.evaluation.training_surface import training_surface, with_surface

EMPTY = Samples(torch.empty((0, 1, 100, 100), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


def test_card_gets_the_surface_of_its_training_tiles():
    """Tiles of the kinds that were trained are near, noise is far; without pictures of a class there is no surface."""
    made = load("builtin")
    good, defects = samples.strip_samples(CLASSES, range(1000, 1003), 100)
    tiles = TrainingSet((defects, EMPTY, good, defects, EMPTY), EMPTY, EMPTY)
    described = with_surface(made, tiles)
    network = Classifier(described)
    network.selftest()
    assert network.surface is not None
    near = network.surface.distances(network.score(good.tiles[:, 0].numpy()).outputs())
    noise = np.random.default_rng(0).integers(0, 256, (20, 100, 100), np.uint8)
    assert np.median(near) < 1 < 2 * np.median(near) < network.surface.distances(network.score(noise).outputs()).min()
    assert training_surface(network, TrainingSet((EMPTY, EMPTY, good, EMPTY, EMPTY), EMPTY, EMPTY)) is None
    assert with_surface(made, TrainingSet((EMPTY,) * 5, EMPTY, EMPTY)) is made
