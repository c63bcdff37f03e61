"""Tiny networks that pass the self-test and then give NaN, fail, or are slow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fakes.networks import network


def _changed(make: Any, **options: Any) -> bytes:
    """The tiny network with extra nodes between its logits and its output."""
    model = onnx.load_from_string(network(**options))
    graph = model.graph
    last = next(node for node in graph.node if "logits" in node.output)
    last.output[0] = "raw"
    constants, nodes = make()
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def with_a_hole(limit: float = 0.9, **options: Any) -> bytes:
    """Passes the self-test; for tiles brighter than `limit` its logits are NaN."""
    constants = {"limit": np.array(limit, np.float32), "nothing": np.array(0, np.float32)}
    nodes = [
        helper.make_node("Sub", ["limit", "m"], ["headroom"]),
        helper.make_node("Log", ["headroom"], ["log"]),
        helper.make_node("Mul", ["log", "nothing"], ["zero"]),
        helper.make_node("Add", ["raw", "zero"], ["logits"]),
    ]
    return _changed(lambda: (constants, nodes), **options)


def that_breaks(limit: float = 0.9, **options: Any) -> bytes:
    """Passes the self-test; for tiles brighter than `limit` the call fails."""
    constants = {
        "limit": np.array(limit, np.float32),
        "table": np.zeros(1, np.float32),
        "far": np.array(99, np.int64),
    }
    nodes = [
        helper.make_node("ReduceMax", ["m"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["one"], to=onnx.TensorProto.INT64),
        helper.make_node("Mul", ["one", "far"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["zero"]),
        helper.make_node("Add", ["raw", "zero"], ["logits"]),
    ]
    return _changed(lambda: (constants, nodes), **options)


def that_is_slow(size: int = 512, steps: int = 4, **options: Any) -> bytes:
    """Multiplies large matrices without any effect on the logits."""
    constants = {"big": np.ones((size, size), np.float32), "nothing": np.array(0, np.float32)}
    nodes = [helper.make_node("ReduceMean", ["m"], ["s"], keepdims=0), helper.make_node("Mul", ["big", "s"], ["y0"])]
    nodes += [helper.make_node("MatMul", [f"y{n}", "big"], [f"y{n + 1}"]) for n in range(steps)]
    nodes += [
        helper.make_node("ReduceMean", [f"y{steps}"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["raw", "zero"], ["logits"]),
    ]
    return _changed(lambda: (constants, nodes), **options)
