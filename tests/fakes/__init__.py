"""Small real things to test with: a clock that is told the time, networks that can be worked out by hand, a wait."""

from __future__ import annotations

import hashlib
import json
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.camera.sources.simulator import Strip
from edge.host.clock import NS_PER_S
from edge.model.bundle import (
    CARD,
    FP32,
    INT8,
    Bundle,
    ModelCard,
    SelfTest,
    Variant,
    selftest_tiles,
)

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
SIDE = 16
"""Side of the tiny networks' input, px."""


class FakeClock:
    """Stands still until it is advanced."""

    def __init__(self, wall_ns: int = 1_790_000_000 * NS_PER_S, monotonic_ns: int = 5_000 * NS_PER_S) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance(self, seconds: float) -> None:
        step_ns = round(seconds * NS_PER_S)
        self._monotonic_ns += step_ns
        self._wall_ns += step_ns


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
    """What `network` says of these tiles, worked out without it."""
    means = tiles.reshape(len(tiles), -1).mean(1, keepdims=True) / 255
    return means * np.array(weights) + np.array(offsets)


def card(
    onnx_bytes: bytes,
    *,
    side: int = SIDE,
    weights: tuple[float, ...] = (0, 0, 0, 0, 0, 1),
    offsets: tuple[float, ...] = (0, 0, 0, 0, 0, 0),
    good: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """card.json of such a network.  changes: keys to set otherwise."""
    tiles = selftest_tiles(7, 3, side)
    outputs = {"logits": "class logits", "features": "pooled"} | ({"good": "no defect"} if good else {})
    return {
        "schema": "defectd.card/1",
        "name": "tiny",
        "version": "1",
        "classes": list(CLASSES[: len(weights)]),
        "tile_px": 2 * side,
        "input_px": side,
        "outputs": outputs,
        "files": {FP32: hashlib.sha256(onnx_bytes).hexdigest()},
        "selftest": {"seed": 7, "tiles": 3, "logits": expected_logits(tiles, weights, offsets).tolist()},
        **changes,
    }


def bundle(*, good: tuple[float, float] | None = None, **network_options: Any) -> Bundle:
    """A bundle in memory, as `edge.model.bundle.load` returns it."""
    onnx_bytes = network(good=good, **network_options)
    known = {k: v for k, v in network_options.items() if k in ("side", "weights", "offsets")}
    described = ModelCard.model_validate(card(onnx_bytes, good=good is not None, **known))
    return Bundle("memory", described, {FP32: onnx_bytes})


def with_int8(made: Bundle, onnx_bytes: bytes, *, temperature: float | None = None, **selftest: Any) -> Bundle:
    """The bundle with a second network.  selftest: what the card says of it where that is not fp32's."""
    test = SelfTest.model_validate({**made.card.selftest.model_dump(), **selftest})
    files = {**made.card.files, INT8: hashlib.sha256(onnx_bytes).hexdigest()}
    variants = {INT8: Variant(selftest=test, temperature=temperature)}
    described = made.card.model_copy(update={"files": files, "variants": variants})
    return Bundle(made.origin, described, {**made.networks, INT8: onnx_bytes})


def write_bundle(folder: Path, onnx_bytes: bytes, described: dict[str, Any] | str) -> Path:
    """A bundle directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FP32).write_bytes(onnx_bytes)
    (folder / CARD).write_text(described if isinstance(described, str) else json.dumps(described))
    return folder


def zip_bundle(folder: Path, to: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """The same as a zip."""
    with zipfile.ZipFile(to, "w", compression) as archive:
        for member in sorted(folder.iterdir()):
            archive.write(member, member.name)
    return to


def until(fact: Callable[[], Any], timeout_s: float = 10.0, what: str = "") -> Any:
    """Wait for a fact to hold; its value. Fails with `what` when it does not in time."""
    end = time.monotonic() + timeout_s
    while not (value := fact()):
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what or fact}"
        time.sleep(0.005)
    return value


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def defects_of(strip: Strip, frames: int, trailing: int) -> list[tuple[str, int, int]]:
    """Class, first and last frame of each defect that comes and goes, the last `trailing` frames left out."""
    span: dict[int, tuple[str, int, int]] = {}
    for number in range(frames):
        for defect, _ in strip.truth(number):
            name, first, _last = span.get(defect.track, (defect.class_name, number, number))
            span[defect.track] = name, first, number
    return [(name, first, last) for name, first, last in span.values() if first > 0 and last < frames - trailing]
