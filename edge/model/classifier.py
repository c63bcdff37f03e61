"""The classifier: runs the network in onnxruntime. Tiles go in, scores come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edge.errors import BundleError
from edge.frame import Float32s, Gray
from edge.model import surface
from edge.model.bundle import FEATURES, FP32, MAX_ACTIVATIONS, Bundle, ModelCard, selftest_tiles
from edge.model.cells import CELLS, with_cells
from edge.model.surface import TrainingSurface


@dataclass(frozen=True, slots=True)
class Scores:
    """The outputs of the network for N tiles.

    logits: (N, classes) float32.  features: (N, F) float32; F is 0 for a network without them.  good: (N, 1) float32,
    or None.
    max_activations: (N, P) float32, or None: of each channel of the first layers.
    """

    logits: Float32s
    features: Float32s
    good: Float32s | None
    max_activations: Float32s | None = None

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """Concatenate the scores of several batches."""
        if len(parts) == 1:
            return parts[0]
        good = [part.good for part in parts if part.good is not None]
        activations = [part.max_activations for part in parts if part.max_activations is not None]
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate(good) if good else None,
            np.concatenate(activations) if activations else None,
        )

    def outputs(self) -> Float32s:
        """Features and maximum activations side by side, (N, D) float32: what classes are taught from."""
        if self.max_activations is None:
            return self.features
        return np.concatenate((self.features, self.max_activations), 1)

    def probabilities(self, temperature: float) -> Float32s:
        """Softmax over the classes and, where it exists, "good" (not returned).  Returns (N, classes) float32.

        Without a good output a row sums to 1; with one, it sums to the probability of any defect.
        """
        logits = self.logits if self.good is None else np.concatenate((self.logits, self.good), 1)
        exp = logits / np.float32(temperature)
        with np.errstate(invalid="ignore"):  # infinite logits give NaN; `decide` makes such a tile unsure
            exp -= np.maximum.reduce(exp, 1, keepdims=True)
            np.exp(exp, exp)
            exp /= np.add.reduce(exp, 1, keepdims=True)
        return exp[:, : self.logits.shape[1]]


class Classifier:
    """One CPU session.  Not safe for several threads: the inspection loop owns it."""

    def __init__(self, bundle: Bundle, *, threads: int = 1, batch: int = 32, network: str = FP32) -> None:
        """threads: of the session, intra-op.  batch: maximum number of tiles per call.  Raises BundleError."""
        self.card: ModelCard = bundle.card
        self.network = network
        self.sha256 = bundle.card.files.get(network, "")
        self.bundle = bundle.digest
        self.temperature = bundle.card.temperature_of(network)
        self.sharpness = bundle.card.sharpness
        self.surface: TrainingSurface | None = None
        """What the training showed, where the card has it."""
        if bundle.card.surface is not None:
            self.surface = surface.decoded(bundle.card.surface)
        self.batch = batch
        self._cells: ort.InferenceSession | None = None
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # A spinning thread pool can make other work on the machine 30 times slower (onnxruntime issues).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if network not in bundle.networks:
            raise BundleError(f"{bundle.origin}: has no {network}, only {', '.join(bundle.networks)}")
        try:
            self._session = _session(bundle.networks[network], options)
            extended = with_cells(bundle.networks[network])
            if extended is not None:
                self._cells = _session(extended, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise BundleError(f"{bundle.origin}: {network} does not load: {_short(error)}") from error
        self._check_contract(bundle.origin)

    def _check_contract(self, origin: str) -> None:
        side, outputs = self.card.input_px, {o.name: o for o in self._session.get_outputs()}
        inputs = self._session.get_inputs()
        if [i.name for i in inputs] != ["tiles"] or inputs[0].type != "tensor(uint8)":
            raise BundleError(f"{origin}: {self.network}: its input must be `tiles`, uint8")
        if inputs[0].shape[1:] != [side, side]:
            raise BundleError(f"{origin}: {self.network}: takes {inputs[0].shape}, the card has {side} px")
        if isinstance(inputs[0].shape[0], int):
            raise BundleError(
                f"{origin}: {self.network}: takes {inputs[0].shape[0]} tiles only; export it for any number"
            )
        missing = [name for name in self.card.outputs if name not in outputs]
        if missing:
            raise BundleError(f"{origin}: {self.network}: no output {', '.join(missing)}")
        optional = (
            (FEATURES, self.card.has_features),
            ("good", self.card.has_good),
            (MAX_ACTIVATIONS, self.card.has_max_activations),
        )
        self._outputs = ["logits"] + [name for name, exists in optional if exists]
        for name in self._outputs:
            if outputs[name].type != "tensor(float)":
                raise BundleError(f"{origin}: {self.network}: output {name} is {outputs[name].type}, not float32")

    def score(self, tiles: Gray) -> Scores:
        """Scores of (N, input_px, input_px) uint8 tiles, N >= 1, in calls of at most `batch`.

        Raises BundleError when the network cannot be run.
        """
        named = dict(zip(self._outputs, self._run(self._session, self._outputs, tiles), strict=True))
        features = named[FEATURES] if FEATURES in named else np.empty((len(tiles), 0), np.float32)
        return Scores(named["logits"], features, named.get("good"), named.get(MAX_ACTIVATIONS))

    def cells(self, tiles: Gray) -> Float32s | None:
        """The logits of each cell of the last maps: (N, classes + 1, side, side) float32, `good` last.

        tiles: as for `score`.  Their mean over the cells is that of the tile.  None for a network that gives none
        (`edge.model.cells`).  Raises BundleError when the network cannot be run.
        """
        if self._cells is None:
            return None
        logits, good, cells = self._run(self._cells, ["logits", "good", CELLS], tiles)
        offsets = np.concatenate((logits, good), 1) - cells.mean(axis=2)
        side = isqrt(cells.shape[2])
        return np.asarray((cells + offsets[:, :, None]).reshape(*offsets.shape, side, side), np.float32)

    def _run(self, session: ort.InferenceSession, outputs: list[str], tiles: Gray) -> list[Float32s]:
        """The outputs of a session for all tiles.  Raises BundleError."""
        try:
            parts = [session.run(outputs, {"tiles": part}) for part in self._parts(tiles)]
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise BundleError(f"{self.card.name}: {self.network} does not run: {_short(error)}") from error
        return parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _parts(self, tiles: Gray) -> Iterator[Gray]:
        for start in range(0, len(tiles), self.batch):
            yield tiles[start : start + self.batch]

    def selftest(self) -> None:
        """Compare logits of generated tiles with those in the card.  Raises BundleError."""
        test = self.card.selftest_of(self.network)
        expected = np.array(test.logits, np.float32)
        scores = self.score(selftest_tiles(test.seed, test.tiles, self.card.input_px))
        if scores.logits.shape != expected.shape:
            raise BundleError(f"{self.card.name}: self-test: {scores.logits.shape} logits, not {expected.shape}")
        if scores.features.ndim != 2 or len(scores.features) != test.tiles:
            raise BundleError(f"{self.card.name}: self-test: features of shape {scores.features.shape}")
        if scores.good is not None and scores.good.shape != (test.tiles, 1):
            raise BundleError(f"{self.card.name}: self-test: `good` of shape {scores.good.shape}, not (N, 1)")
        activations = scores.max_activations
        if activations is not None and (activations.ndim != 2 or len(activations) != test.tiles):
            shape = activations.shape
            raise BundleError(f"{self.card.name}: self-test: `{MAX_ACTIVATIONS}` of shape {shape}, not (N, P)")
        parts = (scores.logits, scores.features, scores.good, activations)
        if not all(np.isfinite(part).all() for part in parts if part is not None):
            raise BundleError(f"{self.card.name} {self.card.version}: self-test failed: a score is not finite")
        if self.surface is not None and len(self.surface.centre) != scores.outputs().shape[1]:
            known, given = len(self.surface.centre), scores.outputs().shape[1]
            raise BundleError(f"{self.card.name}: the card's surface has {known} columns, the network {given}")
        error = float(np.max(np.abs(scores.logits - expected), initial=0.0))
        if not error <= test.tolerance:
            raise BundleError(
                f"{self.card.name} {self.card.version}: {self.network}: self-test failed: "
                f"logits differ by {error:.4g}, allowed {test.tolerance:g}. "
                "This processor or this onnxruntime computes wrong scores: do not use it; "
                "install the tested onnxruntime version"
            )


def foreign(network: Path | bytes) -> Callable[[Float32s], list[Float32s]]:
    """Another network, for comparison: one thread, one float32 input, all outputs.  Raises BundleError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        source = network if isinstance(network, bytes) else str(network)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        origin = "the network" if isinstance(network, bytes) else str(network)
        raise BundleError(f"{origin} does not load: {_short(error)}") from error
    name = session.get_inputs()[0].name

    def run(planes: Float32s) -> list[Float32s]:
        try:
            return list(session.run(None, {name: planes}))
        except Exception as error:  # the same
            raise BundleError(f"the network does not run: {_short(error)}") from error

    return run


def _session(network: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _short(error: Exception) -> str:
    """The first line: onnxruntime appends whole graphs."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
