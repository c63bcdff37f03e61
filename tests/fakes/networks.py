"""Tiny ONNX networks whose outputs can be computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
SIDE = 16
"""Side of the tiny networks' input, px."""


def network(
    *,
    side: int = SIDE,
    weights: tuple[float, ...] = (0, 0, 0, 0, 0, 1),
    offsets: tuple[float, ...] = (0, 0, 0, 0, 0, 0),
    good: tuple[float, float] | None = None,
    count: int | str = "N",
    names: tuple[str, ...] = ("logits", "features", "good"),
    dtype: int = TensorProto.UINT8,
) -> bytes:
    """An ONNX network: with m the tile's mean from 0 to 1, logit i is weights[i] * m + offsets[i].

    The features are m twice.  good: weight and offset of the `good` output.  count: the batch dimension.
    """
    classes = len(weights)
    logits, features, no_defect = names
    constants = {
        "axes": np.array([1, 2], np.int64),
        "scale": np.array(1 / 255, np.float32),
        "column": np.array([1], np.int64),
        "w": np.array(weights, np.float32),
        "b": np.array(offsets, np.float32),
        "twice": np.ones(2, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["tiles"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scale"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "column"], ["m"]),
        helper.make_node("Mul", ["m", "w"], ["mw"]),
        helper.make_node("Add", ["mw", "b"], [logits]),
        helper.make_node("Mul", ["m", "twice"], [features]),
    ]
    outputs = [(logits, classes), (features, 2)]
    if good is not None:
        constants |= {"gw": np.array(good[0], np.float32), "gb": np.array(good[1], np.float32)}
        nodes += [
            helper.make_node("Mul", ["m", "gw"], ["mg"]),
            helper.make_node("Add", ["mg", "gb"], [no_defect]),
        ]
        outputs.append((no_defect, 1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("tiles", dtype, [count, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [count, width]) for name, width in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def expected_logits(
    tiles: Any, weights: tuple[float, ...] = (0, 0, 0, 0, 0, 1), offsets: tuple[float, ...] = (0, 0, 0, 0, 0, 0)
) -> Any:
    """The logits of `network` for these tiles, computed without it."""
    means = tiles.reshape(len(tiles), -1).mean(1, keepdims=True) / 255
    return means * np.array(weights) + np.array(offsets)
