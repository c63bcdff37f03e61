"""Good against defective steel of two mills, by the shipped model: `calibrate normal` beside baselines.

    python tests/bench/normal_surface.py FOLDER     # that holds cr7-det/ and severstal/, each with labels.json

Half of the good crops, by source frame, is used for the calibration; the other half, and defective tiles from other
frames, are measured. A defective tile is a 200 px square (every 100 px) that contains half of a box, or of which
boxes cover 0.3; tiles with more than 1 % of black background are left out, because that alone would be detected.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.calibration import gaussian_fit, tail_model
from edge.calibration.binomial import interval
from edge.calibration.gaussian_fit import Layout
from edge.model import bundle
from edge.model.classifier import Classifier, Scores
from edge.vision.anomaly import ODDS, AnomalyModel, views_of
from edge.vision.learned_file import Model as Made
from edge.vision.tiles import shrink

SIDE = 200
RATES = (0.05, 0.01, 0.001)
SPLITS = 10
FEW = 24
"""Tiles, of a calibration with few."""
OURS = "joined: calibrate normal"


@dataclass
class Tiles:
    """Tiles at the input size of the network, the frames they come from, and their scores."""

    cut: Any
    frames: Any
    scores: Scores

    @property
    def views(self):
        """By name: the views of the anomaly score, and the features."""
        return {"features": self.scores.features, **views_of(self.scores)}


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def holds(x, y, box):
    left, top, right, bottom = box
    area = max(0, min(x + SIDE, right) - max(x, left)) * max(0, min(y + SIDE, bottom) - max(y, top))
    return area >= 0.5 * max(1, (right - left) * (bottom - top)) or area >= 0.3 * SIDE * SIDE


def crops(folder):
    """(good, their frames), (defective, their frames)."""
    good, bad = [], []
    for name, entry in json.loads((folder / "labels.json").read_text()).items():
        if name.startswith(("normal/", "patches-clean/")):
            good.append((read(folder / name), entry["from"]))
        elif entry.get("boxes"):
            image = read(folder / name)
            height, width = image.shape
            tops = range(0, height - SIDE + 1, 100) if height >= 2 * SIDE else (0, (height - SIDE) // 2, height - SIDE)
            for y in tops:
                for x in range(0, width - SIDE + 1, 100):
                    tile = image[y : y + SIDE, x : x + SIDE]
                    if (tile < 12).mean() < 0.01 and any(holds(x, y, box[1:]) for box in entry["boxes"]):
                        bad.append((tile, Path(name).name))
    return good, bad


def tiles_of(found, classifier):
    cut = np.stack([shrink(tile, classifier.card.input_px, classifier.card.input_px) for tile, _ in found])
    return Tiles(cut, np.array([frame for _, frame in found]), classifier.score(cut))


def auroc(good, bad):
    values = np.concatenate((good, bad))
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[len(good) :].sum() - len(bad) * (len(bad) + 1) / 2) / (len(good) * len(bad)))


def rows(views, chosen):
    return {name: view[chosen] for name, view in views.items()}


def side_by_side(views, names):
    return np.concatenate([views[name] for name in names], 1)


def nearest(bank, values):
    """Distance to the nearest of a memory of good tiles, thinned to a half by greedy farthest-point selection."""
    centre, scale = bank.mean(0), bank.std(0) + 1e-9
    bank, values = (bank - centre) / scale, (values - centre) / scale
    kept, apart = [0], ((bank - bank[0]) ** 2).sum(1)
    while len(kept) < max(1, len(bank) // 2):
        kept.append(int(apart.argmax()))
        apart = np.minimum(apart, ((bank - bank[kept[-1]]) ** 2).sum(1))
    return np.sqrt(((values[:, None] - bank[kept][None]) ** 2).sum(2).min(1))


def baselines(scores):
    logits = np.asarray(scores.logits, np.float64)
    top = logits.max(1, keepdims=True)
    energy = (top + np.log(np.exp(logits - top).sum(1, keepdims=True)))[:, 0]
    found = {"maximum softmax": 1 / np.exp(logits - top).sum(1), "energy": energy}
    if scores.good is not None:
        found["odds of any class against good"] = views_of(scores)[ODDS][:, 0]
    return found


def halves(good, bad, splits):
    """For each split: good tiles of the calibration, their frames counted from 0, and masks of the measured tiles."""
    frames = np.unique(good.frames)
    for split in range(splits):
        chosen = np.random.default_rng(split).permutation(frames)[: len(frames) // 2]
        fit = np.flatnonzero(np.isin(good.frames, chosen))
        fit = fit[np.argsort(good.frames[fit], kind="stable")]
        owner = np.unique(good.frames[fit], return_inverse=True)[1]
        yield fit, owner, ~np.isin(good.frames, chosen), ~np.isin(bad.frames, chosen)


def best_levels(fine):
    """Levels from the measured half itself: an advantage that only baselines have."""
    return [np.quantile(fine, 1 - rate, method="higher") for rate in RATES]


def promised_levels(held, owner):
    """Thresholds of `calibrate normal`, from scores of tiles that were held out from each Gaussian."""
    counted = [tail_model.conformal_share(held, owner, rate) for rate in RATES]
    return [
        tail_model.Tail.of(held).level(rate) if level is None else level
        for level, rate in zip(counted, RATES, strict=True)
    ]


def note(table, label, fine, odd, levels):
    """Add one split to a row of the table."""
    cell = table.setdefault(label, {"auroc": [], **{rate: [] for rate in RATES}})
    cell["auroc"].append(auroc(fine, odd))
    for rate, level in zip(RATES, levels, strict=True):
        cell[rate].append((int((fine > level).sum()), len(fine), int((odd > level).sum()), len(odd)))


def measure(name, folder, classifier, splits=SPLITS):
    good, bad = (tiles_of(found, classifier) for found in crops(folder))
    good_views, bad_views = good.views, bad.views
    table = {}
    base_good, base_bad = baselines(good.scores), baselines(bad.scores)
    for fit, owner, rest, other in halves(good, bad, splits):
        calibrate, measured = rows(good_views, fit), (rows(good_views, rest), rows(bad_views, other))
        for label in (name for name in good_views if name != ODDS):
            alone = gaussian_fit.fitted(calibrate[label], Layout.of({label: calibrate[label]}))
            fine, odd = (alone.score(values[label]) for values in measured)
            note(table, f"Gaussian of {label}", fine, odd, best_levels(fine))
        for label in ("features", "peaks"):
            fine, odd = (nearest(calibrate[label], values[label]) for values in measured)
            note(table, f"nearest neighbour, {label}", fine, odd, best_levels(fine))
        for label in base_good:
            fine, odd = base_good[label][rest], base_bad[label][other]
            note(table, label, fine, odd, best_levels(fine))
        names = tuple(views_of(good.scores))
        layout = Layout.of({name: calibrate[name] for name in names})
        surface, held, _ = gaussian_fit.scored(side_by_side(calibrate, names), layout, owner)
        fine, odd = (surface.score(side_by_side(values, names)) for values in measured)
        note(table, OURS, fine, odd, promised_levels(held, owner))
        note(table, f"{OURS}, levels as allowed", fine, odd, best_levels(fine))
        for few in (names, tuple(name for name in names if name != ODDS)):
            some = rows(calibrate, slice(FEW))
            layout = Layout.of({name: some[name] for name in few})
            made, _, _ = gaussian_fit.scored(side_by_side(some, few), layout, owner[:FEW])
            fine, odd = (made.score(side_by_side(values, few)) for values in measured)
            note(table, f"from {FEW} tiles: {', '.join(few)}", fine, odd, best_levels(fine))
    write(f"\n{name}: {len(good.cut)} good tiles of {len(np.unique(good.frames))} frames, {len(bad.cut)} defective")
    for label, cell in table.items():
        lines = [
            f"{label:32s} AUROC {np.mean(cell['auroc']):.3f} ({min(cell['auroc']):.3f} to {max(cell['auroc']):.3f})"
        ]
        for rate in RATES:
            false, of, hit, odd = cell[rate][0]
            mean_false = np.mean([a / b for a, b, _, _ in cell[rate]])
            mean_hit = np.mean([a / b for _, _, a, b in cell[rate]])
            low, high = interval(hit, odd)
            first = f"first split {hit}/{odd} [{low:.2f} {high:.2f}], {false}/{of} false"
            lines.append(f"  at {rate:5.1%}: recall {mean_hit:.3f}, false {mean_false:.4f}; {first}")
        write("\n".join(lines))
    return {label: float(np.mean(cell["auroc"])) for label, cell in table.items()}, good, surface


def without_peaks(bundle):
    """The same networks without the output `peaks`."""
    import onnx

    from trainer.networks import max_activations

    networks = {}
    for name, content in bundle.networks.items():
        network = onnx.load_from_string(content)
        max_activations.remove(network.graph)
        networks[name] = network.SerializeToString()
    card = bundle.card.model_copy(update={"outputs": {k: v for k, v in bundle.card.outputs.items() if k != "peaks"}})
    return replace(bundle, card=card, networks=networks)


def cost(tiles, surface, shipped, rounds=400):
    """Time of the anomaly score on top of the network, as the frame path calls it: us per tile of a line-scan frame.

    Each network without peaks, with peaks, and with peaks and the score after it, in turns.
    """
    cut = np.ascontiguousarray(tiles.cut[:18])
    anomaly = AnomalyModel(Made.of(shipped.card), surface, 1.0, 1.0)
    bare = without_peaks(shipped)
    for network in shipped.networks:
        plain_network, with_peaks = Classifier(bare, network=network), Classifier(shipped, network=network)
        jobs = (
            lambda c=plain_network: c.score(cut),
            lambda c=with_peaks: c.score(cut),
            lambda c=with_peaks: anomaly.score(c.score(cut)),
        )
        spent = [[] for _ in jobs]
        for _ in range(rounds):
            for job, times in zip(jobs, spent, strict=True):
                started = time.perf_counter()
                job()
                times.append(time.perf_counter() - started)
        plain, peaked, whole = (float(np.median(times)) / len(cut) * 1e6 for times in spent)
        write(
            f"{network}: {plain:.1f} us a tile, with peaks {peaked:.1f}, with the score {whole:.1f}: "
            f"the anomaly score costs {whole / plain - 1:.0%} (medians of {rounds} in turns, {len(cut)} tiles)"
        )


def write(text):
    sys.stderr.write(f"{text}\n")


def main(folder, splits=SPLITS):
    cv2.setNumThreads(1)
    shipped = bundle.load("builtin")
    classifier = Classifier(shipped)
    found = {}
    for name in ("cr7-det", "severstal"):
        found[name], good, surface = measure(name, folder / name, classifier, splits)
    cost(good, surface, shipped)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
