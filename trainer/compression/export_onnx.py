"""Export of trained weights to a bundle: fold BatchNorm, write ONNX, compare with torch, fill in card.json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from edge.frame import Float32s
from edge.model.bundle import (
    CARD,
    FP32,
    MAX_ACTIVATIONS,
    MAX_STUDENT_BYTES,
    Bundle,
    ModelCard,
    SelfTest,
    selftest_tiles,
)
from edge.model.classifier import Classifier
from trainer.networks import max_activations
from trainer.networks.architecture import CENTRE, SPREAD, Student
from trainer.recipe import TrainingError

OPSET = 17
SELFTEST_SEED = 20
SELFTEST_TILES = 4
TOLERANCE = 1e-3
"""Maximum difference of an output between torch and the exported file."""


def fold(student: Student) -> list[tuple[Float32s, Float32s]]:
    """Weights (out, in, k, k) and biases (out,) of the convolutions, with BatchNorm and input scaling folded in."""
    folded = []
    for place, (conv, norm) in enumerate(student.pairs()):
        if norm.running_mean is None or norm.running_var is None:
            raise TrainingError("BatchNorm without running statistics cannot be folded")
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = conv.weight.double() * gain[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * gain
        if place == 0:
            # Fold (x - CENTRE) / SPREAD into the stem: exact, because the stem has no padding.
            if student.architecture.convs[0].padding:
                raise TrainingError("the input scaling cannot be folded into a padded first convolution")
            weight = weight / SPREAD
            bias = bias - weight.sum((1, 2, 3)) * CENTRE
        folded.append((weight.detach().float().numpy(), bias.detach().float().numpy()))
    return folded


def to_onnx(student: Student, max_bytes: int = MAX_STUDENT_BYTES) -> bytes:
    """The network of `edge.model.bundle`: `tiles` uint8 (N, S, S) to logits, features, maximum activations and,
    if trained, good.  Raises TrainingError if the file is larger than max_bytes.
    """
    side = student.architecture.input_px
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, value: npt.NDArray[Any]) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    nodes.append(helper.make_node("Cast", ["tiles"], ["tiles_float"], to=TensorProto.FLOAT))
    shape = constant("input_shape", np.array([-1, 1, side, side], np.int64))
    nodes.append(helper.make_node("Reshape", ["tiles_float", shape], ["x0"]))
    for place, ((weight, bias), conv) in enumerate(zip(fold(student), student.architecture.convs, strict=True)):
        inputs = [f"x{place}", constant(f"conv{place}.weight", weight), constant(f"conv{place}.bias", bias)]
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [f"conv{place}"],
                kernel_shape=[conv.kernel] * 2,
                strides=[conv.stride] * 2,
                pads=[conv.padding] * 4,
            )
        )
        nodes.append(helper.make_node("Relu", [f"conv{place}"], [f"x{place + 1}"]))
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{len(student.convs)}"], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    outputs = [("logits", student.classes)] + ([("good", student.good)] if student.good is not None else [])
    for name, linear in outputs:
        weight, bias = (p.detach().numpy() for p in (linear.weight, linear.bias))
        inputs = ["features", constant(f"{name}.weight", weight), constant(f"{name}.bias", bias)]
        nodes.append(helper.make_node("Gemm", inputs, [name], transB=1))

    widths = {"logits": student.classes.out_features, "features": student.architecture.features, "good": 1}
    names = ["logits", "features"] + [name for name, _ in outputs[1:]]
    graph = helper.make_graph(
        nodes,
        student.architecture.name,
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", widths[name]]) for name in names],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="defectd-train")
    max_activations.add(model)
    model.ir_version = 8  # the version of opset 17: older versions of onnxruntime can read it
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    if len(content) > max_bytes:
        raise TrainingError(f"{FP32} has {len(content)} bytes, at most {max_bytes} are allowed")
    return content


def bundle(
    student: Student,
    *,
    classes: tuple[str, ...],
    tile_px: int,
    version: str,
    temperature: float = 1.0,
    metrics: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    max_bytes: int = MAX_STUDENT_BYTES,
) -> Bundle:
    """Export, and compare with torch on generated tiles.  Raises TrainingError if they differ.

    max_bytes: larger than the default for a network that is measured but does not ship.
    """
    content = to_onnx(student, max_bytes)
    side = student.architecture.input_px
    tiles = selftest_tiles(SELFTEST_SEED, SELFTEST_TILES, side)
    student.eval()
    with torch.inference_mode():
        planes = torch.from_numpy(tiles.copy())[:, None].float()
        logits, features, good = student(planes)
        maxima = student.max_activations(planes, max_activations.LAYERS)
    outputs = {
        "logits": "one for each class",
        "features": "pooled, before the last layer",
        MAX_ACTIVATIONS: "largest activation of each channel of the first convolutions",
    }
    if good is not None:
        outputs["good"] = "logit of defect-free surface, joined with the class logits in one softmax"
    card = ModelCard(
        schema="defectd.card/1",
        name=f"student-{student.architecture.name}",
        version=version,
        classes=classes,
        tile_px=tile_px,
        input_px=side,
        outputs=outputs,
        temperature=temperature,
        metrics=metrics or {},
        training=training or {},
        files={FP32: hashlib.sha256(content).hexdigest()},
        selftest=SelfTest(
            seed=SELFTEST_SEED,
            tiles=SELFTEST_TILES,
            logits=tuple(tuple(round(float(v), 5) for v in row) for row in logits),
            tolerance=TOLERANCE,
        ),
    )
    made = Bundle("export", card, {FP32: content})
    scores = Classifier(made).score(tiles)
    pairs = [(scores.logits, logits), (scores.features, features)]
    if scores.max_activations is not None:
        pairs.append((scores.max_activations, maxima))
    if good is not None and scores.good is not None:
        pairs.append((scores.good, good))
    worst = max(float(np.abs(file - torch_.numpy()).max()) for file, torch_ in pairs)
    if worst > TOLERANCE:
        raise TrainingError(
            f"the exported network differs from the trained one by {worst:.4g}, allowed are {TOLERANCE:g}: "
            "no bundle was written"
        )
    return made


def with_card(made: Bundle, **changes: Any) -> Bundle:
    """The same networks with changed entries in the card."""
    return replace(made, card=made.card.model_copy(update=changes))


def write_bundle(made: Bundle, folder: Path) -> None:
    """Write the bundle into `folder`, card.json last: a bundle that has a card is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in made.networks.items():
        (folder / name).write_bytes(content)
    card = made.card.model_dump(mode="json", by_alias=True)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", "utf-8")
