"""How far a tile is from the good surface that `defectd calibrate normal` has seen.

Two views of a tile are each held against a Gaussian of good surface: the network's logits (with `good`), and the peaks
of its first layers, because a network that learned other defects may not name a small dent, but its first layers see
it. Each view gives a Mahalanobis distance; the logarithms, in units of what good surface shows, are added up like a
length.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge import config
from edge.errors import ConfigError, Problem
from edge.frame import Float32s, Indices
from edge.model.bundle import FP32, ModelCard
from edge.model.classifier import Scores

SCHEMA: Final = "defectd.normality/2"
MAX_BYTES: Final = 8 << 20
"""Far above any; bounds what a damaged file can make the box read."""
ARRAYS: Final = ("starts", "whitening", "offset", "gain", "shift")
"""Of `Gaussians`, as the file names them."""
LEAST: Final = np.float32(1e-30)
"""A squared distance of 0 has no logarithm."""


def views_of(scores: Scores) -> dict[str, Float32s]:
    """What good surface is told by, by name: (N, D) float32 each.

    A network without `peaks` is told by its features: they see small flaws less well (docs/decisions/021).
    """
    logits = scores.logits if scores.good is None else np.concatenate((scores.logits, scores.good), 1)
    if scores.peaks is None:
        return {"logits": logits, "features": scores.features}
    return {"logits": logits, "peaks": scores.peaks}


@dataclass(frozen=True, slots=True)
class Gaussians:
    """A Gaussian of each view of good surface, side by side: one matrix product measures a whole frame.

    names: (V) of `views_of`.  starts: (V,) the first column of each view.
    whitening: (D, D) float32, zero between the views, offset: (D,): `x @ whitening - offset` has length one in each
    direction.  gain, shift: (V,) float32, see `joined`.
    """

    names: tuple[str, ...]
    starts: Indices
    whitening: Float32s
    offset: Float32s
    gain: Float32s
    shift: Float32s

    def logarithms(self, values: Float32s) -> Float32s:
        """values: (N, D), all views beside each other.  Returns (N, V) float32, of squared Mahalanobis distances."""
        white = values @ self.whitening
        white -= self.offset
        np.multiply(white, white, out=white)
        squares = np.add.reduceat(white, self.starts, 1)
        squares += LEAST
        return np.asarray(np.log(squares, out=squares), np.float32)

    def score(self, values: Float32s) -> Float32s:
        """values: (N, D).  Returns (N,) float32, at least 0."""
        return joined(self.logarithms(values), self.gain, self.shift)


def joined(logarithms: Float32s, gain: Float32s, shift: Float32s) -> Float32s:
    """The views as one score: the length of what each has above the common.  (N, V) to (N,) float32.

    gain, shift: (V,) they make a view 1 in the middle of good surface and 2 where a tenth of it is beyond; what is
    below 0 is common. For logarithms that scatter normally it ranks as Fisher's product of tail probabilities does.
    """
    above = logarithms * gain
    above += shift
    np.maximum(above, np.float32(0), out=above)
    np.multiply(above, above, out=above)
    return np.asarray(np.sqrt(np.add.reduce(above, 1)), np.float32)


@dataclass(frozen=True, slots=True)
class Model:
    """The network whose scores a calibration is made of.  sha256: of student.onnx."""

    name: str
    version: str
    sha256: str

    @classmethod
    def of(cls, card: ModelCard) -> Model:
        return cls(card.name, card.version, card.files[FP32])

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.sha256[:12]})"


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """Good surface of one camera, as one model sees it.

    threshold: a tile whose score is above it is a defect.  doubt: from there to the threshold it is unsure.
    """

    model: Model
    surface: Gaussians
    threshold: float
    doubt: float

    def score(self, scores: Scores) -> Float32s:
        """scores: what the network says of N tiles.  Returns (N,) float32; NaN where it says no numbers."""
        seen = views_of(scores)
        return self.surface.score(np.concatenate([seen[name] for name in self.surface.names], 1))

    def coded(self) -> bytes:
        """As the file holds it."""
        head = {
            "schema": SCHEMA,
            "model": {"name": self.model.name, "version": self.model.version, "sha256": self.model.sha256},
            "threshold": self.threshold,
            "doubt": self.doubt,
            "views": self.surface.names,
        }
        arrays = {name: getattr(self.surface, name) for name in ARRAYS}
        buffer = io.BytesIO()
        np.savez(buffer, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> AnomalyModel:
        """Raises ConfigError when it is no calibration of good surface."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise ValueError("larger than any such file")
            return _decoded(content)
        except OSError as error:
            why = str(error.strerror or error)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            why = f"not a calibration of good surface: {error}"
        remedy = "Run `defectd calibrate normal`, or leave the key out"
        raise ConfigError("configuration", (Problem("cameras.anomaly", str(path), why[:200], remedy),))


def fitting(known: Sequence[AnomalyModel], card: ModelCard, camera: str) -> AnomalyModel | None:
    """The calibration that was made with this model; None when there is none at all.  Raises ConfigError."""
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
        f"says nothing of the scores of model {ours}",
        remedy,
    )
    raise ConfigError("calibration", (problem,))


def known_of(camera: config.Camera) -> tuple[AnomalyModel, ...]:
    """What was calibrated of a camera's good surface, one for each model.  Raises ConfigError."""
    return tuple(map(AnomalyModel.read, camera.anomaly)) if isinstance(camera.anomaly, tuple) else ()


def of_camera(camera: config.Camera, card: ModelCard) -> AnomalyModel | None:
    """What there is for a model.  Raises ConfigError where there is only something for others, or a file is damaged."""
    return fitting(known_of(camera), card, camera.name)


def _decoded(content: bytes) -> AnomalyModel:
    """Raises ValueError, KeyError, TypeError, BadZipFile."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        head = json.loads(bytes(file["head"]))
        if head["schema"] != SCHEMA:
            raise ValueError(f"{head['schema']!r}, not {SCHEMA!r}: made by another version of defectd")
        starts = np.asarray(file["starts"], np.intp)
        arrays = [np.asarray(file[name], np.float32) for name in ARRAYS[1:]]
    names = tuple(map(str, head["views"]))
    surface = Gaussians(names, starts, *arrays)
    _check(surface)
    model = head["model"]
    threshold, doubt = float(head["threshold"]), float(head["doubt"])
    if not 0 < doubt <= threshold < 1e6:
        raise ValueError(f"threshold {threshold}, doubt {doubt}")
    return AnomalyModel(
        Model(str(model["name"]), str(model["version"]), str(model["sha256"])), surface, threshold, doubt
    )


def _check(surface: Gaussians) -> None:
    """Raises ValueError where its arrays do not belong together."""
    views, columns = len(surface.names), len(surface.offset)
    shapes = [getattr(surface, name).shape for name in ARRAYS]
    if shapes != [(views,), (columns, columns), (columns,), (views,), (views,)]:
        raise ValueError(f"{views} views with arrays of shape {', '.join(map(str, shapes))}")
    starts = surface.starts.tolist()
    if not starts or starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= columns:
        raise ValueError(f"views that begin at {starts} of {columns} columns")
    if not all(np.isfinite(getattr(surface, name)).all() for name in ARRAYS):
        raise ValueError("not all numbers are finite")
    if not (surface.gain > 0).all():
        raise ValueError(f"gain {surface.gain.tolist()}")
