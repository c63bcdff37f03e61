"""The door to onnxruntime: tiles in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from edge.errors import BundleError
from edge.frame import Float32s, Gray
from edge.model.bundle import FP32, Bundle, ModelCard, selftest_tiles


@dataclass(frozen=True, slots=True)
class Scores:
    """What the network says of N tiles.

    logits: (N, classes) float32.  features: (N, F) float32.  good: (N, 1) float32, or None.
    peaks: (N, P) float32, or None.
    """

    logits: Float32s
    features: Float32s
    good: Float32s | None
    peaks: Float32s | None = None

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of several batches as those of one."""
        if len(parts) == 1:
            return parts[0]
        good = [part.good for part in parts if part.good is not None]
        peaks = [part.peaks for part in parts if part.peaks is not None]
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate(good) if good else None,
            np.concatenate(peaks) if peaks else None,
        )

    def probabilities(self, temperature: float) -> Float32s:
        """(N, classes) float32: softmax over the classes and, where it exists, "good" (not returned).

        A row sums to 1 without a good output, and to the probability of any defect with one.
        """
        logits = self.logits if self.good is None else np.concatenate((self.logits, self.good), 1)
        exp = logits / np.float32(temperature)
        with np.errstate(invalid="ignore"):  # a network that yields infinities: NaN, which `decide` never calls good
            exp -= np.maximum.reduce(exp, 1, keepdims=True)
            np.exp(exp, exp)
            exp /= np.add.reduce(exp, 1, keepdims=True)
        return exp[:, : self.logits.shape[1]]


class Classifier:
    """One CPU session. Not safe for several threads: the inspection thread owns it."""

    def __init__(self, bundle: Bundle, *, threads: int = 1, batch: int = 32, network: str = FP32) -> None:
        """threads: intra-op.  batch: largest number of tiles in one call.  Raises BundleError."""
        self.card: ModelCard = bundle.card
        self.network = network
        self.sha256 = bundle.card.files.get(network, "")
        self.bundle = bundle.digest
        self.temperature = bundle.card.temperature_of(network)
        self.batch = batch
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # A spinning pool made other work on the box 30 times slower (onnxruntime issues); never spin.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if network not in bundle.networks:
            raise BundleError(f"{bundle.origin}: holds no {network}, only {', '.join(bundle.networks)}")
        try:
            self._session = ort.InferenceSession(bundle.networks[network], options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise BundleError(f"{bundle.origin}: {network} does not load: {_short(error)}") from error
        self._check_contract(bundle.origin)

    def _check_contract(self, origin: str) -> None:
        side, given = self.card.input_px, {o.name: o for o in self._session.get_outputs()}
        inputs = self._session.get_inputs()
        if [i.name for i in inputs] != ["tiles"] or inputs[0].type != "tensor(uint8)":
            raise BundleError(f"{origin}: {self.network}: its input must be `tiles`, uint8")
        if inputs[0].shape[1:] != [side, side]:
            raise BundleError(f"{origin}: {self.network}: takes {inputs[0].shape}, the card says {side} px")
        if isinstance(inputs[0].shape[0], int):
            raise BundleError(
                f"{origin}: {self.network}: takes {inputs[0].shape[0]} tiles only; export it for any number"
            )
        missing = [name for name in self.card.outputs if name not in given]
        if missing:
            raise BundleError(f"{origin}: {self.network}: no output {', '.join(missing)}")
        optional = (("good", self.card.has_good), ("peaks", self.card.has_peaks))
        self._outputs = ["logits", "features"] + [name for name, is_there in optional if is_there]
        for name in self._outputs:
            if given[name].type != "tensor(float)":
                raise BundleError(f"{origin}: {self.network}: output {name} is {given[name].type}, not float32")

    def score(self, tiles: Gray) -> Scores:
        """Scores of (N, input_px, input_px) uint8 tiles, N >= 1, in calls of at most `batch`.

        Raises BundleError when the network cannot be run.
        """
        try:
            parts = [self._session.run(self._outputs, {"tiles": part}) for part in self._parts(tiles)]
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise BundleError(f"{self.card.name}: {self.network} does not run: {_short(error)}") from error
        joined = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        named = dict(zip(self._outputs, joined, strict=True))
        return Scores(named["logits"], named["features"], named.get("good"), named.get("peaks"))

    def _parts(self, tiles: Gray) -> Iterator[Gray]:
        for start in range(0, len(tiles), self.batch):
            yield tiles[start : start + self.batch]

    def selftest(self) -> None:
        """Compare with the card's expected logits on generated tiles.  Raises BundleError."""
        test = self.card.selftest_of(self.network)
        expected = np.array(test.logits, np.float32)
        scores = self.score(selftest_tiles(test.seed, test.tiles, self.card.input_px))
        if scores.logits.shape != expected.shape:
            raise BundleError(f"{self.card.name}: self-test: {scores.logits.shape} logits, not {expected.shape}")
        if scores.features.ndim != 2 or len(scores.features) != test.tiles:
            raise BundleError(f"{self.card.name}: self-test: features of shape {scores.features.shape}")
        if scores.good is not None and scores.good.shape != (test.tiles, 1):
            raise BundleError(f"{self.card.name}: self-test: `good` of shape {scores.good.shape}, not (N, 1)")
        if scores.peaks is not None and (scores.peaks.ndim != 2 or len(scores.peaks) != test.tiles):
            raise BundleError(f"{self.card.name}: self-test: `peaks` of shape {scores.peaks.shape}, not (N, P)")
        parts = (scores.logits, scores.features, scores.good, scores.peaks)
        if not all(np.isfinite(part).all() for part in parts if part is not None):
            raise BundleError(f"{self.card.name} {self.card.version}: self-test failed: a score is not finite")
        error = float(np.max(np.abs(scores.logits - expected), initial=0.0))
        if not error <= test.tolerance:
            raise BundleError(
                f"{self.card.name} {self.card.version}: {self.network}: self-test failed: "
                f"logits differ by {error:.4g}, allowed {test.tolerance:g}. "
                "This processor or onnxruntime computes something else: do not trust its verdicts; "
                "install the tested onnxruntime version"
            )


def foreign(path: Path) -> Callable[[Float32s], object]:
    """A network that is none of ours, for comparison: one thread, one float32 input.  Raises BundleError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise BundleError(f"{path} does not load: {_short(error)}") from error
    name = session.get_inputs()[0].name
    return lambda planes: session.run(None, {name: planes})


def _short(error: Exception) -> str:
    """The first line: onnxruntime adds whole graphs."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
