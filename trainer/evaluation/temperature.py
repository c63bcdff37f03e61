"""Temperature scaling: one divisor of the logits that makes the probabilities match the accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.model.classifier import Classifier, Scores
from trainer.data.index import Index
from trainer.data.samples import Samples
from trainer.evaluation.evaluate import score_pictures


def temperature(classifier: Classifier, index: Index, held_out: Samples) -> float:
    """Fit the temperature on data that training did not see: the valid split and the held-out tiles."""
    outputs = len(index.classes) + int(classifier.card.has_good)
    valid = [p for p in index.splits["valid"] if p.label < outputs]
    scores, labels = [], []
    if valid:
        scores.append(score_pictures(classifier, valid))
        labels.append(np.array([p.label for p in valid], np.int64))
    usable = held_out.labels.numpy() < outputs
    if usable.any():
        scores.append(_rows(classifier.score(held_out.tiles[:, 0].numpy()), usable))
        labels.append(held_out.labels.numpy()[usable])
    return fit_temperature(scores, labels) if scores else 1.0


def fit_temperature(scores: Sequence[Scores], labels: Sequence[npt.NDArray[np.int64]]) -> float:
    """The temperature between 0.25 and 4 with the lowest negative log-likelihood over all outputs."""
    joined = [s.logits if s.good is None else np.concatenate([s.logits, s.good], 1) for s in scores]
    logits, truth = np.concatenate(joined).astype(np.float64), np.concatenate(list(labels))
    candidates = np.exp(np.linspace(np.log(0.25), np.log(4.0), 97))

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        top = scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled - top).sum(1)) + top[:, 0] - scaled[np.arange(len(truth)), truth]).mean())

    return round(float(min(candidates, key=loss)), 3)


def _rows(scores: Scores, use: npt.NDArray[np.bool_]) -> Scores:
    """The rows where `use`, (N,) bool, is true."""
    return Scores(scores.logits[use], scores.features[use], None if scores.good is None else scores.good[use])
