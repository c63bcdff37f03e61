"""Broken and slow networks, and bundles with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge.model import bundle
from fakes import card, network, write_bundle


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


def bundle_of(folder: Path, version: str, make: Callable[..., bytes] = network, **changes: Any) -> bundle.Bundle:
    """A bundle with a network of `make`, read from disk.  changes: weights, offsets, and keys of the card."""
    shape = {name: changes.pop(name) for name in ("weights", "offsets") if name in changes}
    onnx_bytes = make(**shape)
    described = card(onnx_bytes, version=version, **shape, **changes)
    return bundle.load(write_bundle(folder / f"v{version}", onnx_bytes, described))


def rebuilt(source: Path, to: Path, version: str, **changes: Any) -> Path:
    """A copy of a bundle directory; its networks compute the same, but have other hashes."""
    loaded = bundle.load(source)
    described = loaded.card.model_dump(mode="json", by_alias=True)
    networks = {}
    for name, content in loaded.networks.items():
        model = onnx.load_from_string(content)
        model.producer_version = version
        networks[name] = bytes(model.SerializeToString())
        described["files"][name] = hashlib.sha256(networks[name]).hexdigest()
    described |= {"version": version, **changes}
    write_bundle(to, networks["student.onnx"], described)
    for name, content in networks.items():
        (to / name).write_bytes(content)
    return to
