"""What the shipped file gives, through the code that ships: the only source of published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.camera.strip import Strip
from edge.frame import Gray
from edge.vision.classifier import Classifier, Scores
from edge.vision.tiles import lay
from trainer.data import Picture, Samples, cut, read

CONFIDENT = 0.5
"""Probability from which a tile counts as defective here; calibration sets it on a box."""


@dataclass(frozen=True, slots=True)
class Report:
    """Counts over pictures that all show a defect, or all show none.

    right: the likeliest class, "good" aside.  confident_right, confident_wrong: its probability, "good" included,
    is at least CONFIDENT.  confusion: [true][said], "good" aside.
    """

    pictures: int
    right: int
    confident_right: int
    confident_wrong: int
    confusion: tuple[tuple[int, ...], ...]

    def as_metrics(self) -> dict[str, Any]:
        return {
            "n": self.pictures,
            "right": self.right,
            "right_and_confident": self.confident_right,
            "wrong_and_confident": self.confident_wrong,
            "confusion_true_said": [list(row) for row in self.confusion],
        }


def score_pictures(classifier: Classifier, pictures: Sequence[Picture]) -> Scores:
    """One row for each picture: the mean over its tiles (a single one when it is square)."""
    parts = [classifier.score(cut(read(p.path), classifier.card.input_px)) for p in pictures]
    good = [s.good.mean(0) for s in parts if s.good is not None]
    return Scores(
        np.stack([s.logits.mean(0) for s in parts]),
        np.stack([s.features.mean(0) for s in parts]),
        np.stack(good) if good else None,
    )


def evaluate(classifier: Classifier, pictures: Sequence[Picture], *, temperature: float) -> Report:
    """Verdicts on pictures of defects, by file through edge's preprocessing and classifier."""
    count = len(classifier.card.classes)
    pictures = [p for p in pictures if p.label < count]
    confusion = np.zeros((count, count), np.int64)
    if not pictures:
        return Report(0, 0, 0, 0, tuple(map(tuple, confusion.tolist())))
    labels = np.array([p.label for p in pictures])
    scores = score_pictures(classifier, pictures)
    said = scores.logits.argmax(1)
    np.add.at(confusion, (labels, said), 1)
    confident = scores.probabilities(temperature).max(1) >= CONFIDENT
    return Report(
        len(pictures),
        int((said == labels).sum()),
        int((confident & (said == labels)).sum()),
        int((confident & (said != labels)).sum()),
        tuple(map(tuple, confusion.tolist())),
    )


def false_tiles(classifier: Classifier, tiles: Gray, *, temperature: float, at: float = CONFIDENT) -> int:
    """How many of (N, S, S) tiles of sound surface would be called defective."""
    if not len(tiles):
        return 0
    return int((classifier.score(tiles).probabilities(temperature).max(1) >= at).sum())


def measure_strip(
    classifier: Classifier, strip: Strip, frames: range, *, temperature: float, overlap: float = 0.1
) -> dict[str, Any]:
    """The generated strip as the daemon sees it: false tiles, and how long each defect is seen for what it is.

    A tile is sound when it touches no box. A frame sees a defect when the likeliest tile that meets its box names
    its class with at least 0.6.
    """
    card = classifier.card
    grid = lay((strip.height, strip.width), tile_px=card.tile_px, input_px=card.input_px, overlap=overlap)
    sound, false_03, false_05, highest = 0, 0, 0, 0.0
    whole: dict[int, tuple[str, int]] = {}
    runs: dict[int, tuple[int, int, str]] = {}
    wrong_frames = 0
    for n in frames:
        probabilities = classifier.score(grid.cut(strip.frame(n))).probabilities(temperature)
        shown = strip.truth(n)
        meets = {d.track: _meeting(grid.boxes, box) for d, box in shown}
        clean = ~np.any([*meets.values(), np.zeros(len(grid), bool)], axis=0)
        top = probabilities[clean].max(1)
        sound += len(top)
        false_03, false_05 = false_03 + int((top >= 0.3).sum()), false_05 + int((top >= CONFIDENT).sum())
        highest = max(highest, float(top.max(initial=0)))
        for defect, box in shown:
            near = probabilities[meets[defect.track]]
            best = near[near.max(1).argmax()]
            said = card.classes[int(best.argmax())]
            sure = float(best.max()) >= 0.6
            longest, run, _ = runs.get(defect.track, (0, 0, ""))
            run = run + 1 if sure and said == defect.class_name else 0
            runs[defect.track] = max(longest, run), run, defect.class_name
            wrong_frames += int(sure and said != defect.class_name)
            if box[3] == defect.box[3]:
                whole[defect.track] = (defect.class_name, defect.box[3])
    complete = {track: runs[track][0] for track in whole}
    return {
        "frames": len(frames),
        "sound_tiles": sound,
        "sound_tiles_from_0.3": false_03,
        "sound_tiles_from_0.5": false_05,
        "highest_on_sound": round(highest, 4),
        "defects": len(complete),
        "defects_right_3_frames_running": sum(run >= 3 for run in complete.values()),
        "shortest_run_frames": min(complete.values(), default=0),
        "frames_confidently_wrong": wrong_frames,
    }


def _meeting(boxes: npt.NDArray[np.int32], box: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    x, y, w, h = box
    left, top, right, bottom = boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    return np.asarray((left < x + w) & (x < right) & (top < y + h) & (y < bottom))


def as_scored(classifier: Classifier, samples: Samples) -> Scores:
    """Scores of samples as they are, without their JPEG variant."""
    return classifier.score(samples.tiles[:, 0].numpy())


def only(scores: Scores, use: npt.NDArray[np.bool_]) -> Scores:
    """The rows where `use`, (N,) bool, is true."""
    return Scores(scores.logits[use], scores.features[use], None if scores.good is None else scores.good[use])


def fit_temperature(scores: Sequence[Scores], labels: Sequence[npt.NDArray[np.int64]]) -> float:
    """The temperature with the least negative log-likelihood over all outputs, between 0.25 and 4."""
    joined = [s.logits if s.good is None else np.concatenate([s.logits, s.good], 1) for s in scores]
    logits, truth = np.concatenate(joined).astype(np.float64), np.concatenate(list(labels))
    candidates = np.exp(np.linspace(np.log(0.25), np.log(4.0), 97))

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        top = scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled - top).sum(1)) + top[:, 0] - scaled[np.arange(len(truth)), truth]).mean())

    return round(float(min(candidates, key=loss)), 3)
