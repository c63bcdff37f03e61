"""Latency of the shipped files: interleaved with a reference network, and compared with the limit of this core."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge.camera.sources.simulator import Strip
from edge.frame import Float32s, Gray
from edge.host.clock import Clock, SystemClock
from edge.host.interleaved_timer import BURST, interleaved
from edge.model.bundle import FP32, INT8, Bundle, selftest_tiles
from edge.model.classifier import Classifier
from edge.vision.tiles import lay
from trainer.recipe import TrainingError

BATCH: Final = 32
ROUNDS: Final = 200
SIDE: Final = 1024
"""Side of the matrices whose product measures the speed of the core."""
MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
SPREAD: Final = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
"""Normalisation of the reference: that of ImageNet."""
REFERENCE: Final = "reference"
PRODUCT: Final = "product"
NETWORKS: Final = {FP32: "fp32", INT8: "int8"}
"""File of a bundle -> name of its variant in reports."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One timed path from pixels to scores.  median_us, p99_us: of a call.  n: number of calls."""

    network: str
    """fp32, int8 or reference."""
    what: str
    """call: one prepared tile.  batch: a call with BATCH prepared tiles.  picture, picture cv2: with preprocessing."""
    tiles: int
    median_us: float
    p99_us: float
    n: int


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one tile.

    parameters: weights and biases of convolutions and matrix products.  macs: multiply-accumulates.  bound_us: their
    duration at the `gops` of this core, if everything else cost nothing.
    """

    network: str
    bytes: int
    parameters: int
    macs: int
    bound_us: float


@dataclass(frozen=True, slots=True)
class Latency:
    """One run, one process, one thread."""

    machine: str
    onnxruntime: str
    tile_px: int
    paths: tuple[Timed, ...]
    work: tuple[Work, ...]
    gops: dict[str, float]
    """Best speed of large matrix products, fp32 and int8: 10^9 operations/s; a multiply-accumulate counts as two."""
    waited: float
    """Share of the time in which the process did not have the core: above 0.05, other processes disturbed the run."""

    def path(self, network: str, what: str) -> Timed | None:
        return next((p for p in self.paths if (p.network, p.what) == (network, what)), None)

    def ratio(self, network: str, what: str, of: str | None = None, *, p99: bool = False) -> float | None:
        """How many times longer the reference takes, per tile.  of: the path of the reference, if its name differs."""
        own, other = self.path(network, what), self.path(REFERENCE, of or what)
        if own is None or other is None:
            return None
        times = (own.p99_us, other.p99_us) if p99 else (own.median_us, other.median_us)
        return (times[1] / other.tiles) / (times[0] / own.tiles)


def measure(
    loaded: Bundle, *, reference: Path | None = None, rounds: int = ROUNDS, clock: Clock | None = None
) -> Latency:
    """Time all paths of all networks of a bundle, interleaved, in bursts: rounds * BURST calls of each.

    reference: an ONNX file with input (1, 3, H, W) float32, or None.  Raises TrainingError.
    """
    clock = clock or SystemClock()
    tile_px, input_px = loaded.card.tile_px, loaded.card.input_px
    strip = Strip(width=max(256, tile_px), height=max(256, tile_px), seed=2)
    picture = np.ascontiguousarray(strip.frame(40)[:tile_px, :tile_px])
    grid = lay(picture.shape, tile_px=tile_px, input_px=input_px)
    tiles = selftest_tiles(1, BATCH, input_px)

    calls: dict[tuple[str, str], tuple[int, Callable[[], object]]] = {}
    for file, network in NETWORKS.items():
        if file in loaded.networks:
            score = Classifier(loaded, network=file, batch=BATCH).score
            calls[network, "call"] = 1, _bound(score, tiles[:1])
            calls[network, "batch"] = BATCH, _bound(score, tiles)
            calls[network, "picture"] = 1, lambda score=score: score(grid.cut(picture))  # type: ignore[misc]
    if reference is not None:
        calls |= _reference_calls(reference, picture)
    calls |= {(name, PRODUCT): (1, _matrices(name)) for name in ("fp32", "int8")}

    before_ns = clock.monotonic_ns(), time.thread_time_ns()
    times = interleaved([call for _, call in calls.values()], rounds, clock, burst=BURST)
    elapsed_ns, used_ns = clock.monotonic_ns() - before_ns[0], time.thread_time_ns() - before_ns[1]
    timed = {
        (network, what): Timed(network, what, count, *_percentiles_us(ns), n=len(ns))
        for ((network, what), (count, _)), ns in zip(calls.items(), times, strict=True)
    }
    best_us = {
        name: float(np.percentile(ns, 5)) / 1e3
        for (name, what), ns in zip(calls, times, strict=True)
        if what == PRODUCT
    }
    gops = {name: round(2 * SIDE**3 / max(us, 1e-3) / 1e3, 1) for name, us in best_us.items()}
    files = {NETWORKS[file]: loaded.networks[file] for file in NETWORKS if file in loaded.networks}
    if reference is not None:
        files[REFERENCE] = reference.read_bytes()
    return Latency(
        machine(),
        ort.__version__,
        tile_px,
        tuple(path for path in timed.values() if path.what != PRODUCT),
        tuple(_work(name, content, gops["int8" if name == "int8" else "fp32"]) for name, content in files.items()),
        gops,
        round(max(0.0, 1 - used_ns / max(1, elapsed_ns)), 4),
    )


def call_us(bundles: Sequence[Bundle], *, rounds: int = ROUNDS, clock: Clock | None = None) -> list[float]:
    """Median time of a call with one tile, for the fp32 network of each bundle; interleaved, one thread."""
    scores = [Classifier(one).score for one in bundles]
    tiles = [selftest_tiles(1, 1, one.card.input_px) for one in bundles]
    paths = [_bound(*pair) for pair in zip(scores, tiles, strict=True)]
    times = interleaved(paths, rounds, clock or SystemClock(), burst=BURST)
    return [_percentiles_us(ns)[0] for ns in times]


def _percentiles_us(ns: Sequence[int]) -> tuple[float, float]:
    median, p99 = np.percentile(ns, [50, 99])
    return round(float(median) / 1e3, 2), round(float(p99) / 1e3, 2)


def _bound(score: Callable[[Gray], object], tiles: Gray) -> Callable[[], object]:
    return lambda: score(tiles)


def _reference_calls(path: Path, picture: Gray) -> dict[tuple[str, str], tuple[int, Callable[[], object]]]:
    """The reference with one prepared picture a call, and with each of two preprocessings."""
    try:
        session = session_of(path.read_bytes())
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise TrainingError(f"{path}: the reference does not load: {str(error).splitlines()[0][:200]}") from error
    entry = session.get_inputs()[0]
    if len(session.get_inputs()) != 1 or len(entry.shape) != 4 or entry.shape[1] != 3 or entry.type != "tensor(float)":
        raise TrainingError(f"{path}: the reference takes {entry.shape} of {entry.type}, not (1, 3, H, W) float")
    height, width = (int(v) if isinstance(v, int) else 224 for v in entry.shape[2:])

    def run(planes: Float32s) -> object:
        return session.run(None, {entry.name: planes})

    def normalised(rgb: npt.NDArray[np.uint8]) -> Float32s:
        planes = rgb.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
        return np.ascontiguousarray((planes - MEAN) / SPREAD)[None]

    def by_pil() -> object:
        rgb = Image.fromarray(picture).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        return run(normalised(np.asarray(rgb)))

    def by_cv2() -> object:
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        return run(normalised(np.asarray(cv2.cvtColor(small, cv2.COLOR_GRAY2RGB), np.uint8)))

    prepared = normalised(np.zeros((height, width, 3), np.uint8))
    return {
        (REFERENCE, "call"): (1, lambda: run(prepared)),
        (REFERENCE, "picture"): (1, by_pil),
        (REFERENCE, "picture cv2"): (1, by_cv2),
    }


def session_of(content: bytes) -> ort.InferenceSession:
    """One thread, like the daemon."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _matrices(kind: str) -> Callable[[], object]:
    """A product of two SIDE x SIDE matrices in onnxruntime, the second one constant."""
    rng = np.random.default_rng(0)
    if kind == "int8":
        left, right = rng.integers(0, 256, (SIDE, SIDE), np.uint8), rng.integers(-64, 64, (SIDE, SIDE), np.int8)
        types, operator = (TensorProto.UINT8, TensorProto.INT32), "MatMulInteger"
    else:
        left, right = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
        types, operator = (TensorProto.FLOAT, TensorProto.FLOAT), "MatMul"
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        operator,
        [helper.make_tensor_value_info("left", types[0], [SIDE, SIDE])],
        [helper.make_tensor_value_info("product", types[1], [SIDE, SIDE])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    session = session_of(model.SerializeToString())
    return lambda: session.run(None, {"left": left})


def _work(network: str, content: bytes, gops: float) -> Work:
    macs = multiplications(content)
    return Work(network, len(content), parameters(content), macs, round(2 * macs / gops / 1e3, 2))


WEIGHTS: Final = {
    "Conv": (1, 2), "ConvInteger": (1, None), "QLinearConv": (3, 8),
    "Gemm": (1, 2), "QGemm": (3, 6), "MatMul": (1, None), "MatMulInteger": (1, None), "QLinearMatMul": (3, None),
}  # fmt: skip
"""Operators that multiply by weights -> the positions of weights and biases among their inputs."""


def _weighted(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, tuple[int, ...], int]]:
    """Each operator that has weights, with their shape and the number of biases."""
    sizes = {w.name: tuple(w.dims) for w in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}

    def constant(node: onnx.NodeProto, place: int | None) -> tuple[int, ...] | None:
        name = node.input[place] if place is not None and place < len(node.input) else ""
        while name not in sizes and name in made_by and made_by[name].input:  # through DequantizeLinear, Transpose
            name = made_by[name].input[0]
        return sizes.get(name)

    for node in model.graph.node:
        if node.op_type in WEIGHTS:
            weight, bias = (constant(node, place) for place in WEIGHTS[node.op_type])
            if weight is not None:  # without weights, two activations are multiplied: these networks do not do that
                yield node, weight, math.prod(bias) if bias else 0


def parameters(content: bytes) -> int:
    """Number of weights and biases of convolutions and matrix products."""
    return sum(math.prod(weight) + bias for _, weight, bias in _weighted(onnx.load_from_string(content)))


def multiplications(content: bytes) -> int:
    """Multiply-accumulates of one tile or picture, counted in the graph; running it once gives the sizes."""
    model = onnx.load_from_string(content)
    weighted = list(_weighted(model))
    known = {output.name for output in model.graph.output}
    names = [node.output[0] for node, _, _ in weighted]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = session_of(model.SerializeToString())
    entry = session.get_inputs()[0]
    shape = [1 if place == 0 else v if isinstance(v, int) else 224 for place, v in enumerate(entry.shape)]
    dtype = np.uint8 if entry.type == "tensor(uint8)" else np.float32
    made = session.run(names, {entry.name: np.zeros(shape, dtype)}) if names else []
    total = 0
    for (node, weight, _), values in zip(weighted, made, strict=True):
        transposed = "Conv" in node.op_type or any(a.name == "transB" and a.i for a in node.attribute)
        total += int(np.size(values)) // (weight[0] if transposed else weight[-1]) * math.prod(weight)
    return total


def machine() -> str:
    """Processor and number of cores, for the captions of figures."""
    try:
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if ":" in line]
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, value in lines}
    name = facts.get("model name") or facts.get("Model") or platform.machine()
    marks = ("avx2", "avx512_vnni", "amx_int8", "asimddp")
    flags = ", ".join(mark for mark in marks if mark in facts.get("flags", facts.get("Features", "")).split())
    return f"{name}, {os.cpu_count()} cores{f' ({flags})' if flags else ''}, {platform.system()}"


def ratios(latency: Latency) -> dict[str, dict[str, float]]:
    """Network -> path -> how many times longer the reference takes; empty without a reference."""
    rows: dict[str, dict[str, float]] = {}
    for network in ("fp32", "int8"):
        found = {
            "call": latency.ratio(network, "call"),
            "call_p99": latency.ratio(network, "call", p99=True),
            "batch_32_per_tile": latency.ratio(network, "batch", "call"),
            "picture_against_pil": latency.ratio(network, "picture"),
            "picture_against_cv2": latency.ratio(network, "picture", "picture cv2"),
        }
        if any(found.values()):
            rows[network] = {key: round(value, 1) for key, value in found.items() if value is not None}
    return rows
