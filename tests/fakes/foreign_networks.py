"""Image classifiers as other people export them: RGB or gray, for one picture or for many, small and random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def rgb_network(
    *,
    side: int = 32,
    classes: int = 6,
    channels: int = 3,
    batch: int | str = 1,
    is_last: bool = False,
    ends: str = "conv",
    names: tuple[str, str] = ("input", "output"),
    opset: int = 17,
) -> bytes:
    """A convolution, a GroupNorm as exporters write it (with the batch in a shape, if it is fixed), pooling, a head.

    ends: `conv` (a 1x1 convolution), `gemm`, `softmax` (a Gemm before it), `sigmoid`, or `pool`: the classes are made
    by the convolution before the pooling, so that nothing lies before the scores.
    """
    rng = np.random.default_rng(3)
    entry, leave = names
    width = classes if ends == "pool" else 8
    known: dict[str, Any] = {
        "w0": rng.normal(0, 0.3, (width, channels, 3, 3)).astype(np.float32),
        "groups": np.array([1 if batch == 1 else 0, 2, -1], np.int64),
        "whole": np.array([1 if batch == 1 else 0, width, side // 2, side // 2], np.int64),
        "one": np.ones(2, np.float32),
        "zero": np.zeros(2, np.float32),
        "w1": rng.normal(0, 2, (classes, width)).astype(np.float32),
        "b1": rng.normal(0, 0.1, classes).astype(np.float32),
    }
    nodes = [helper.make_node("Transpose", [entry], ["nchw"], perm=[0, 3, 1, 2])] if is_last else []
    nodes += [
        helper.make_node("Conv", ["nchw" if is_last else entry, "w0"], ["logits"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["logits", "groups"], ["grouped"]),
        helper.make_node("InstanceNormalization", ["grouped", "one", "zero"], ["normed"]),
        helper.make_node("Reshape", ["normed", "whole"], ["back"]),
        helper.make_node("Relu", ["back"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
    ]  # "logits" is a name of ours, and not the scores here
    if ends == "conv":
        known["w1"] = known["w1"][:, :, None, None]
        nodes += [helper.make_node("Conv", ["pooled", "w1", "b1"], ["score"])]
        nodes += [helper.make_node("Flatten", ["score"], [leave])]
    elif ends == "pool":
        nodes += [helper.make_node("Flatten", ["pooled"], [leave])]
    else:
        last = leave if ends == "gemm" else "score"
        nodes += [helper.make_node("Flatten", ["pooled"], ["flat"])]
        nodes += [helper.make_node("Gemm", ["flat", "w1", "b1"], [last], transB=1)]
        if ends != "gemm":
            nodes += [helper.make_node(ends.capitalize(), ["score"], [leave])]
    shape = [batch, side, side, channels] if is_last else [batch, channels, side, side]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info(entry, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(leave, TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(value, name) for name, value in known.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def repository(folder: Path, network: bytes, **changes: Any) -> Path:
    """A folder as such repositories have it: config.json and the network."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "repo_id": "somebody/steel", "onnx_file": "student.onnx", "img_size": 32, **IMAGENET,
        "class_names": list(CLASSES), "providers": ["CPUExecutionProvider"], **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    (folder / "student.onnx").write_bytes(network)
    return folder
