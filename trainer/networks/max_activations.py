"""The output of maximum activations: per channel of the first convolutions, the maximum over the tile.

A pit or a fine line changes the mean of a tile little and its maximum much, so `edge.vision.anomaly` uses them to tell
defect-free surface from defects. They cost one pooling over maps that the network computes anyway. In an integer
network the pooling works on the integers.
"""

from __future__ import annotations

from typing import Any, Final

import onnx
from onnx import TensorProto, helper, shape_inference

from edge.model.bundle import MAX_ACTIVATIONS
from trainer.recipe import TrainingError

LAYERS: Final = 2
"""The first so many convolutions: deeper activations depend more on the class than on single pixels."""


def add(network: onnx.ModelProto) -> None:
    """Add the output to the network, in place.  Raises TrainingError if a convolution has no ReLU behind it."""
    graph = network.graph
    inferred = shape_inference.infer_shapes(network)
    sides = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info}
    made: list[onnx.NodeProto] = []
    parts, width = [], 0
    for place, conv in enumerate(_convolutions(graph)[:LAYERS]):
        part = f"{MAX_ACTIVATIONS}{place}"
        _, channels, height, across = sides[conv.output[0]]
        if conv.op_type == "QLinearConv":  # its output range starts at 0, so it includes the ReLU
            scale, zero = conv.input[6], conv.input[7]
            kernel = [height, across]
            made.append(_node("MaxPool", [conv.output[0]], f"{part}_quantized", kernel_shape=kernel))
            made.append(_node("DequantizeLinear", [f"{part}_quantized", scale, zero], part))
        else:
            made.append(_node("GlobalMaxPool", [_relu_of(graph, conv)], part))
        parts.append(part)
        width += channels
    made.append(_node("Concat", parts, f"{MAX_ACTIVATIONS}_maps", axis=1))
    made.append(_node("Flatten", [f"{MAX_ACTIVATIONS}_maps"], MAX_ACTIVATIONS))
    graph.node.extend(made)
    graph.output.append(helper.make_tensor_value_info(MAX_ACTIVATIONS, TensorProto.FLOAT, ["N", width]))


def remove(graph: onnx.GraphProto) -> None:
    """Remove the output, in place, with the nodes that only lead to it."""
    outputs = [output for output in graph.output if output.name != MAX_ACTIVATIONS]
    del graph.output[:]
    graph.output.extend(outputs)
    while True:
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        unused = [node for node in graph.node if not used.intersection(node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def _convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type in ("Conv", "QLinearConv")]


def _relu_of(graph: onnx.GraphProto, conv: onnx.NodeProto) -> str:
    for node in graph.node:
        if node.op_type == "Relu" and node.input[0] == conv.output[0]:
            return str(node.output[0])
    raise TrainingError(
        f"{conv.name or conv.output[0]}: no ReLU behind this convolution, so it has no maximum activations"
    )


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)
