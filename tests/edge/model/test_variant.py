"""Which network of a bundle runs, and why."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from fakes.bundles import bundle, with_int8
from fakes.clock import FakeClock
from fakes.networks import network
from onnx import helper, numpy_helper

from edge.camera.sources.simulator import Strip
from edge.config import Model
from edge.errors import BundleError
from edge.host.clock import SystemClock
from edge.model.bundle import FP32, INT8, load
from edge.model.classifier import Classifier
from edge.model.variant import choose
from edge.vision.tiles import lay

WIDTH = 512


def burdened(onnx_bytes):
    """The same network with some hundred times the work and equal outputs."""
    model = onnx.load_from_string(onnx_bytes)
    graph = model.graph
    last = next(node for node in graph.node if node.output[0] == "features")
    last.output[0] = "light"
    rng = np.random.default_rng(0)
    constants = {
        "row": np.ones((1, WIDTH), np.float32),
        "square": rng.normal(0, 1 / WIDTH, (WIDTH, WIDTH)).astype(np.float32),
        "fold": np.zeros((WIDTH, 2), np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.append(helper.make_node("MatMul", ["m", "row"], ["wide0"]))
    for layer in range(8):
        graph.node.append(helper.make_node("MatMul", [f"wide{layer}", "square"], [f"rows{layer}"]))
        graph.node.append(helper.make_node("Tanh", [f"rows{layer}"], [f"wide{layer + 1}"]))
    graph.node.append(helper.make_node("MatMul", ["wide8", "fold"], ["nothing"]))
    graph.node.append(helper.make_node("Add", ["light", "nothing"], ["features"]))
    return model.SerializeToString()


def slow_and_fast():
    made = bundle()
    return burdened(made.networks[FP32]), made.networks[FP32]


def model(precision="auto", **keys):
    return Model(precision=precision, **keys)


def two_networks(fp32, int8, **int8_options):
    made = bundle()
    return with_int8(
        type(made)(made.origin, made.card, {FP32: fp32}),
        int8,
        **int8_options,
    )


def test_auto_takes_int8_where_it_is_faster(caplog):
    """It passes its self-test and takes less time: it runs, and one log line gives the reason."""
    slow, fast = slow_and_fast()
    with caplog.at_level(logging.INFO):
        choice = choose(two_networks(slow, fast), model(), SystemClock())
    assert choice.classifier.network == INT8
    assert choice.gain > 1
    assert [record.message for record in caplog.records] == [f"tiny 1 runs as {INT8}: {choice.why}"]


def test_auto_takes_fp32_where_int8_is_slower():
    """So it is on processors without fast integer kernels."""
    slow, fast = slow_and_fast()
    choice = choose(two_networks(fast, slow), model(), SystemClock())
    assert choice.classifier.network == FP32
    assert choice.gain < 1


def test_auto_takes_fp32_on_a_tie():
    """A clock that stands still sees no difference."""
    made = bundle()
    assert choose(with_int8(made, made.networks[FP32]), model(), FakeClock()).classifier.network == FP32


def test_auto_takes_fp32_where_int8_fails_its_selftest(caplog):
    """On a processor whose integer kernels overflow, fp32 runs."""
    slow, fast = slow_and_fast()
    with caplog.at_level(logging.INFO):
        choice = choose(two_networks(slow, fast, logits=[[9.0] * 6] * 3), model(), SystemClock())
    assert choice.classifier.network == FP32
    assert "wrong on this processor" in caplog.text
    assert "self-test failed" in choice.why


def test_auto_takes_fp32_where_there_is_no_int8():
    """A bundle without int8 runs as fp32."""
    choice = choose(bundle(), model(), FakeClock())
    assert (choice.classifier.network, choice.why) == (FP32, "the bundle has no int8")


@pytest.mark.parametrize(("precision", "network_name"), [("fp32", FP32), ("int8", INT8)])
def test_configured_network_is_taken_without_timing(precision, network_name):
    """Its other settings reach the session."""
    made = bundle()
    choice = choose(with_int8(made, made.networks[FP32]), model(precision, batch=7), FakeClock())
    assert (choice.classifier.network, choice.classifier.batch) == (network_name, 7)


def test_configured_int8_that_is_missing_or_wrong_is_refused():
    """A configured network is never replaced in silence."""
    with pytest.raises(BundleError, match=r"model\.precision: int8"):
        choose(bundle(), model("int8"), FakeClock())
    made = bundle()
    with pytest.raises(BundleError, match="self-test failed"):
        choose(with_int8(made, network(offsets=(5,) * 6)), model("int8"), FakeClock())


def test_wrong_fp32_is_refused_even_if_int8_is_right():
    """A bundle whose main network fails is not used with its other one."""
    broken = two_networks(network(offsets=(5,) * 6), bundle().networks[FP32])
    with pytest.raises(BundleError, match="self-test failed"):
        choose(broken, model(), FakeClock())


def test_classifier_carries_the_hash_and_temperature_of_its_network():
    """Events name the network that runs."""
    made = bundle()
    both = with_int8(made, network(), temperature=1.7)
    fp32, int8 = Classifier(both), Classifier(both, network=INT8)
    assert (fp32.sha256, int8.sha256) == (both.sha256(FP32), both.sha256(INT8))
    assert (fp32.temperature, int8.temperature) == (made.card.temperature, 1.7)


def test_shipped_networks_agree():
    """On each tile of the generated strip int8 gives the class of fp32, and probabilities within 0.2."""
    shipped = load("builtin")
    strip = Strip(seed=5)
    grid = lay((strip.height, strip.width), tile_px=200, input_px=100, overlap=0.1)
    shown = np.concatenate([grid.cut(strip.frame(n)) for n in range(0, 2000, 100)])
    fp32, int8 = (Classifier(shipped, network=name) for name in (FP32, INT8))
    ones, others = (c.score(shown).probabilities(c.temperature) for c in (fp32, int8))
    assert np.abs(ones - others).max() < 0.2
    sure = ones.max(1) > 0.6
    assert sure.sum() >= 10
    assert (ones.argmax(1) == others.argmax(1))[sure].all()
