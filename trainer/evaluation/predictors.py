"""Predictors: pictures in, class probabilities out, from a shipped file or from a network in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from edge.frame import Float32s, Gray
from edge.model.classifier import Classifier
from trainer.data.pictures import cut
from trainer.evaluation.evaluate import score_images
from trainer.training.losses import joined

Predictor = Callable[[Sequence[Gray]], Float32s]
"""Pictures of any size, (H, W) uint8 each -> probabilities (N, classes).  With a `good` output rows sum to below 1."""
BATCH = 64


def file_predictor(classifier: Classifier) -> Predictor:
    """Calibrated probabilities of a shipped file, with the temperature that its card gives for this file."""
    return lambda images: score_images(classifier, images).probabilities(classifier.temperature)


def network_predictor(network: nn.Module, input_px: int) -> Predictor:
    """Probabilities of a network in torch, without temperature."""

    def predict(images: Sequence[Gray]) -> Float32s:
        parts = [cut(image, input_px) for image in images]
        tiles = torch.from_numpy(np.concatenate(parts))[:, None]
        with torch.inference_mode():
            rows = torch.cat(
                [joined(logits, good) for logits, _, good in (network(some.float()) for some in tiles.split(BATCH))]
            )
        means = torch.stack([some.mean(0) for some in rows.split([len(part) for part in parts])])
        classes = int(network.classes.out_features)  # type: ignore[union-attr, arg-type]
        return np.asarray(means.softmax(1)[:, :classes].numpy(), np.float32)

    return predict
