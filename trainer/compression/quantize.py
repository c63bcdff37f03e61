"""Quantization to int8: rewrite the stem, calibrate, round, compare with fp32, keep it only if it passes the gate."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from edge.frame import Float32s, Gray
from edge.host.clock import Clock, SystemClock
from edge.host.interleaved_timer import interleaved
from edge.model.bundle import FP32, INT8, Bundle, SelfTest, Variant, selftest_tiles
from edge.model.classifier import Classifier, Scores
from trainer.augment import Changes, augment
from trainer.compression import int8_gate
from trainer.compression.int8_gate import Gate
from trainer.compression.rounding import InputStatistics
from trainer.data.corruptions import SUITE, Corruption
from trainer.data.index import Index
from trainer.data.pictures import Picture, cut, read
from trainer.evaluation import evaluate
from trainer.networks import max_activations
from trainer.recipe import TrainingError

WEIGHT_BITS: Final = 7
"""Eight bits saturate the 16-bit sums of x86 processors without VNNI: see docs/decisions/007."""
METHODS: Final = (CalibrationMethod.MinMax, CalibrationMethod.Percentile, CalibrationMethod.Entropy)
CALIBRATION_TILES: Final = 256
VARIANTS: Final = 4
"""Variants of each validation picture for comparing calibrations: one unchanged, the others augmented."""
STRENGTH: Final = 0.5
"""Strength of that augmentation; training uses 1."""
TOLERANCE: Final = 0.05
"""Tolerance of an int8 logit in the self-test. Sums are exact with 7 bits; the rounding of halves may differ."""
SIZES: Final = (1, 18, 32)
"""Tiles of a timed call: one, a line-scan frame, a full batch."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result.  bundle: with int8 if it was kept.  refusals: the reasons if it was not."""

    bundle: Bundle
    measured: dict[str, Any]
    refusals: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return not self.refusals


def quantize(
    made: Bundle,
    index: Index,
    *,
    gate: Gate | None = None,
    seed: int = 0,
    suite: Sequence[Corruption] = SUITE,
    clock: Clock | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Quantize the fp32 network of a bundle, and add the int8 network to the bundle if it passes the gate.

    index: the data of the student. `train` gives the calibration set, `valid` selects the calibration method, `valid`
    and `held_out` are compared with fp32, clean and corrupted.  report: called with one line for each step.
    Raises TrainingError.
    """
    gate, clock = gate or Gate(), clock or SystemClock()
    if index.classes != made.card.classes:
        known = ", ".join(made.card.classes)
        raise TrainingError(f"the pictures show {', '.join(index.classes)}; the bundle knows {known}")
    plain = _without(made)
    fp32 = Classifier(plain)
    side = fp32.card.input_px
    content, measured = _best(plain, index, seed, report)
    tiles = selftest_tiles(fp32.card.selftest.seed, fp32.card.selftest.tiles, side)
    with_int8 = _with(plain, content, _expected(plain, content, tiles))
    int8 = Classifier(with_int8, network=INT8)
    int8.selftest()
    measured |= {"bytes": len(content), "weight_bits": WEIGHT_BITS}
    unseen = [p for split in ("valid", "held_out") for p in index.splits[split] if p.label < len(fp32.card.classes)]
    measured |= _compared(fp32, int8, unseen)
    measured |= _corrupted(fp32, int8, unseen, suite, seed)
    measured["times_fp32"] = _gains(fp32, int8, gate.rounds, clock)
    measured["guarantee"] = int8_gate.guarantee(gate, measured)
    for split in ("held_out", "valid"):
        found = evaluate.evaluate(int8, index.splits[split], temperature=int8.temperature).as_metrics()
        measured[split] = {name: count for name, count in found.items() if name != "confusion_true_said"}
    refusals = int8_gate.refusals(gate, measured)
    if refusals:
        return Outcome(plain, measured, refusals)
    kept = with_int8.card.model_copy(update={"metrics": {**plain.card.metrics, "int8": measured}})
    return Outcome(Bundle(made.origin, kept, with_int8.networks), measured, ())


# Calibration -------------------------------------------------------------------------------------------------------


def _best(plain: Bundle, index: Index, seed: int, report: Callable[[str], None]) -> tuple[bytes, dict[str, Any]]:
    """(int8 network of the calibration that is closest to fp32 on validation pictures, results of all calibrations)."""
    side = plain.card.input_px
    network = onnx.load_from_string(plain.networks[FP32])
    stem = Stem.of(network)
    generator = torch.Generator().manual_seed(seed)
    train = [p for p in index.splits["train"] if p.label <= len(plain.card.classes)]
    picked = np.random.default_rng(seed).permutation(len(train))[:CALIBRATION_TILES]
    unchanged = _tiles([train[i] for i in picked], side)[:CALIBRATION_TILES]
    sets = {"train": unchanged, "train, changed": np.concatenate([unchanged, _augmented(unchanged, generator)])}
    valid = _tiles(index.splits["valid"], side)
    variants = np.concatenate([valid, *(_augmented(valid, generator) for _ in range(VARIANTS - 1))])
    wanted = Classifier(plain).score(variants).probabilities(plain.card.temperature)
    tried: list[tuple[float, str, bytes]] = []
    for name, tiles in sets.items():
        statistics = InputStatistics(stem.network, stem.planes(tiles))
        for method in METHODS:
            content = _finished(stem, _quantized(stem, tiles, method), statistics)
            found = _classifier(plain, content).score(variants).probabilities(plain.card.temperature)
            error = float(np.abs(found - wanted).mean())
            tried.append((error, f"{method.name}, {name}", content))
            report(f"{method.name} on {name}: probabilities differ by {error:.5f} on average")
    error, name, content = min(tried, key=lambda one: one[0])  # a tie goes to the first: MinMax on train
    _check(content, stem)
    return content, {
        "calibration": name,
        "calibration_pictures": len(unchanged),
        "probabilities_differ": {name: round(error, 5) for error, name, _ in tried},
        "probabilities_differ_n": len(variants),
        "float_stem": not stem.has_patches,
    }


def _tiles(pictures: Sequence[Picture], side: int) -> Gray:
    if not pictures:
        raise TrainingError("no pictures for calibration. Give a folder with train and valid pictures")
    return np.concatenate([cut(read(p.path), side) for p in pictures])


def _augmented(tiles: Gray, generator: torch.Generator) -> Gray:
    """Augment as in training, with less strength."""
    changed = augment(torch.from_numpy(tiles), Changes(STRENGTH, plain=0.0), generator)[:, 0]
    return np.asarray(changed.round().to(torch.uint8).numpy(), np.uint8)


# The network -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stem:
    """The fp32 network with a rewritten first convolution (stem), ready to be quantized.

    If kernel and stride of the stem are both k, it reads each pixel once. It then equals a 1x1 convolution over k * k
    channels of the (N, S, S) bytes, rearranged into (N, S / k, S / k, k * k) patches: one copy of bytes, no float
    picture, and a plain matrix product, at which the integer kernels are fastest. Any other stem stays float.
    """

    network: onnx.ModelProto
    """Input `planes`: (N, k * k, S / k, S / k) float32, or (N, 1, S, S)."""
    side: int
    k: int
    node: str
    """Name of the stem's ONNX node."""
    has_patches: bool

    @classmethod
    def of(cls, network: onnx.ModelProto) -> Stem:
        """network: as `export_onnx` writes it: `tiles`, Cast, Reshape, convolution.  Raises TrainingError."""
        network = onnx.ModelProto.FromString(network.SerializeToString())
        graph = network.graph
        side = graph.input[0].type.tensor_type.shape.dim[-1].dim_value
        try:
            cast = _only_user(graph, graph.input[0].name, "Cast")
            shaped = _only_user(graph, cast.output[0], "Reshape")
            stem = _only_user(graph, shaped.output[0], "Conv")
        except LookupError as error:
            raise TrainingError(f"{FP32}: not exported by `defectd-train`: {error}") from error
        if any(a.name == "group" and a.i != 1 for node in graph.node for a in node.attribute):
            raise TrainingError(
                f"{FP32}: grouped convolutions gain nothing from int8 on a CPU, so the network is not quantized"
            )
        max_activations.remove(graph)  # `_finished` adds them again, for the integers
        _unshare_weights(graph)
        for number, node in enumerate(graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        graph.node.remove(cast)
        graph.node.remove(shaped)
        stem.input[0] = "planes"
        weights = {i.name: i for i in graph.initializer}
        kernel = numpy_helper.to_array(weights[stem.input[1]])  # (O, 1, k, k): row, column
        k = kernel.shape[-1]
        attributes = {a.name: helper.get_attribute_value(a) for a in stem.attribute}
        has_patches = (
            kernel.shape[1:] == (1, k, k)
            and list(attributes.get("strides", [1, 1])) == [k, k]
            and not any(attributes.get("pads", [0]))
            and k > 1
            and side % k == 0
        )
        if has_patches:
            flat = kernel.reshape(-1, k * k, 1, 1)  # row after row of the patch
            weights[stem.input[1]].CopyFrom(numpy_helper.from_array(flat, stem.input[1]))
            del stem.attribute[:]
            stem.attribute.append(helper.make_attribute("kernel_shape", [1, 1]))
        planes = ["N", k * k, side // k, side // k] if has_patches else ["N", 1, side, side]
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info("planes", TensorProto.FLOAT, planes))
        used = {name for node in graph.node for name in node.input}
        for unused in [i for i in graph.initializer if i.name not in used]:
            graph.initializer.remove(unused)
        onnx.checker.check_model(network, full_check=True)
        return cls(network, side, k, stem.name, has_patches)

    def planes(self, tiles: Gray) -> Float32s:
        """(N, S, S) uint8 -> the input of `network`."""
        if not self.has_patches:
            return tiles[:, None].astype(np.float32)
        count = self.side // self.k
        apart = tiles.reshape(-1, count, self.k, count, self.k).transpose(0, 2, 4, 1, 3)  # (N, k, k, S / k, S / k)
        return np.ascontiguousarray(apart).reshape(-1, self.k * self.k, count, count).astype(np.float32)


def _only_user(graph: onnx.GraphProto, name: str, kind: str) -> onnx.NodeProto:
    users = [node for node in graph.node if name in node.input]
    if [node.op_type for node in users] != [kind]:
        raise LookupError(f"{name} should feed one {kind}, not {[node.op_type for node in users]}")
    return users[0]


def _unshare_weights(graph: onnx.GraphProto) -> None:
    """Copy weights and biases that an exporter shares because they are equal: each convolution needs its own scale."""
    known = {i.name: i for i in graph.initializer}
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if node.op_type != "Conv":
            continue
        for place, name in enumerate(node.input):
            if name in known and name in taken:
                own = onnx.TensorProto.FromString(known[name].SerializeToString())
                own.name = node.input[place] = f"{name}.{number}"
                graph.initializer.append(own)
            taken.add(name)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, planes: Float32s) -> None:
        whole = (
            planes[: len(planes) // 32 * 32] if len(planes) > 32 else planes
        )  # parts of equal size, because onnxruntime stacks them
        self._parts: Iterator[Float32s] = iter(np.array_split(whole, max(1, len(whole) // 32)))

    def get_next(self) -> dict[str, Float32s] | None:
        part = next(self._parts, None)
        return None if part is None else {"planes": part}


def _quantized(stem: Stem, tiles: Gray, method: CalibrationMethod) -> onnx.ModelProto:
    """Quantize convolutions and ReLUs, with one scale for each output channel; pooling and outputs stay float."""
    network = onnx.ModelProto.FromString(stem.network.SerializeToString())
    # Without this mark onnxruntime warns that the network was not preprocessed; here nothing is left to fold.
    network.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # onnxruntime prints
        out = Path(folder) / INT8
        quantize_static(
            network,
            out,
            _Reader(stem.planes(tiles)),
            quant_format=QuantFormat.QOperator,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_exclude=[] if stem.has_patches else [stem.node],
            per_channel=True,
            reduce_range=WEIGHT_BITS == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )
        return onnx.load(out)


def _finished(stem: Stem, quantized: onnx.ModelProto, statistics: InputStatistics) -> bytes:
    """Prepend the nodes from `tiles` to the stem, and round the weights with error compensation."""
    graph = quantized.graph
    values = {i.name: i for i in graph.initializer}
    if stem.has_patches:
        # The bytes are the integers: scale 1 and zero point 0, regardless of the calibration pictures.
        first = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "planes")
        values[first.input[1]].CopyFrom(numpy_helper.from_array(np.float32(1), first.input[1]))
        values[first.input[2]].CopyFrom(numpy_helper.from_array(np.uint8(0), first.input[2]))
        graph.node.remove(first)
        planes, count, k = first.output[0], stem.side // stem.k, stem.k
        shapes = {"view": [-1, count, k, count, k], "patches_shape": [-1, count, count, k * k]}
        head = [
            helper.make_node("Reshape", ["tiles", "view"], ["tiles_view"], name="view"),
            helper.make_node("Transpose", ["tiles_view"], ["sorted"], perm=[0, 1, 3, 2, 4], name="sorted"),
            helper.make_node("Reshape", ["sorted", "patches_shape"], ["patches"], name="patches"),
            # To (N, C, H, W), as ONNX demands; onnxruntime removes it together with the inverse of its integer kernels.
            helper.make_node("Transpose", ["patches"], [planes], perm=[0, 3, 1, 2], name="planes"),
        ]
    else:
        shapes = {"view": [-1, 1, stem.side, stem.side]}
        head = [
            helper.make_node("Cast", ["tiles"], ["tiles_float"], to=TensorProto.FLOAT, name="cast"),
            helper.make_node("Reshape", ["tiles_float", "view"], ["planes"], name="planes"),
        ]
    graph.initializer.extend(numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items())
    statistics.round_weights(graph, bits=WEIGHT_BITS)
    rest = list(graph.node)
    del graph.node[:], graph.input[:], graph.value_info[:], quantized.metadata_props[:]
    graph.node.extend([*head, *rest])
    graph.input.append(helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", stem.side, stem.side]))
    max_activations.add(quantized)
    quantized.producer_name = "defectd-train"
    onnx.checker.check_model(quantized, full_check=True)
    content: bytes = quantized.SerializeToString()
    return content


def _check(content: bytes, stem: Stem) -> None:
    """Raises TrainingError unless every convolution but a float stem is an integer one."""
    made = [node.op_type for node in onnx.load_from_string(content).graph.node]
    wanted = sum(node.op_type == "Conv" for node in stem.network.graph.node)
    left, integer = made.count("Conv") - (not stem.has_patches), made.count("QLinearConv") + (not stem.has_patches)
    if left or integer != wanted:
        raise TrainingError(f"{wanted - integer} of {wanted} convolutions stayed float: int8 would be slower than fp32")


# The comparison with fp32 -------------------------------------------------------------------------------------------


def _without(made: Bundle) -> Bundle:
    """The bundle without its int8 network."""
    changes = {"files": {FP32: made.card.files[FP32]}, "variants": {}}
    changes["metrics"] = {name: value for name, value in made.card.metrics.items() if name != "int8"}
    return Bundle(made.origin, made.card.model_copy(update=changes), {FP32: made.networks[FP32]})


def _with(plain: Bundle, content: bytes, selftest: SelfTest) -> Bundle:
    changes = {
        "files": {**plain.card.files, INT8: hashlib.sha256(content).hexdigest()},
        "variants": {INT8: Variant(selftest=selftest)},
    }
    return Bundle(plain.origin, plain.card.model_copy(update=changes), {**plain.networks, INT8: content})


def _classifier(plain: Bundle, content: bytes) -> Classifier:
    return Classifier(_with(plain, content, plain.card.selftest), network=INT8)


def _expected(plain: Bundle, content: bytes, tiles: Gray) -> SelfTest:
    logits = _classifier(plain, content).score(tiles).logits
    rows = tuple(tuple(round(float(v), 5) for v in row) for row in logits)
    return SelfTest(seed=plain.card.selftest.seed, tiles=len(tiles), logits=rows, tolerance=TOLERANCE)


def _corrupted(
    fp32: Classifier, int8: Classifier, pictures: Sequence[Picture], suite: Sequence[Corruption], seed: int
) -> dict[str, Any]:
    """Each corruption: correct predictions of int8 and of fp32, and what int8 loses and wins, picture by picture."""
    truth = np.array([p.label for p in pictures])
    images = [read(p.path) for p in pictures]
    counts, apart = {}, {}
    net = np.zeros(len(pictures), np.int64)
    for corruption in suite:
        corrupted = [corruption(image, p.path.stem, seed) for image, p in zip(images, pictures, strict=True)]
        by_int8, by_fp32 = (evaluate.score_images(c, corrupted).logits.argmax(1) == truth for c in (int8, fp32))
        counts[corruption.name] = [int(by_int8.sum()), int(by_fp32.sum())]
        apart[corruption.name] = [int((by_fp32 & ~by_int8).sum()), int((by_int8 & ~by_fp32).sum())]
        net += by_fp32.astype(np.int64) - by_int8
    by_picture = int8_gate.pooled(dict(enumerate(net.tolist())))
    return {
        "corrupted": counts,
        "corrupted_lost_won": apart,
        "worse_better": [by_picture.lost, by_picture.won],
    }


def _compared(fp32: Classifier, int8: Classifier, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Compare both on the same pictures of defects."""
    truth = np.array([p.label for p in pictures])
    one, other = (evaluate.score_pictures(c, pictures) for c in (fp32, int8))
    by_fp32, by_int8 = one.logits.argmax(1), other.logits.argmax(1)
    return {
        "n": len(pictures),
        "fp32_right": int((by_fp32 == truth).sum()),
        "right": int((by_int8 == truth).sum()),
        "lost": int(((by_fp32 == truth) & (by_int8 != truth)).sum()),
        "won": int(((by_int8 == truth) & (by_fp32 != truth)).sum()),
        "agreement": round(float((by_fp32 == by_int8).mean()), 4),
        "largest_probability_difference": round(_apart(one, other, fp32.temperature), 4),
    }


def _apart(one: Scores, other: Scores, temperature: float) -> float:
    return float(np.abs(one.probabilities(temperature) - other.probabilities(temperature)).max())


def _gains(fp32: Classifier, int8: Classifier, rounds: int, clock: Clock) -> dict[str, float]:
    """Number of tiles -> time of fp32 / time of int8, one thread, interleaved."""
    found = {}
    for count in SIZES:
        tiles = selftest_tiles(1, count, fp32.card.input_px)
        calls = [partial(classifier.score, tiles) for classifier in (fp32, int8)]
        times = interleaved(calls, rounds, clock, warm_up=1)
        # The fast quarter: other processes use the machine too.
        fp32_ns, int8_ns = (float(np.percentile(ns, 25)) for ns in times)
        found[str(count)] = round((fp32_ns + 1) / (int8_ns + 1), 2)
    return found
