"""Evaluation of an exported network through the code of the daemon: the only source of published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.config import Decision
from edge.frame import Float32s, Gray
from edge.model.classifier import Classifier, Scores
from trainer.data.pictures import Picture, cut, read

CONFIDENCE, UNSURE = Decision().confidence, Decision().unsure
"""The daemon's default thresholds: configured or calibrated thresholds override them."""


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """Counts over pictures that all show a defect.

    right: the likeliest class is the true one, `good` excluded.  confusion: [true][predicted], likewise.
    The other four add up to the number of pictures. They are the daemon's verdicts on a single frame: a defect of the
    right or of a wrong class, unsure, or nothing.
    """

    pictures: int
    right: int
    defect_right: int
    defect_wrong: int
    unsure: int
    missed: int
    confusion: tuple[tuple[int, ...], ...]

    def as_metrics(self) -> dict[str, Any]:
        """The keys of card.json."""
        return {
            "n": self.pictures,
            "right": self.right,
            "defect_right": self.defect_right,
            "defect_wrong": self.defect_wrong,
            "unsure": self.unsure,
            "missed": self.missed,
            "confusion_true_said": [list(row) for row in self.confusion],
        }


def score_pictures(classifier: Classifier, pictures: Sequence[Picture]) -> Scores:
    """One row for each picture: the mean over its tiles.  A square picture is one tile."""
    return score_images(classifier, [read(p.path) for p in pictures])


def score_images(classifier: Classifier, images: Sequence[Gray]) -> Scores:
    """The same for decoded pictures, (H, W) uint8 of any size, at least one."""
    tiles = [cut(image, classifier.card.input_px) for image in images]
    scores = classifier.score(np.concatenate(tiles))
    counts = np.array([len(some) for some in tiles])
    if counts.max() == 1:
        return scores

    def means(rows: Float32s) -> Float32s:
        sums = np.add.reduceat(rows, np.concatenate([[0], counts.cumsum()[:-1]]))
        return np.asarray(sums / counts[:, None], np.float32)

    return Scores(means(scores.logits), means(scores.features), None if scores.good is None else means(scores.good))


def evaluate(classifier: Classifier, pictures: Sequence[Picture], *, temperature: float) -> VerdictCounts:
    """Count the verdicts on pictures of defects, with the daemon's preprocessing and classifier."""
    count = len(classifier.card.classes)
    pictures = [p for p in pictures if p.label < count]
    confusion = np.zeros((count, count), np.int64)
    if not pictures:
        return VerdictCounts(0, 0, 0, 0, 0, 0, tuple(map(tuple, confusion.tolist())))
    labels = np.array([p.label for p in pictures])
    scores = score_pictures(classifier, pictures)
    predicted = scores.logits.argmax(1)
    np.add.at(confusion, (labels, predicted), 1)
    defect, unsure = verdicts(scores.probabilities(temperature))
    return VerdictCounts(
        len(pictures),
        int((predicted == labels).sum()),
        int((defect & (predicted == labels)).sum()),
        int((defect & (predicted != labels)).sum()),
        int(unsure.sum()),
        int((~defect & ~unsure).sum()),
        tuple(map(tuple, confusion.tolist())),
    )


def verdicts(probabilities: Float32s) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The daemon's verdicts on (N, classes) probabilities: which tiles are defects, and which are unsure."""
    defect = probabilities.max(1) >= CONFIDENCE
    total = probabilities.sum(1)
    suspicion = total if (total < 1 - 1e-4).any() else probabilities.max(1)  # below 1: the network has `good`
    return defect, ~defect & (suspicion >= UNSURE)
