"""Which score of a tile separates right names from wrong ones on steel that a model was not trained on?

    python tests/bench/name_confidence.py FOLDER [BUNDLE]     # FOLDER as for teach_classes.py

AUROC of right names above wrong ones, on the squares around CR7's boxes of the three types that NEU has, at three tile
sizes, with the 95 % interval over pictures. All scores are made of the bundle's own outputs; those that compare with
the training read NEU's train pictures, which the network has seen. Chance is 0.5; far below it, a score is misleading.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from intervals import resampled
from teach_classes import neu, say
from zero_shot import LOCAL_PX, TILES_PX, separation, three_types

from edge.model import bundle
from edge.model.classifier import Classifier

NEIGHBOURS = 10
RIDGE = 0.02
SHIFT_PX = 8
"""Of the network's input."""


class Training:
    """The network's outputs for its training tiles, in a space: means, shared covariance, every tile."""

    def __init__(self, values, label, classes):
        self.scale, self.label, self.classes = values.std(0).clip(1e-3), label, classes
        self.values = values / self.scale
        self.means = np.stack([self.values[label == c].mean(0) for c in range(classes)])
        apart = self.values - self.means[label]
        self.deviation = apart.std(0) + 1e-3
        shared = np.cov(apart.T)
        shared += RIDGE * np.trace(shared) / len(shared) * np.eye(len(shared))
        self.whitening = np.linalg.cholesky(np.linalg.inv(shared))

    def scores(self, values, said):
        values = values / self.scale
        apart = values[:, None] - self.means
        diagonal = np.square(apart / self.deviation).mean(2)
        shared = np.square(apart @ self.whitening).mean(2)
        far = np.sqrt(((values**2).sum(1)[:, None] + (self.values**2).sum(1) - 2 * values @ self.values.T).clip(0))
        near = np.argsort(far, axis=1)[:, :NEIGHBOURS]
        third = np.stack([np.sort(far[:, self.label == c], axis=1)[:, 2] for c in range(self.classes)], axis=1)
        return {
            "distance to the class, diagonal": -own(diagonal, said),
            "the same beside the next class": margin(diagonal, said),
            "distance to the class, shared covariance": -own(shared, said),
            "the same beside the next class, shared": margin(shared, said),
            "share of 10 neighbours": (self.label[near] == said[:, None]).mean(1),
            "distance of the 10th neighbour": -far[np.arange(len(far)), near[:, -1]],
            "neighbours of the class beside others": margin(third, said),
        }


def own(rows, said):
    return rows[np.arange(len(rows)), said]


def margin(distances, said):
    others = distances.copy()
    others[np.arange(len(others)), said] = np.inf
    return np.log(others.min(1) / own(distances, said))


def spaces(scores):
    return {"features": scores.features, "peaks": scores.max_activations, "both": scores.outputs()}


def turned(tiles):
    return [np.ascontiguousarray(np.rot90(tiles[:, :, ::flip], k, (1, 2))) for flip in (1, -1) for k in range(4)]


def shifted(tiles):
    """Neighbouring windows of the tile, its edge mirrored."""
    side, m = tiles.shape[1], SHIFT_PX
    wide = np.pad(tiles, ((0, 0), (m, m), (m, m)), mode="reflect")
    places = [(y, x) for y in (0, m, 2 * m) for x in (0, m, 2 * m) if (y, x) != (m, m)]
    return [np.ascontiguousarray(wide[:, y : y + side, x : x + side]) for y, x in places]


def inverted(tiles):
    local = np.stack(
        [cv2.blur(t.astype(np.float32), (LOCAL_PX, LOCAL_PX), borderType=cv2.BORDER_REFLECT_101) for t in tiles]
    )
    return {"inverted": 255 - tiles, "inverted locally": np.clip(2 * local - tiles, 0, 255).astype(np.uint8)}


def contrasted(tiles, gain):
    mean = tiles.mean((1, 2), keepdims=True)
    return np.clip((tiles - mean) * gain + mean, 0, 255).astype(np.uint8)


def scores_of(network, tiles, training):
    """Name -> (N,) score; and the predicted class, (N,)."""
    found = network.score(tiles)

    def p(view):
        return network.score(view).probabilities(network.temperature)

    plain, logits = found.probabilities(network.temperature), found.logits.astype(np.float64)
    said, among = logits.argmax(1), np.exp(logits - logits.max(1, keepdims=True))
    among /= among.sum(1, keepdims=True)
    ordered = np.sort(logits, axis=1)
    made = {
        "softmax": plain.max(1),
        "softmax at half the temperature": found.probabilities(network.temperature / 2).max(1),
        "softmax among the classes": among.max(1),
        "entropy among the classes": (among * np.log(among + 1e-12)).sum(1),
        "margin of the logits": ordered[:, -1] - ordered[:, -2],
        "energy": np.log(np.exp(logits).sum(1)),
    }
    if found.good is not None:
        made["logit of good, negative"] = -found.good[:, 0]
    if network.surface is not None:
        made["distance from the training's surface"] = -network.surface.distances(found.outputs())
    for space, values in spaces(found).items():
        made |= {f"{space}: {name}": score for name, score in training[space].scores(values, said).items()}
    for what, views in (("8 turned views", turned(tiles)), ("8 shifted views", shifted(tiles))):
        every = np.stack([p(view) for view in views])
        made[f"{what}: share that agrees"] = (every.argmax(2) == said).mean(0)
        made[f"{what}: mean probability"] = own(every.mean(0), said)
    for what, view in inverted(tiles).items():
        made[f"{what}: probability of the name"] = own(p(view), said)
        made[f"{what}: disagreement, negative"] = -np.abs(p(view) - plain).sum(1)
    for gain in (0.5, 2.0):
        made[f"contrast x{gain}: probability of the name"] = own(p(contrasted(tiles, gain)), said)
    return made, said


def main(folder, where):
    network = Classifier(bundle.load(where))
    names = np.array(network.card.classes)
    tiles, truth, _ = neu(folder / "neu-cls", network.card.input_px, ("train",))
    label = np.searchsorted(names, truth)
    training = {space: Training(v, label, len(names)) for space, v in spaces(network.score(tiles)).items()}
    rows: dict[str, list[str]] = {}
    for tile_px in TILES_PX:
        tiles, truth, pictures = three_types(folder, network.card.input_px, tile_px)
        made, said = scores_of(network, tiles, training)
        right = names[said] == truth
        say(f"{tile_px} px: {right.sum()} of {len(right)} names are right")
        for name, score in made.items():
            figure = resampled(pictures, lambda at, s=score, r=right: separation(s[at], r[at]))
            rows.setdefault(name, []).append(figure)
    for name, figures in rows.items():
        say(f"{name:52} {'  '.join(figures)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "builtin")
