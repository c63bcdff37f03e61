"""The output of maximum activations of a network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge.camera.sources.simulator import Strip
from edge.model.bundle import FP32, INT8, load, selftest_tiles
from edge.model.classifier import Classifier
from trainer.data.pictures import cut
from trainer.networks import max_activations
from trainer.recipe import TrainingError


def test_a_spot_raises_the_maxima_regardless_of_its_position():
    """A dark spot on even gray gives the same maxima when shifted by whole patches; without it they are lower."""
    tiles = np.full((3, 100, 100), 120, np.uint8)
    tiles[0, 24:30, 40:46] = 40
    tiles[1, 48:54, 56:62] = 40
    found = Classifier(load("builtin")).score(tiles).max_activations
    assert found.shape == (3, 48)
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert (found[0] > found[2] + 0.1).any()


def test_maxima_of_int8_match_those_of_fp32():
    """They match on defect-free steel; beyond the range of the integers int8 saturates."""
    strip = Strip(width=400, height=200, seed=3, spacing_px=1_000_000)
    steel = np.concatenate([cut(strip.frame(40 * number), 100) for number in range(12)])
    fp32, int8 = (Classifier(load("builtin"), network=network) for network in (FP32, INT8))
    ones, others = fp32.score(steel).max_activations, int8.score(steel).max_activations
    assert np.abs(ones - others).max() < 0.05 * ones.max()
    noise = selftest_tiles(7, 12, 100)
    beyond = fp32.score(noise).max_activations > 1.5 * others.max()
    assert beyond.any()
    assert np.ptp(int8.score(noise).max_activations[beyond]) < np.ptp(fp32.score(noise).max_activations[beyond])


@pytest.mark.parametrize("network", [FP32, INT8])
def test_adding_what_was_removed_gives_the_same_network(network):
    """The bytes are equal; while the output is removed, the others remain."""
    content = load("builtin").networks[network]
    model = onnx.load_from_string(content)
    max_activations.remove(model.graph)
    assert [output.name for output in model.graph.output] == ["logits", "features", "good"]
    assert not {"MaxPool", "GlobalMaxPool", "Concat"} & {node.op_type for node in model.graph.node}
    max_activations.add(model)
    assert model.SerializeToString() == content


def test_a_convolution_without_relu_is_refused():
    """The message names the convolution."""
    tensor = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["bare"]), helper.make_node("Identity", ["bare"], ["y"])],
        "bare",
        [tensor("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [tensor("y", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(TrainingError, match=r"bare: no ReLU behind this convolution"):
        max_activations.add(model)
