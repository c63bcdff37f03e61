"""Anomaly score of a tile: its distance from the good surface that `defectd calibrate normal` has measured.

Two views of a tile are compared with a Gaussian of good surface each: the logits of the network (with `good`), and the
maximum activations of its first layers. A network that was trained on other defects may have no class for a small dent,
but its first layers respond to it. Each view gives a Mahalanobis distance; the logarithms of the distances, scaled by
their spread on good surface, are combined like the components of a vector.

A third view is the network's own opinion, the odds of any class against `good`. They are not fitted: few tiles of rough
steel cannot show how far a distance reaches, but what the network learned from its training's defects holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge import config
from edge.errors import ConfigError, Problem
from edge.frame import Float32s, Indices
from edge.model.bundle import MAX_ACTIVATIONS, ModelCard
from edge.model.classifier import Scores
from edge.vision import learned_file
from edge.vision.learned_file import Model

SCHEMA: Final = "defectd.normality/3"
WITHOUT_ODDS: Final = "defectd.normality/2"
"""The file of versions before 0.3: the same, without the view of the odds."""
ARRAYS: Final = ("starts", "whitening", "offset", "gain", "shift")
"""Arrays of `Gaussians`, by their names in the file."""
MIN_SQUARE: Final = np.float32(1e-30)
"""Added to a squared distance: 0 has no logarithm."""
ODDS: Final = "odds"
"""Name of the view that is one number: the logarithm of the odds of any class against `good`."""
VIEWS: Final = frozenset({"logits", "features", MAX_ACTIVATIONS, ODDS})
LOW_ODDS: Final = -1.0
ODDS_UNIT: Final = 2.0
"""Odds count above LOW_ODDS, in this unit: enough to help on rough steel, and too little to cost recall on smooth steel
(docs/decisions/031)."""


def views_of(scores: Scores) -> dict[str, Float32s]:
    """The views of N tiles, by name: (N, D) float32 each.

    A network without maximum activations has its features instead: they respond less to small defects
    (docs/decisions/021). A network without `good` has no ODDS.
    """
    views = {"logits": scores.logits if scores.good is None else np.concatenate((scores.logits, scores.good), 1)}
    if scores.max_activations is None:
        views["features"] = scores.features
    else:
        views[MAX_ACTIVATIONS] = scores.max_activations
    if scores.good is not None:
        views[ODDS] = np.logaddexp.reduce(scores.logits, 1, keepdims=True) - scores.good
    return views


@dataclass(frozen=True, slots=True)
class Gaussians:
    """One Gaussian of good surface per view, side by side: one matrix product scores a whole frame.  ODDS stay odds.

    names: V names of `views_of`.  starts: (V,) intp, the first column of each view.
    whitening: (D, D) float32, zero between the views.  offset: (D,) float32: on good surface, `x @ whitening - offset`
    has a variance of one in each direction.  gain, shift: (V,) float32, see `joined`.
    """

    names: tuple[str, ...]
    starts: Indices
    whitening: Float32s
    offset: Float32s
    gain: Float32s
    shift: Float32s

    def logarithms(self, values: Float32s) -> Float32s:
        """Logarithms of squared Mahalanobis distances, and of the odds, (N, V) float32.

        values: (N, D) float32, all views side by side.
        """
        white = values @ self.whitening
        white -= self.offset
        np.multiply(white, white, out=white)
        squares = np.add.reduceat(white, self.starts, 1)
        squares += MIN_SQUARE
        found = np.asarray(np.log(squares, out=squares), np.float32)
        if ODDS in self.names:
            view = self.names.index(ODDS)
            found[:, view] = values[:, self.starts[view]]
        return found

    def score(self, values: Float32s) -> Float32s:
        """Anomaly scores, (N,) float32, at least 0.  values: (N, D) float32, all views side by side."""
        return joined(self.logarithms(values), self.gain, self.shift)


def joined(logarithms: Float32s, gain: Float32s, shift: Float32s) -> Float32s:
    """Combine the views into one score: the Euclidean length of their scaled values.  (N, V) to (N,) float32.

    gain, shift: (V,) float32.  They scale a distance to 1 at the median of good surface and to 2 at its 90 % quantile;
    values below 0 count as 0. For normally distributed logarithms the score ranks tiles as Fisher's product of tail
    probabilities does.
    """
    above = logarithms * gain
    above += shift
    np.maximum(above, np.float32(0), out=above)
    np.multiply(above, above, out=above)
    return np.asarray(np.sqrt(np.add.reduce(above, 1)), np.float32)


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """Good surface of one camera, measured with one network.

    threshold: a tile with a score above it is a defect.  unsure_threshold: a tile with a score above it is unsure.
    """

    model: Model
    surface: Gaussians
    threshold: float
    unsure_threshold: float

    def score(self, scores: Scores) -> Float32s:
        """Anomaly scores of N tiles, (N,) float32; NaN where an output of the network is NaN."""
        views = views_of(scores)
        return self.surface.score(np.concatenate([views[name] for name in self.surface.names], 1))

    def coded(self) -> bytes:
        """The content of the file."""
        head = {"threshold": self.threshold, "doubt": self.unsure_threshold, "views": self.surface.names}
        return learned_file.coded(SCHEMA, self.model, head, {name: getattr(self.surface, name) for name in ARRAYS})

    @classmethod
    def read(cls, path: Path) -> AnomalyModel:
        """Read a file.  Raises ConfigError when it holds no anomaly model."""
        remedy = "Run `defectd calibrate normal`, or leave the key out"
        return learned_file.read(path, _decoded, key="cameras.anomaly", what="anomaly model", remedy=remedy)


def fitting(known: Sequence[AnomalyModel], card: ModelCard, camera: str) -> AnomalyModel | None:
    """The anomaly model that was made with this network; None if there are none at all.

    Raises ConfigError when all of them were made with other networks.
    """
    if not known:
        return None
    ours = Model.of(card)
    for anomaly in known:
        if anomaly.model.sha256 == ours.sha256:
            return anomaly
    theirs = ", ".join(str(anomaly.model) for anomaly in known)
    remedy = (
        f"Run `defectd calibrate normal --camera {camera}` (with --bundle for a model that does not decide yet), "
        "or set `anomaly: classes`"
    )
    problem = Problem(
        f"anomaly model of camera {camera}",
        f"made with {theirs}",
        f"does not fit the scores of model {ours}",
        remedy,
    )
    raise ConfigError("calibration", (problem,))


def known_of(camera: config.Camera) -> tuple[AnomalyModel, ...]:
    """The anomaly models of a camera, one per network.  Raises ConfigError when a file is damaged."""
    return tuple(map(AnomalyModel.read, camera.anomaly)) if isinstance(camera.anomaly, tuple) else ()


def of_camera(camera: config.Camera, card: ModelCard) -> AnomalyModel | None:
    """The anomaly model of a camera for this network, or None.  Raises ConfigError as `known_of` and `fitting`."""
    return fitting(known_of(camera), card, camera.name)


def _decoded(content: bytes) -> AnomalyModel:
    """Raises learned_file.DAMAGED."""
    model, head, arrays = learned_file.decoded(content, SCHEMA, WITHOUT_ODDS)
    starts, rest = np.asarray(arrays[ARRAYS[0]], np.intp), [np.asarray(arrays[name], np.float32) for name in ARRAYS[1:]]
    surface = Gaussians(tuple(map(str, head["views"])), starts, *rest)
    _check(surface)
    threshold, unsure_threshold = float(head["threshold"]), float(head["doubt"])
    if not 0 < unsure_threshold <= threshold < 1e6:
        raise ValueError(f"threshold {threshold}, unsure from {unsure_threshold}")
    return AnomalyModel(model, surface, threshold, unsure_threshold)


def _check(surface: Gaussians) -> None:
    """Raises ValueError where the arrays do not fit together."""
    views, columns = len(surface.names), len(surface.offset)
    shapes = [getattr(surface, name).shape for name in ARRAYS]
    if shapes != [(views,), (columns, columns), (columns,), (views,), (views,)]:
        raise ValueError(f"{views} views with arrays of shape {', '.join(map(str, shapes))}")
    starts = surface.starts.tolist()
    if unknown := set(surface.names) - VIEWS:
        raise ValueError(f"unknown views {', '.join(sorted(unknown))}")
    if not starts or starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= columns:
        raise ValueError(f"views that start at {starts} of {columns} columns")
    if not all(np.isfinite(getattr(surface, name)).all() for name in ARRAYS):
        raise ValueError("not all numbers are finite")
    if not (surface.gain > 0).all():
        raise ValueError(f"gain {surface.gain.tolist()}")
