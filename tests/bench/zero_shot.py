"""What a model says of steel that it was not trained on, untaught: two bundles side by side.

    python tests/bench/zero_shot.py FOLDER [BUNDLE ...]     # FOLDER as for teach_classes.py; a BUNDLE may be `builtin`

CR7: the three types that NEU has, squares around their boxes at three tile sizes. The macro accuracy counts a tile
right whose likeliest class is its own. AUROC: does the confidence of the name (the largest probability, as published)
separate right names from wrong ones. Claimed: its mean. NEU: the valid split, as it is and with inverted gray.
Intervals: bootstrap over source pictures for CR7, exact for NEU.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from intervals import resampled
from teach_classes import NEU_NAMES, cr7, macro_recall, neu, say

from edge.calibration import binomial
from edge.model import bundle
from edge.model.bundle import FP32, INT8
from edge.model.classifier import Classifier
from edge.model.sharpness import sharpened
from trainer.evaluation.statistics import auroc

TILES_PX = (100, 150, 200)
LOCAL_PX = 25
"""Side of the local mean, px of the network's input."""


def three_types(folder, side, tile_px):
    """(tiles, names of NEU, pictures) of the types that NEU has."""
    tiles, types, pictures = cr7(folder / "normal-steel" / "cr7-det", side, tile_px)
    known = np.isin(types, list(NEU_NAMES))
    return tiles[known], np.array([NEU_NAMES[kind] for kind in types[known]]), pictures[known]


def confidences(network, tiles):
    """(N, classes), as the daemon publishes them."""
    p = network.score(tiles).probabilities(network.temperature)
    return sharpened(p, network.sharpness, has_good=network.card.has_good)


def separation(score, right):
    """AUROC of a score of the name, right names above wrong ones; NaN where all are one or the other."""
    return auroc(score[right], score[~right]) if 0 < right.sum() < len(right) else np.nan


def strange_steel(network, folder):
    names = np.array(network.card.classes)
    for tile_px in TILES_PX:
        tiles, truth, pictures = three_types(folder, network.card.input_px, tile_px)
        p = confidences(network, tiles)
        said, sure = names[p.argmax(1)], p.max(1).astype(float)
        right = said == truth
        macro = resampled(pictures, partial(macro_recall, said, truth))
        name = resampled(pictures, lambda at, sure=sure, right=right: separation(sure[at], right[at]))
        each = ", ".join(
            f"{kind} {(right & (truth == kind)).sum()}/{(truth == kind).sum()}" for kind in sorted(set(truth))
        )
        claimed = f"claimed {sure.mean():.3f}, right {right.mean():.3f}"
        say(f"  CR7 {tile_px} px, n {len(tiles)}: macro {macro}; name AUROC {name}; {claimed}; {each}")


def inverted(network, folder):
    tiles, truth, _ = neu(folder / "neu-cls", network.card.input_px, ("valid",))
    names = np.array(network.card.classes)
    local = np.stack([_local_mean(tile) for tile in tiles])
    views = {
        "as it is": tiles,
        "gray inverted": 255 - tiles,
        "inverted about the local mean": np.clip(2 * local - tiles, 0, 255).astype(np.uint8),
    }
    for what, view in views.items():
        p = confidences(network, view)
        right = int((names[p.argmax(1)] == truth).sum())
        low, high = binomial.interval(right, len(truth))
        say(f"  NEU valid, {what}: {right} of {len(truth)} [{low:.3f} {high:.3f}]; claimed {p.max(1).mean():.3f}")


def _local_mean(tile):
    return cv2.blur(tile.astype(np.float32), (LOCAL_PX, LOCAL_PX), borderType=cv2.BORDER_REFLECT_101)


def main(folder, bundles):
    for where in bundles:
        made = bundle.load(where)
        for file in [name for name in (FP32, INT8) if name in made.networks]:
            network = Classifier(made, network=file)
            scales = f"temperature {network.temperature:g}, sharpness {network.sharpness:g}"
            say(f"{where}: {network.card.name} {network.card.version}, {file}, {scales}")
            strange_steel(network, folder)
            inverted(network, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["builtin"])
