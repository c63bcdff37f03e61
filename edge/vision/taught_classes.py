"""Classes that a camera was taught: `defectd calibrate classes` fits them, the inspector names defects by them.

A linear layer on the features and the maximum activations of the network, over what the network itself says where a
name is one of its own classes. It replaces the class logits; the anomaly score and the drift watch still use those of
the network.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge import config
from edge.frame import Float32s
from edge.model.bundle import ModelCard
from edge.model.classifier import Scores
from edge.vision import learned_file
from edge.vision.learned_file import Model

log = logging.getLogger(__name__)

SCHEMA: Final = "defectd.classes/1"
GOOD: Final = "good"
ARRAYS: Final = ("weights", "prior")


@dataclass(frozen=True, slots=True)
class TaughtClasses:
    """The taught layer, for one network.

    tile_px: side of the tiles that it was taught with.
    names: C classes.  has_good: one more column, the last, is "no defect".
    weights: (D, C or C + 1) float32, from the outputs of the network to the logits of these columns.
    prior: (own, C or C + 1) float32, from the network's own probabilities, with its `good`, to the same; they sum to 1,
    so a constant is in every row.  temperature: of the network's own probabilities.
    """

    model: Model
    tile_px: int
    names: tuple[str, ...]
    has_good: bool
    weights: Float32s
    prior: Float32s
    temperature: float
    sha256: str = ""
    """Of the file."""

    def applied(self, scores: Scores) -> Scores:
        """The scores of N tiles with the logits of the taught classes in place of the network's own."""
        values = scores.outputs() @ self.weights
        values += every_probability(scores, self.temperature) @ self.prior
        count = len(self.names)
        good = values[:, count:] if self.has_good else None
        return Scores(values[:, :count], scores.features, good, scores.max_activations)

    def coded(self) -> bytes:
        """The content of the file."""
        head = {
            "tile_px": self.tile_px,
            "names": self.names,
            "has_good": self.has_good,
            "temperature": self.temperature,
        }
        return learned_file.coded(SCHEMA, self.model, head, {name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def read(cls, path: Path) -> TaughtClasses:
        """Read a file.  Raises ConfigError when it holds no taught classes."""
        remedy = "Run `defectd calibrate classes` again, or take it back with --undo"
        return learned_file.read(path, _decoded, key="classes", what="taught classes", remedy=remedy)


def every_probability(scores: Scores, temperature: float) -> Float32s:
    """Softmax over the network's classes and, where it exists, `good`, which is the last column.  (N, own)."""
    logits = scores.logits if scores.good is None else np.concatenate((scores.logits, scores.good), 1)
    return Scores(logits, scores.features, None).probabilities(temperature)


def known_of(camera: config.Camera) -> tuple[TaughtClasses, ...]:
    """What a camera was taught, the newest first.  Raises ConfigError when a file is damaged."""
    return tuple(map(TaughtClasses.read, camera.calibration.taught))


def fitting(known: Sequence[TaughtClasses], card: ModelCard, camera: config.Camera) -> TaughtClasses | None:
    """What was taught last for this network and this size of tiles; None, with a warning, where there is none."""
    if not known:
        return None
    found = _newest(known, card, camera)
    if found is None:
        log.warning("camera %s: %s", camera.name, refusal(known, card, camera))
    return found


def refusal(known: Sequence[TaughtClasses], card: ModelCard, camera: config.Camera) -> str:
    """Why none of what a camera was taught is used, and what to do."""
    theirs = ", ".join(sorted({f"{taught.model} with tiles of {taught.tile_px} px" for taught in known}))
    return (
        f"its classes were taught to model {theirs}, not to {Model.of(card)} with tiles of {camera.tile_px} px: "
        f"not used. Run `defectd calibrate classes --camera {camera.name}` again"
    )


def _newest(known: Sequence[TaughtClasses], card: ModelCard, camera: config.Camera) -> TaughtClasses | None:
    sha256, own = Model.of(card).sha256, len(card.classes) + card.has_good
    fits = (one for one in known if one.model.sha256 == sha256 and len(one.prior) == own)
    return next((one for one in fits if one.tile_px == camera.tile_px), None)


def classes_of(camera: config.Camera, card: ModelCard) -> tuple[str, ...]:
    """The classes by which a camera's defects are named with this network.  Raises ConfigError as `known_of`."""
    known = known_of(camera)
    taught = _newest(known, card, camera) if known else None
    return card.classes if taught is None else taught.names


def _decoded(content: bytes) -> TaughtClasses:
    """Raises learned_file.DAMAGED."""
    model, head, arrays = learned_file.decoded(content, SCHEMA)
    weights, prior = (np.asarray(arrays[name], np.float32) for name in ARRAYS)
    names, has_good = tuple(map(str, head["names"])), bool(head["has_good"])
    columns = len(names) + has_good
    if weights.ndim != 2 or prior.ndim != 2 or not names or len(set(names)) != len(names):
        raise ValueError(f"{len(names)} names, weights {weights.shape}, prior {prior.shape}")
    if (weights.shape[1], prior.shape[1]) != (columns, columns):
        raise ValueError(f"{columns} columns, weights {weights.shape}, prior {prior.shape}")
    temperature = float(head["temperature"])
    if not 0 < temperature < 1e4 or not all(np.isfinite(array).all() for array in (weights, prior)):
        raise ValueError("a number is not finite or not above 0")
    sha256, tile_px = hashlib.sha256(content).hexdigest(), int(head["tile_px"])
    return TaughtClasses(model, tile_px, names, has_good, weights, prior, temperature, sha256)
