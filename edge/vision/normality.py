"""How far a tile is from the good surface that `defectd calibrate normal` has seen.

Three views of a tile are each held against a Gaussian of good surface: the network's features, its logits (with
`good`), and the local contrast of the tile itself, because a network that learned other defects may not see a small
dent. Each view gives a Mahalanobis distance; the logarithms, in units of what good surface shows, are added up like
a length.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edge import config
from edge.bundle import FP32, ModelCard
from edge.errors import ConfigError, Problem
from edge.frame import Gray
from edge.vision.classifier import Scores

Floats = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]

SCHEMA: Final = "defectd.normality/1"
MAX_BYTES: Final = 8 << 20
"""Far above any; bounds what a damaged file can make the box read."""
CHUNK: Final = 32
"""Tiles whose contrast is taken at once: what that needs stays in the processor's cache."""
WINDOW: Final = 5
CENTRE: Final = np.int16(WINDOW * WINDOW)
SCALES: Final = 2
TEXTURE: Final = 3 * SCALES
VIEWS: Final = ("features", "logits", "texture")
FLOORS: Final = np.array([0.5, 0.5, 0.2] * SCALES, np.float32)
"""Gray levels that are added before the logarithm: less than that is the sensor's noise."""


class Contrast:
    """Local contrast of tiles at two scales: the brightest and the darkest spot, and the mean.  For one thread.

    A pixel's contrast is its difference from the mean of the 5x5 around it; the tile is looked at in half and in a
    quarter of its size, mirrored out at its border.
    """

    def __init__(self, side: int) -> None:
        """side: of the tiles, px; at least 16."""
        self._sides = [side >> level for level in range(1, SCALES + 1)]
        self._work = [_Work(s) for s in self._sides]

    def __call__(self, tiles: Gray) -> Floats:
        """tiles: (N, side, side) uint8.  Returns (N, 6) float32, logarithms of gray levels."""
        spots = np.empty((len(tiles), TEXTURE), np.float32)
        for start in range(0, len(tiles), CHUNK):
            self._fill(tiles[start : start + CHUNK], spots[start : start + CHUNK])
        spots *= np.float32(1 / CENTRE)
        np.abs(spots, spots)
        spots += FLOORS
        return np.log(spots, spots)

    def _fill(self, tiles: Gray, spots: Floats) -> None:
        small: Gray = np.ascontiguousarray(tiles)
        for level, (side, work) in enumerate(zip(self._sides, self._work, strict=True)):
            small = _halved(small, side)
            contrast = work.contrast(small)
            spots[:, 3 * level] = np.maximum.reduce(contrast, 1)
            spots[:, 3 * level + 1] = np.minimum.reduce(contrast, 1)
            total = np.add.reduce(np.abs(contrast, contrast), 1, dtype=np.int32)
            spots[:, 3 * level + 2] = total / np.float32(side * side)


def _halved(tiles: Gray, side: int) -> Gray:
    """Tiles at half their size, all in one call: they lie below each other."""
    count, whole = tiles.shape[:2]
    if whole != 2 * side:
        tiles = np.ascontiguousarray(tiles[:, : 2 * side, : 2 * side])
    stacked = tiles.reshape(count * 2 * side, 2 * side)
    return np.asarray(cv2.resize(stacked, (side, count * side), interpolation=cv2.INTER_AREA), np.uint8).reshape(
        count, side, side
    )


class _Work:
    """Sums over the 5x5 around each pixel of CHUNK tiles of one size, in memory that is used again and again.

    Sums of shifted arrays are several times faster here than cv2's box filter on so small pictures.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        wide = side + WINDOW - 1
        self._wide = wide
        self._framed: Shorts = np.empty((CHUNK, wide, wide), np.int16)
        self._a, self._b, self._out = (np.zeros(CHUNK * wide * wide, np.int16) for _ in range(3))

    def contrast(self, tiles: Gray) -> Shorts:
        """(N, M) int16, valid until the next call: 25 times the contrast of each pixel, and zeros."""
        count, wide, side = len(tiles), self._wide, self._side
        framed = self._framed[:count]
        framed[:, 2:-2, 2:-2] = tiles
        framed[:, 0, 2:-2], framed[:, 1, 2:-2] = tiles[:, 1], tiles[:, 0]
        framed[:, -1, 2:-2], framed[:, -2, 2:-2] = tiles[:, -2], tiles[:, -1]
        for outside, inside in ((0, 3), (1, 2), (-1, -4), (-2, -3)):
            framed[:, :, outside] = framed[:, :, inside]
        flat = framed.reshape(-1)
        rows = _five(flat, wide, self._a, self._b)
        sums = _five(rows, 1, self._b if rows.base is self._a else self._a, self._out)
        centre = 2 * wide + 2
        work = self._a if sums.base is not self._a else self._b
        middle = np.multiply(flat[centre : centre + len(sums)], CENTRE, out=work[: len(sums)])
        contrast = self._out[: count * wide * wide]
        np.subtract(middle, sums, out=contrast[: len(sums)])
        shaped = contrast.reshape(count, wide, wide)
        shaped[:, side:] = 0
        shaped[:, :, side:] = 0
        return contrast.reshape(count, -1)


def _five(values: Shorts, step: int, first: Shorts, second: Shorts) -> Shorts:
    """Sums of five values that lie `step` apart, in `first`; `second` is written too."""
    size = len(values) - 4 * step
    pairs = np.add(values[: size + 2 * step], values[step : size + 3 * step], out=second[: size + 2 * step])
    fours = np.add(pairs[:size], pairs[2 * step :], out=first[:size])
    return np.add(fours, values[4 * step :], out=fours)


@dataclass(frozen=True, slots=True)
class View:
    """A Gaussian of one view of good surface.

    whitening: (D, D) and offset: (D,) float32: `x @ whitening - offset` has length one in each direction.
    middle, spread: of the logarithm of the distance on good surface that was not used for the fit.
    """

    whitening: Floats
    offset: Floats
    middle: float
    spread: float

    def distance(self, values: Floats) -> Floats:
        """values: (N, D).  Returns (N,) float32, Mahalanobis distances."""
        white = values @ self.whitening
        white -= self.offset
        return np.asarray(np.sqrt(np.einsum("nd,nd->n", white, white)), np.float32)

    def strangeness(self, values: Floats) -> Floats:
        """(N,) float32: 0 in the middle of good surface, 1 where a tenth of it is beyond."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log(self.distance(values))
        logarithm -= np.float32(self.middle)
        logarithm *= np.float32(1 / self.spread)
        return logarithm


def joined(strangeness: Sequence[Floats]) -> Floats:
    """The views as one score: the length of what each has above the common.  Returns (N,) float32.

    For logarithms that scatter normally it ranks as Fisher's product of tail probabilities does.
    """
    total = np.zeros(len(strangeness[0]), np.float32)
    for one in strangeness:
        above = np.maximum(one + np.float32(1), np.float32(0))
        total += above * above
    return np.asarray(np.sqrt(total), np.float32)


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
class Normality:
    """Good surface of one camera, as one model sees it.

    threshold: a tile whose score is above it is a defect.  doubt: from there to the threshold it is unsure.
    """

    model: Model
    side: int
    views: tuple[View, ...]
    """In the order of VIEWS."""
    threshold: float
    doubt: float
    _contrast: list[Contrast] = field(default_factory=list)

    def score(self, tiles: Gray, scores: Scores) -> Floats:
        """tiles: (N, side, side) uint8.  scores: what the network says of them.  Returns (N,) float32, at least 0.

        NaN where the network's scores are no numbers.
        """
        if not self._contrast:
            self._contrast.append(Contrast(self.side))
        seen = (scores.features, evidence(scores), self._contrast[0](tiles))
        return joined([view.strangeness(values) for view, values in zip(self.views, seen, strict=True)])

    def coded(self) -> bytes:
        """As the file holds it."""
        head = {
            "schema": SCHEMA,
            "model": {"name": self.model.name, "version": self.model.version, "sha256": self.model.sha256},
            "side": self.side,
            "threshold": self.threshold,
            "doubt": self.doubt,
            "views": [[view.middle, view.spread] for view in self.views],
        }
        arrays: dict[str, Any] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
        for name, view in zip(VIEWS, self.views, strict=True):
            arrays |= {f"{name}.whitening": view.whitening, f"{name}.offset": view.offset}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> Normality:
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
        raise ConfigError("configuration", (Problem("cameras.normality", str(path), why[:200], remedy),))


def evidence(scores: Scores) -> Floats:
    """(N, classes + 1) float32: the logits, with that of `good` where the network has one."""
    return scores.logits if scores.good is None else np.concatenate((scores.logits, scores.good), 1)


def fitting(known: Sequence[Normality], card: ModelCard, camera: str) -> Normality | None:
    """The calibration that was made with this model; None when there is none at all.  Raises ConfigError."""
    if not known:
        return None
    ours = Model.of(card)
    for normality in known:
        if normality.model.sha256 == ours.sha256:
            return normality
    theirs = ", ".join(str(normality.model) for normality in known)
    remedy = (
        f"Run `defectd calibrate normal --camera {camera}` (with --bundle for a model that does not decide yet), "
        "or set `normality: classes`"
    )
    problem = Problem(
        f"normality of camera {camera}", f"made with {theirs}", f"says nothing of the scores of model {ours}", remedy
    )
    raise ConfigError("calibration", (problem,))


def known_of(camera: config.Camera) -> tuple[Normality, ...]:
    """What was calibrated of a camera's good surface, one for each model.  Raises ConfigError."""
    return tuple(map(Normality.read, camera.normality)) if isinstance(camera.normality, tuple) else ()


def of_camera(camera: config.Camera, card: ModelCard) -> Normality | None:
    """What there is for a model.  Raises ConfigError where there is only something for others, or a file is damaged."""
    return fitting(known_of(camera), card, camera.name)


def _decoded(content: bytes) -> Normality:
    """Raises ValueError, KeyError, TypeError, BadZipFile."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        head = json.loads(bytes(file["head"]))
        if head["schema"] != SCHEMA:
            raise ValueError(f"schema {head['schema']!r}")
        views = []
        for name, (middle, spread) in zip(VIEWS, head["views"], strict=True):
            whitening, offset = (np.asarray(file[f"{name}.{part}"], np.float32) for part in ("whitening", "offset"))
            if whitening.ndim != 2 or whitening.shape != (len(offset), len(offset)) or not float(spread) > 0:
                raise ValueError(f"{name}: arrays of shape {whitening.shape}, {offset.shape}, spread {spread}")
            if not (np.isfinite(whitening).all() and np.isfinite(offset).all()):
                raise ValueError(f"{name}: not all numbers are finite")
            views.append(View(whitening, offset, float(middle), float(spread)))
    model = head["model"]
    threshold, doubt, side = float(head["threshold"]), float(head["doubt"]), int(head["side"])
    if not 0 < doubt <= threshold < 1e6 or not 16 <= side <= 4096:
        raise ValueError(f"threshold {threshold}, doubt {doubt}, side {side}")
    return Normality(
        Model(str(model["name"]), str(model["version"]), str(model["sha256"])), side, tuple(views), threshold, doubt
    )
