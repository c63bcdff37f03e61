"""The network as other people's code feeds it: one float picture of three normalised channels, not raw gray tiles."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.frame import Float32s
from edge.model.bundle import FEATURES, FP32, MAX_ACTIVATIONS, Bundle
from edge.vision.tiles import shrink
from trainer.recipe import TrainingError

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
"""Those of ImageNet, which such code uses; any others would do."""
LUMA: Final = (0.299, 0.587, 0.114)
"""Of red, green and blue in a gray value: ITU-R BT.601, as PIL and OpenCV have it."""
INPUT, OUTPUT = "input", "scores"


def hub_network(made: Bundle) -> bytes:
    """The fp32 network behind our preprocessing: (N, 3, S, S) float32, S = `img_size`, to `scores` (N, classes).

    A `good` output is the last of the scores; features and maximum activations follow as outputs of their own. What is
    inside equals what the daemon does: gray values are rounded as a camera gives them, and shrunk by area averaging.
    """
    network = onnx.load_from_string(made.networks[FP32])
    graph, card = network.graph, made.card
    side, size = card.input_px, img_size(made)
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: npt.ArrayLike, kind: Any = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, kind), f"hub_{name}"))
        return f"hub_{name}"

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"hub_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    now = add("Mul", [INPUT, constant("std", 255 * np.reshape(STD, (1, 3, 1, 1)))])
    now = add("Add", [now, constant("mean", 255 * np.reshape(MEAN, (1, 3, 1, 1)))])
    now = add("Round", [now])  # exactly the bytes of the picture
    now = add("Conv", [now, constant("luma", np.reshape(LUMA, (1, 3, 1, 1)))], kernel_shape=[1, 1])
    now = add("Round", [now])
    if size != side:
        weights = area_weights(size, side)
        now = add("MatMul", [now, constant("columns", weights.T)])
        now = add("MatMul", [constant("rows", weights), now])
        # OpenCV averages 2x2 bytes in whole numbers, halves up; every other factor in floats, halves to even.
        now = add("Floor", [add("Add", [now, constant("half", 0.5)])]) if size == 2 * side else add("Round", [now])
    now = add("Clip", [now, constant("black", 0), constant("white", 255)])
    now = add("Cast", [now], to=TensorProto.UINT8)
    nodes.append(
        helper.make_node("Reshape", [now, constant("shape", [-1, side, side], np.int64)], [graph.input[0].name])
    )
    last = ["logits", *(["good"] if card.has_good else [])]
    after = [helper.make_node("Concat", last, [OUTPUT], axis=1)]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", len(class_names(made))])]
    outputs += [one for one in graph.output if one.name in (FEATURES, MAX_ACTIVATIONS)]
    wrapped = helper.make_graph(
        [*nodes, *graph.node, *after],
        graph.name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, size, size])],
        outputs,
        [*constants, *graph.initializer],
    )
    model = helper.make_model(wrapped, opset_imports=network.opset_import, producer_name="defectd-train")
    model.ir_version = network.ir_version
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def img_size(made: Bundle) -> int:
    """Side of the pictures that the network takes: that of a tile, so that nothing is resized twice."""
    return max(made.card.tile_px, made.card.input_px)


def class_names(made: Bundle) -> tuple[str, ...]:
    """In the order of the scores."""
    card = made.card
    if card.has_good and "good" in card.classes:
        raise TrainingError("a class is called good, and so is defect-free surface. Rename the class")
    return (*card.classes, *(["good"] if card.has_good else []))


def area_weights(size: int, side: int) -> Float32s:
    """(side, size): each row averages the pixels that a shrunk pixel covers, as cv2.INTER_AREA does."""
    edges = np.arange(side + 1) * (size / side)
    left = np.maximum(edges[:-1, None], np.arange(size))
    right = np.minimum(edges[1:, None], np.arange(size) + 1)
    covered = np.clip(right - left, 0, None)
    return np.asarray(covered / covered.sum(1, keepdims=True), np.float32)


def normalised(pictures: npt.NDArray[np.uint8]) -> Float32s:
    """(N, S, S) gray bytes -> what such code feeds: (N, 3, S, S)."""
    mean, std = (np.reshape(np.array(v, np.float32), (1, 3, 1, 1)) for v in (MEAN, STD))
    return np.asarray((pictures[:, None].astype(np.float32) / np.float32(255) - mean) / std, np.float32)


def tiles(made: Bundle, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(N, S, S) gray bytes -> the tiles of the daemon."""
    side = made.card.input_px
    return np.stack([shrink(picture, side, side) for picture in pictures])
