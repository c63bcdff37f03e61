"""The logits of single cells of the last maps, from any network whose last layer reads the mean over the cells.

A product with a mean is a mean of products, so each cell has logits of its own, and theirs are those of the tile: class
activation maps (Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016). They are computed by a
second session from the same weights, only where a defect was found: the network that inspects every tile stays as fast.
"""

from __future__ import annotations

from typing import Any, Final

from edge.errors import BundleError
from edge.model import onnx_graph
from edge.model.bundle import FEATURES
from edge.model.onnx_graph import FLOAT, INT64, node, value, weight

CELLS: Final = "defectd_cells"
"""Name of the output: (N, classes + 1, cells) float32, `good` last; without the offsets of the last layer."""


def with_cells(network: bytes) -> bytes | None:
    """The network with logits, good and CELLS as its outputs.  None if it has no such last layer, or no `good`."""
    try:
        model = onnx_graph.parse(network, "the network")
    except BundleError:
        return None  # the session of the classifier says what is wrong with it
    graph = model.graph
    layers = [onnx_graph.producer(graph, name, "Gemm") for name in ("logits", "good")]
    flat = onnx_graph.producer(graph, FEATURES, "Flatten")
    pooled = flat and onnx_graph.producer(graph, flat.input[0], "GlobalAveragePool")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    if not pooled or not all(
        layer and layer.input[0] == FEATURES and layer.input[1] in weights and _is_transposed(layer) for layer in layers
    ):
        return None
    names = [layer.input[1] for layer in layers if layer]
    channels = int(weights[names[0]].dims[1])
    graph.initializer.append(weight(f"{CELLS}_shape", [0, channels, -1], INT64))
    graph.node.extend(
        [
            node("Concat", names, [f"{CELLS}_weight"], axis=0),
            node("Reshape", [pooled.input[0], f"{CELLS}_shape"], [f"{CELLS}_maps"]),
            node("MatMul", [f"{CELLS}_weight", f"{CELLS}_maps"], [CELLS]),
        ]
    )
    kept = [output for output in graph.output if output.name in ("logits", "good")]
    columns = sum(int(weights[name].dims[0]) for name in names)
    del graph.output[:]
    graph.output.extend([*kept, value(CELLS, FLOAT, ["N", columns, "cells"])])
    return onnx_graph.written(model)


def _is_transposed(layer: Any) -> bool:
    """The weights of a Gemm are (outputs, inputs)."""
    return any(attribute.name == "transB" and attribute.i == 1 for attribute in layer.attribute)
