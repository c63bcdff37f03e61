"""Rounding of weights to integers: later weights compensate the rounding error of earlier ones, and the bias the rest.

Order and compensation follow OBQ (Optimal Brain Quantization); GPTQ does the same with a Cholesky factor. A convolution
is a matrix product over its input pixels. So the rounding error of one weight can be compensated by weights with
correlated inputs; the calibration tiles give the correlations.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edge.frame import Float32s, Float64s

MAX_POSITIONS: Final = 20_000
"""Positions sampled from the inputs of a convolution: many more than it has weights."""
DAMPING: Final = 0.01
"""Share of the mean power added to the power of every input, so that inputs that are always 0 stay harmless."""


class InputStatistics:
    """Statistics of the inputs of each convolution over the calibration tiles, and the integer weights they lead to."""

    def __init__(self, network: onnx.ModelProto, planes: Float32s) -> None:
        """network: fp32.  planes: its input."""
        self._weights = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in network.graph.initializer}
        self._convs = {node.input[1]: node for node in network.graph.node if node.op_type == "Conv"}
        inputs = _inputs(network, [conv.input[0] for conv in self._convs.values()], planes)
        self._means: dict[str, Float64s] = {}
        self._powers: dict[str, Float64s] = {}
        for name, conv in self._convs.items():
            columns = _columns(inputs[conv.input[0]], conv, self._weights[name].shape)
            self._means[name] = columns.mean(0)
            self._powers[name] = columns.T @ columns / len(columns)
        self._rounded: dict[str, tuple[Float64s, Float64s]] = {}
        """Weight -> (scales, rounded weights): a cache, because several calibration methods share the scales."""

    def round_weights(self, graph: onnx.GraphProto, *, bits: int) -> None:
        """Replace the integer weights and biases of every QLinearConv; scales and zero points stay.

        graph: the quantized network, changed in place.  bits: of a weight.
        """
        values = {i.name: i for i in graph.initializer}
        for node in graph.node:
            if node.op_type != "QLinearConv":
                continue
            name = node.input[3].removesuffix("_quantized")
            exact, bias = self._weights[name], self._weights[self._convs[name].input[2]]
            x_scale, scale = (numpy_helper.to_array(values[node.input[i]]).astype(np.float64) for i in (1, 4))
            integers = self._integers(name, scale, bits)
            lost = (integers * scale[:, None] - exact.reshape(integers.shape)) @ self._means[name]
            for place, made in (
                (3, integers.reshape(exact.shape).astype(np.int8)),
                (8, np.rint((bias - lost) / (x_scale * scale)).astype(np.int32)),
            ):
                values[node.input[place]].CopyFrom(numpy_helper.from_array(made, node.input[place]))

    def _integers(self, name: str, scale: Float64s, bits: int) -> Float64s:
        known = self._rounded.get(name)
        if known is None or not np.array_equal(known[0], scale):
            flat = self._weights[name].reshape(len(scale), -1)
            known = self._rounded[name] = scale, rounded(flat, scale, self._powers[name], bits)
        return known[1]


def rounded(weight: Float64s, scale: Float64s, power: Float64s, bits: int) -> Float64s:
    """Integers that, times `scale`, approximate `weight` for the given inputs.

    weight: (O, K).  scale: (O,).  power: (K, K), mean products of the inputs of the weights.  Returns (O, K).
    """
    power = power.copy()
    power[np.diag_indices_from(power)] += DAMPING * power.diagonal().mean() + 1e-9
    order = np.argsort(
        -power.diagonal(), kind="stable"
    )  # inputs with the most power first: more weights remain to compensate their error
    factor = np.linalg.cholesky(np.linalg.inv(power[np.ix_(order, order)])).T  # (K, K), upper
    left, integers = weight[:, order].copy(), np.empty_like(weight)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    for k, place in enumerate(order):
        integers[:, place] = np.clip(np.rint(left[:, k] / scale), low, high)
        error = (left[:, k] - integers[:, place] * scale) / factor[k, k]
        left[:, k + 1 :] -= error[:, None] * factor[k, k + 1 :]
    return integers


def _columns(inputs: Float32s, conv: onnx.NodeProto, shape: tuple[int, ...]) -> Float64s:
    """The inputs of each weight of a filter: (at most MAX_POSITIONS, in * k * k), in the order of the weights."""
    attributes = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
    high, wide = shape[2:]
    down, across = attributes.get("strides", [1, 1])
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    padded = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), (2, 3))[:, :, ::down, ::across]
    windows = windows.transpose(0, 2, 3, 1, 4, 5)  # (N, H, W, in, k, k)
    count = int(np.prod(windows.shape[:3]))
    picked = np.random.default_rng(0).permutation(count)[:MAX_POSITIONS]
    return windows[np.unravel_index(picked, windows.shape[:3])].reshape(len(picked), -1).astype(np.float64)


def _inputs(network: onnx.ModelProto, names: list[str], planes: Float32s) -> dict[str, Float32s]:
    """The named values of the fp32 network, for all planes."""
    entry = network.graph.input[0].name
    inner = [name for name in dict.fromkeys(names) if name != entry]
    opened = onnx.ModelProto.FromString(network.SerializeToString())
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = onnxruntime.InferenceSession(opened.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(inner, {entry: planes}) if inner else []
    return {entry: planes, **dict(zip(inner, found, strict=True))}
