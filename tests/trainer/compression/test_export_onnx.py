"""The exported file computes what the trained network computes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from edge.errors import BundleError
from edge.model.bundle import FP32, MAX_STUDENT_BYTES, load, selftest_tiles
from edge.model.classifier import Classifier
from trainer.compression import export_onnx
from trainer.networks.architecture import I100_S4, Student


def trained(*, good=True):
    """A student whose BatchNorm has statistics, so that folding matters."""
    torch.manual_seed(0)
    student = Student(I100_S4, 6, good=good)
    for _ in range(3):
        student(torch.rand(16, 1, 100, 100) * 255)
    return student.eval()


def bundle(student):
    return export_onnx.bundle(student, classes=tuple("abcdef"), tile_px=200, version="0")


@pytest.mark.parametrize("good", [True, False])
def test_exported_file_agrees_with_torch(good):
    """Every output of the file equals that of the module, on tiles other than those of the export's own check."""
    student = trained(good=good)
    scores = Classifier(bundle(student)).score(selftest_tiles(99, 40, 100))
    with torch.inference_mode():
        planes = torch.from_numpy(selftest_tiles(99, 40, 100).copy())[:, None].float()
        logits, features, good_logit = student(planes)
        assert np.abs(scores.max_activations - student.max_activations(planes, 2).numpy()).max() < 1e-3
    assert np.abs(scores.logits - logits.numpy()).max() < 1e-3
    assert np.abs(scores.features - features.numpy()).max() < 1e-3
    assert (scores.good is None) == (good_logit is None)
    if good:
        assert np.abs(scores.good - good_logit.numpy()).max() < 1e-3


def test_exported_file_keeps_the_contract():
    """The input is any number of uint8 tiles; no BatchNorm remains; the file is small enough."""
    content = bundle(trained()).networks[FP32]
    graph = onnx.load_from_string(content).graph
    tensor = graph.input[0].type.tensor_type
    assert (graph.input[0].name, tensor.elem_type) == ("tiles", onnx.TensorProto.UINT8)
    assert tensor.shape.dim[0].dim_param == "N"
    assert [o.name for o in graph.output] == ["logits", "features", "good", "peaks"]
    assert "BatchNormalization" not in {n.op_type for n in graph.node}
    assert len(content) <= MAX_STUDENT_BYTES


def test_export_is_reproducible():
    """The same weights give the same bytes."""
    assert bundle(trained()).networks == bundle(trained()).networks


def test_written_bundle_loads_and_passes_its_selftest(tmp_path):
    """The daemon's loader reads the written bundle, with hashes and expected logits."""
    export_onnx.write_bundle(export_onnx.with_card(bundle(trained()), temperature=1.7), tmp_path / "made")
    read = load(tmp_path / "made")
    assert read.card.temperature == 1.7
    Classifier(read).selftest()


def test_selftest_notices_other_weights(tmp_path):
    """A network that does not match its card fails the self-test."""
    made = bundle(trained())
    export_onnx.write_bundle(made, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text("utf-8"))
    card["selftest"]["logits"][0][0] += 0.5
    (tmp_path / "card.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(BundleError, match="self-test failed"):
        Classifier(load(tmp_path)).selftest()
