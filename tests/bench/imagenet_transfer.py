"""What a frozen ImageNet network knows of other steel: a bound for `calibrate classes` and for names untaught.

    python tests/bench/imagenet_transfer.py FOLDER [TILE_PX ...]     # FOLDER as for teach_classes.py

Needs ImageNet weights on this machine (extra `teacher`). Taught: the head, draws and tiles of teach_classes.py on the
network's features, as they are and to the power of 0.3, beside the outputs of the shipped model. Untaught: a linear
layer fitted to NEU's train pictures, with and without their negatives, judged on CR7's three types that NEU has.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from intervals import resampled
from teach_classes import NEU_NAMES, cr7, macro_recall, measure, neu, say, show

from edge.model import bundle
from edge.model.classifier import Classifier, Scores
from trainer.networks import backbones
from trainer.networks.teacher import Teacher
from trainer.training import linear_head

POWER = 0.3


def features(network, tiles, views=1):
    """(N, views, F) float32.  tiles: (N, S, S) uint8."""
    return linear_head.features(network, torch.from_numpy(np.ascontiguousarray(tiles)), views=views)


def layer(network, shown, *, negatives):
    """A linear layer fitted to NEU's train pictures: (weights, biases).  shown: their tiles and classes."""
    tiles, classes = shown
    places = torch.from_numpy(np.unique(classes, return_inverse=True)[1])
    parts = [tiles, 255 - tiles] if negatives else [tiles]
    rows = torch.cat([features(network, part, views=4) for part in parts])
    return linear_head.fitted(rows, places.repeat(len(parts)), len(set(classes)))


class Taught:
    """What `measure` reads of a classifier, without the surface: that is one of other features."""

    def __init__(self, shipped):
        self.card, self.temperature, self.surface = shipped.card, shipped.temperature, None


def main(folder, sides):
    found = backbones.on_this_machine()
    if found is None:
        raise SystemExit(f"no ImageNet weights on this machine: {backbones.HOW_TO_GET}")
    start = backbones.imagenet(found)
    network = Teacher(6, good=False, input_px=found.input_px, backbone=found, features=start.network).eval()
    say(start.origin)
    shipped = Classifier(bundle.load("builtin"))
    side = shipped.card.input_px
    train = neu(folder / "neu-cls", side, ("train",))
    names = np.unique(train[1])
    layers = {
        what: layer(network, train[:2], negatives=negatives)
        for what, negatives in (("NEU as it is", False), ("NEU and its negatives", True))
    }
    for tile_px in sides:
        tiles, types, pictures = cr7(folder / "normal-steel" / "cr7-det", side, tile_px)
        say(f"CR7, {len(tiles)} tiles of {tile_px} px")
        scores, rows = shipped.score(tiles), features(network, tiles)[:, 0]
        show("  5 of each, shipped:", measure(shipped, scores, types, pictures, 5))
        for what, values in (("as they are", rows), (f"to the power of {POWER}", rows.clamp_min(0) ** POWER)):
            frozen = Scores(scores.logits, values.numpy(), scores.good)
            show(f"  5 of each, frozen features {what}:", measure(Taught(shipped), frozen, types, pictures, 5))
        known = np.isin(types, list(NEU_NAMES))
        truth = np.array([NEU_NAMES[kind] for kind in types[known]])
        for what, (weights, biases) in layers.items():
            said = names[(rows[torch.from_numpy(known)] @ weights.T + biases).argmax(1).numpy()]
            say(f"  untaught, {what}: {resampled(pictures[known], partial(macro_recall, said, truth))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [100, 200])
