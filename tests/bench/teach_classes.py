"""What five labelled tiles of a class teach: `calibrate classes` on CR7 (another mill) and on NEU (the model's data).

    python tests/bench/teach_classes.py FOLDER [TILE_PX ...]

FOLDER holds normal-steel/cr7-det (pictures, labels.json) and neu-cls (train, valid, test). A tile is a square around a
box. Each of 20 draws teaches with n tiles of each type, from n pictures, and judges the tiles of all other pictures.
NEU: taught from train, judged on valid and test. No picture is stored.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from edge.calibration import classes
from edge.calibration.classes import Lesson
from edge.calibration.thresholds import calibration_error
from edge.model import bundle
from edge.model.classifier import Classifier, Scores
from edge.vision.tiles import shrink

DRAWS = 20
NEU_NAMES = {"inclusions": "inclusion", "linear": "scratches", "pits": "pitted_surface"}


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def cr7(folder, side, tile_px):
    """(tiles, types, pictures): the square around each box."""
    tiles, types, pictures = [], [], []
    for name, entry in sorted(json.loads((folder / "labels.json").read_text()).items()):
        for kind, left, top, right, bottom in entry.get("boxes", ()):
            image = read(folder / name)
            x = int(np.clip((left + right - tile_px) // 2, 0, image.shape[1] - tile_px))
            y = int(np.clip((top + bottom - tile_px) // 2, 0, image.shape[0] - tile_px))
            tiles.append(shrink(image[y : y + tile_px, x : x + tile_px], side, side))
            types.append(kind)
            pictures.append(name)
    return np.stack(tiles), np.array(types), np.array(pictures)


def neu(folder, side, splits):
    paths = [path for split in splits for path in sorted((folder / split).glob("*/*.png"))]
    tiles = np.stack([shrink(read(path), side, side) for path in paths])
    return tiles, np.array([path.parent.name for path in paths]), np.array([path.stem for path in paths])


def rows(scores, at):
    good, peaks = (None if part is None else part[at] for part in (scores.good, scores.max_activations))
    return Scores(scores.logits[at], scores.features[at], good, peaks)


def drawn(types, pictures, n, rng):
    """Tiles to teach with, and the tiles of all other pictures."""
    chosen, used = [], set()
    for kind in sorted(set(types)):
        free = [p for p in rng.permutation(np.unique(pictures[types == kind])) if p not in used][:n]
        used |= set(free)
        chosen += [int(rng.choice(np.flatnonzero((types == kind) & (pictures == p)))) for p in free]
    return np.array(chosen), np.flatnonzero(~np.isin(pictures, list(used)))


def recalls(said, types):
    return {kind: float((said[types == kind] == kind).mean()) for kind in sorted(set(types))}


def macro_recall(said, types, at):
    """Mean recall of the types, in the rows `at`."""
    return np.mean(list(recalls(said[at], types[at]).values()))


def auroc(low, high):
    values = np.concatenate((low, high))
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") + 1
    return (ranks[len(low) :].sum() - len(high) * (len(high) + 1) / 2) / max(1, len(low) * len(high))


def teach(network, scores, types, pictures, at, *, keeps):
    card, memory = network.card, None if network.surface is None else network.surface.memory
    lesson = Lesson(rows(scores, at), tuple(map(str, types[at])), np.unique(pictures[at], return_inverse=True)[1])
    return classes.teach(lesson, card, memory, tile_px=card.tile_px, temperature=network.temperature, keeps=keeps)


def measure(network, scores, types, pictures, n, *, keeps=False):
    """Mean and range over the draws."""
    found = {"macro": [], "three": [], "ece": [], "auroc": [], "left out": [], "refused": [], "sure": [], "as good": []}
    for draw in range(DRAWS):
        at, judged = drawn(types, pictures, n, np.random.default_rng(draw))
        taught = teach(network, scores, types, pictures, at, keeps=keeps)
        p = taught.classes.applied(rows(scores, judged)).probabilities(1.0)
        said, truth = np.array(taught.classes.names)[p.argmax(1)], types[judged]
        right, each = said == truth, recalls(said, truth)
        found["macro"].append(np.mean(list(each.values())))
        mapped = {*NEU_NAMES, *NEU_NAMES.values()}
        found["three"].append(np.mean([recall for kind, recall in each.items() if kind in mapped]))
        found["ece"].append(calibration_error(p.max(1).astype(float), right.astype(float)))
        found["auroc"].append(auroc(p.max(1)[~right], p.max(1)[right]))
        found["left out"].append(taught.macro)
        found["refused"].append(bool(taught.inseparable))
        found["sure"].append((p.max(1) >= 0.6).mean())
        found["as good"].append((p.sum(1) < 0.35).mean())
    return {name: (float(np.mean(v)), float(np.min(v)), float(np.max(v))) for name, v in found.items()}


def show(what, found):
    say(what, " ".join(f"{name} {mean:.3f} [{low:.3f} {high:.3f}]" for name, (mean, low, high) in found.items()))


def main(folder, sides):
    network = Classifier(bundle.load("builtin"))
    side = network.card.input_px
    for tile_px in sides:
        tiles, types, pictures = cr7(folder / "normal-steel" / "cr7-det", side, tile_px)
        scores = network.score(tiles)
        own = np.array(network.card.classes)[scores.logits.argmax(1)]
        zero_shot = [(own[types == kind] == name).mean() for kind, name in NEU_NAMES.items()]
        say(f"CR7, {len(tiles)} tiles of {tile_px} px; untaught, three types that NEU has: {np.mean(zero_shot):.3f}")
        for n in (2, 5, 10):
            show(f"  {n} of each:", measure(network, scores, types, pictures, n))
        renamed = np.array([NEU_NAMES.get(kind, kind) for kind in types])
        show("  5 of each, NEU's names:", measure(network, scores, renamed, pictures, 5))
    train, held_out = (neu(folder / "neu-cls", side, s) for s in (("train",), ("valid", "test")))
    scores, judged = network.score(train[0]), network.score(held_out[0])
    own = (np.array(network.card.classes)[judged.logits.argmax(1)] == held_out[1]).sum()
    right = []
    for draw in range(DRAWS):
        at, _ = drawn(train[1], train[2], 5, np.random.default_rng(draw))
        taught = teach(network, scores, train[1], train[2], at, keeps=True).classes
        p = taught.applied(judged).probabilities(1.0)
        right.append(int((np.array(taught.names)[p.argmax(1)] == held_out[1]).sum()))
    say(f"NEU: {own} of {len(held_out[1])} untaught; taught, in {DRAWS} draws: {min(right)} to {max(right)}")
    tiles, types, pictures = cr7(folder / "normal-steel" / "cr7-det", side, network.card.tile_px)
    strange = network.score(tiles)
    for kind in ("punching", "oil_spots"):
        new, old = [], []
        for draw in range(DRAWS):
            own_tiles = np.flatnonzero(types == kind)
            at, rest = drawn(types[own_tiles], pictures[own_tiles], 5, np.random.default_rng(draw))
            taught = teach(network, strange, types, pictures, own_tiles[at], keeps=True).classes
            names = np.array(taught.names)
            new.append((names[taught.applied(rows(strange, own_tiles[rest])).logits.argmax(1)] == kind).mean())
            old.append(int((names[taught.applied(judged).logits.argmax(1)] == held_out[1]).sum()))
        found = f"{np.mean(new):.3f} [{min(new):.3f} {max(new):.3f}]"
        say(f"{kind} beside NEU's classes, 5 tiles: {found}; NEU {min(old)} to {max(old)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [100, 200])
