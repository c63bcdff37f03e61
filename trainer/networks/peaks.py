"""The output `peaks`: the largest activation of each channel of the first convolutions, wherever in the tile.

A pit or a fine line moves the mean of a tile little and its largest activation much, so good surface is told from
defects by them (`edge.vision.anomaly`). They cost a pooling over maps that the network computes anyway; of an
integer network they are taken of the integers.
"""

from __future__ import annotations

from typing import Any, Final

import onnx
from onnx import TensorProto, helper, shape_inference

from trainer.recipe import TrainingError

LAYERS: Final = 2
"""Convolutions that give peaks, from the first: further in, a single pixel's place says more of the classes."""
NAME: Final = "peaks"


def add(network: onnx.ModelProto) -> None:
    """Give the network the output, in place.  Raises TrainingError where a convolution has no ReLU behind it."""
    graph = network.graph
    inferred = shape_inference.infer_shapes(network)
    sides = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info}
    made: list[onnx.NodeProto] = []
    parts, width = [], 0
    for place, conv in enumerate(_convolutions(graph)[:LAYERS]):
        part = f"{NAME}{place}"
        _, channels, height, across = sides[conv.output[0]]
        if conv.op_type == "QLinearConv":  # the ReLU is in the range of the integers
            scale, zero = conv.input[6], conv.input[7]
            kernel = [height, across]
            made.append(_node("MaxPool", [conv.output[0]], f"{part}_quantized", kernel_shape=kernel))
            made.append(_node("DequantizeLinear", [f"{part}_quantized", scale, zero], part))
        else:
            made.append(_node("GlobalMaxPool", [_rectified(graph, conv)], part))
        parts.append(part)
        width += channels
    made.append(_node("Concat", parts, f"{NAME}_maps", axis=1))
    made.append(_node("Flatten", [f"{NAME}_maps"], NAME))
    graph.node.extend(made)
    graph.output.append(helper.make_tensor_value_info(NAME, TensorProto.FLOAT, ["N", width]))


def remove(graph: onnx.GraphProto) -> None:
    """Take the output away again, in place, with what only leads to it."""
    outputs = [output for output in graph.output if output.name != NAME]
    del graph.output[:]
    graph.output.extend(outputs)
    while True:
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        idle = [node for node in graph.node if not used.intersection(node.output)]
        if not idle:
            return
        for node in idle:
            graph.node.remove(node)


def _convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type in ("Conv", "QLinearConv")]


def _rectified(graph: onnx.GraphProto, conv: onnx.NodeProto) -> str:
    for node in graph.node:
        if node.op_type == "Relu" and node.input[0] == conv.output[0]:
            return str(node.output[0])
    raise TrainingError(f"{conv.name or conv.output[0]}: no ReLU behind it, so it gives no peaks")


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)
