"""The surface that a network was trained on, in a form that fits into card.json.

`TrainingSurface.distances` says how far a tile is from everything that the training showed. The features and the
maximum activations are reduced to a few directions and the length of what these leave out; each kind of training tile
(a class, good surface, the generated strip) has a Gaussian there. Its distances are scaled so that three quarters of
the tiles of a kind, other than those that it was fitted on, lie within 1.

`memory` holds a few training tiles of each class and of good surface, as outputs of the network: what keeps a
class in place while `defectd calibrate classes` teaches another one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.frame import Float32s, Float64s

MAX_COLUMNS: Final = 4096
MAX_KINDS: Final = 64
MAX_DIRECTIONS: Final = 256
MAX_MEMORY: Final = 4096
LOG_OFFSET: Final = 0.03
"""Added before the logarithm: activations are at least 0."""
REST_OFFSET: Final = 1e-3
DIRECTIONS: Final = 24
"""With 24, tiles of another mill are as well separated as with 96 (docs/models.md)."""
SHARED: Final = 0.1
"""Share of the covariance within all kinds that is mixed into that of each kind."""
RIDGE: Final = 0.01
"""Share of the mean variance that is added in every direction."""
TYPICAL: Final = 0.75
REMEMBERED: Final = 12
"""Tiles of each class."""

Bytes = npt.NDArray[np.uint8]


class Surface(BaseModel):
    """The part `surface` of card.json.  Arrays are base64 of float16, or of uint8 for the memory.

    columns: features and maximum activations together, D.  directions: K.  kinds: G, and K1 = K + 1.
    centre, scale: (D,).  basis: (D, K).  means: (G, K1).  whitening: (G, K1, K1).
    memory: (M, D), in units of memory_unit (D,).  memory_labels: M names of classes, or `good`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Annotated[int, Field(gt=0, le=MAX_COLUMNS)]
    directions: Annotated[int, Field(gt=0, le=MAX_DIRECTIONS)]
    kinds: Annotated[int, Field(gt=0, le=MAX_KINDS)]
    centre: str
    scale: str
    basis: str
    means: str
    whitening: str
    memory: str = ""
    memory_unit: str = ""
    memory_labels: Annotated[tuple[str, ...], Field(max_length=MAX_MEMORY)] = ()

    @model_validator(mode="after")
    def _can_be_decoded(self) -> Surface:
        decoded(self)
        return self


@dataclass(frozen=True, slots=True)
class Memory:
    """Outputs of the network for some training tiles.  values: (M, D) float32.  labels: M names."""

    values: Float32s
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingSurface:
    """A decoded `Surface`.

    stacked: (K1, G * K1) float32, the whitening of all kinds side by side.  offset: (G * K1,).
    """

    centre: Float32s
    scale: Float32s
    basis: Float32s
    stacked: Float32s
    offset: Float32s
    kinds: int
    memory: Memory

    def distances(self, values: Float32s) -> Float32s:
        """(N,) squared distances from the nearest kind of training tile; 1 and less is usual.

        values: (N, D) float32, features and maximum activations.  NaN where the network gave NaN.
        """
        reduced = _reduced(values, self.centre, self.scale, self.basis)
        white = reduced @ self.stacked
        white -= self.offset
        np.multiply(white, white, out=white)
        squares = white.reshape(len(values), self.kinds, -1).sum(axis=2)
        return np.asarray(squares.min(axis=1), np.float32)


def decoded(part: Surface) -> TrainingSurface:
    """Raises ValueError where the arrays do not have their sizes, or hold a number that is not finite."""
    columns, kinds, more = part.columns, part.kinds, part.directions + 1
    means = _floats("means", part.means, kinds, more)
    whitening = _floats("whitening", part.whitening, kinds, more, more)
    scale = _floats("scale", part.scale, columns)
    if not (scale > 0).all():
        raise ValueError("surface: a scale is not above 0")
    labels = part.memory_labels
    unit = _floats("memory_unit", part.memory_unit, columns) if labels else np.zeros(columns, np.float32)
    codes = _array("memory", part.memory, np.uint8, len(labels), columns)
    return TrainingSurface(
        _floats("centre", part.centre, columns),
        scale,
        _floats("basis", part.basis, columns, part.directions),
        np.ascontiguousarray(whitening.transpose(1, 0, 2).reshape(more, kinds * more)),
        np.einsum("gi,gij->gj", means, whitening).reshape(-1).astype(np.float32),
        kinds,
        Memory(codes.astype(np.float32) * unit, labels),
    )


def measured(values: Float32s, kinds: Sequence[str], remembered: Sequence[str], *, seed: int = 0) -> Surface:
    """Describe the tiles of a training.

    values: (N, D) float32, features and maximum activations.  kinds: the kind of each, such as its class.
    remembered: kinds of which some tiles are kept: the classes, and `good`.  Raises ValueError for too few tiles.
    """
    names, kind_of = np.unique(np.asarray(kinds), return_inverse=True)
    rng = np.random.default_rng(seed)
    raw = np.log(values + LOG_OFFSET)
    centre, scale = _rounded(raw.mean(axis=0)), _rounded(raw.std(axis=0) + 1e-3)
    white = (raw - centre) / scale
    directions = min(DIRECTIONS, values.shape[1])
    _, axes = np.linalg.eigh((white.T @ white).astype(np.float64) / len(white))
    basis = _rounded(np.ascontiguousarray(axes[:, ::-1][:, :directions]))
    reduced = _reduced(values, centre, scale, basis).astype(np.float64)
    half = rng.permutation(len(values)) % 2 == 0
    halves = [(_gaussians(reduced[one], kind_of[one], len(names)), ~one) for one in (half, ~half)]
    means, whitening = _gaussians(reduced, kind_of, len(names))
    for g in range(len(names)):
        held_out = [_squares(reduced[other & (kind_of == g)], m[g], w[g]) for (m, w), other in halves]
        whitening[g] /= np.sqrt(np.quantile(np.concatenate(held_out), TYPICAL))
    chosen = [
        int(i) for name in remembered for i in rng.permutation(np.flatnonzero(names[kind_of] == name))[:REMEMBERED]
    ]
    kept = values[chosen]
    unit = _rounded(np.maximum(kept.max(axis=0, initial=0.0), 1e-3) / 255)
    return Surface(
        columns=values.shape[1],
        directions=directions,
        kinds=len(names),
        centre=_coded(centre),
        scale=_coded(scale),
        basis=_coded(basis),
        means=_coded(means),
        whitening=_coded(whitening),
        memory=_coded(np.clip(np.rint(kept / unit), 0, 255), np.uint8),
        memory_unit=_coded(unit),
        memory_labels=tuple(str(names[kind_of[i]]) for i in chosen),
    )


def _reduced(values: Float32s, centre: Float32s, scale: Float32s, basis: Float32s) -> Float32s:
    """(N, K + 1): the directions, and the logarithm of the mean square of what they leave out."""
    white = (np.log(values + np.float32(LOG_OFFSET)) - centre) / scale
    along = white @ basis
    rest = np.square(white - along @ basis.T).mean(axis=1, keepdims=True)
    return np.concatenate((along, np.log(rest + np.float32(REST_OFFSET))), axis=1)


def _gaussians(reduced: Float64s, kind_of: Any, kinds: int) -> tuple[Float64s, Float64s]:
    """Means (G, K1) and whitening (G, K1, K1) of each kind."""
    width = reduced.shape[1]
    if min(np.bincount(kind_of, minlength=kinds)) < 2:
        raise ValueError("surface: each kind of training tile needs at least four tiles")
    means = np.stack([reduced[kind_of == g].mean(axis=0) for g in range(kinds)])
    apart = reduced - means[kind_of]
    shared = apart.T @ apart / len(apart)
    whitening = np.empty((kinds, width, width))
    for g in range(kinds):
        own = apart[kind_of == g]
        covariance = (1 - SHARED) * (own.T @ own) / len(own) + SHARED * shared
        covariance += RIDGE * np.trace(covariance) / width * np.eye(width)
        variances, axes = np.linalg.eigh(covariance)
        whitening[g] = axes / np.sqrt(variances * width)
    return means, whitening


def _squares(reduced: Float64s, mean: Float64s, whitening: Float64s) -> Float64s:
    return np.asarray(np.square((reduced - mean) @ whitening).sum(axis=1), np.float64)


def _rounded(values: Any) -> Float32s:
    """What is left of the values in the card."""
    return np.asarray(values, np.float16).astype(np.float32)


def _coded(values: Any, kind: Any = np.float16) -> str:
    return base64.b64encode(np.ascontiguousarray(np.asarray(values, kind)).tobytes()).decode("ascii")


def _floats(name: str, text: str, *shape: int) -> Float32s:
    values = _array(name, text, np.float16, *shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"surface: {name} holds a number that is not finite")
    return values


def _array(name: str, text: str, kind: Any, *shape: int) -> npt.NDArray[Any]:
    content = base64.b64decode(text, validate=True)
    count = int(np.prod(shape))
    if len(content) != count * np.dtype(kind).itemsize:
        raise ValueError(f"surface: {name} has {len(content)} bytes, not {count * np.dtype(kind).itemsize}")
    return np.frombuffer(content, np.dtype(kind)).reshape(shape)
