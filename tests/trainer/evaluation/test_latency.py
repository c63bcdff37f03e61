"""Latency of the shipped files, and the work counted in their graphs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edge.model.bundle import FP32, load
from trainer.cli.commands import main
from trainer.evaluation import latency
from trainer.recipe import TrainingError


def graph(nodes, weights, given, out, dtype=TensorProto.FLOAT):
    """The bytes of a small network."""
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", dtype, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def reference(given=(1, 3, 224, 224), channels=3):
    """A stand-in with one convolution: 4 x 3 x 3 x 3 weights at 112 x 112 places."""
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    weights = {"w": np.ones((4, channels, 3, 3), np.float32), "b": np.zeros(4, np.float32)}
    return graph([conv], weights, given, None)


def test_work_of_the_shipped_network_is_that_of_its_architecture():
    """4.0 million multiply-accumulates and 124,055 parameters, counted by hand and from the file."""
    content = load("builtin").networks[FP32]
    places, inputs, kernels, channels = (25, 13, 7, 7, 4), (1, 16, 32, 48, 48), (4, 3, 3, 3, 3), (16, 32, 48, 48, 192)
    layers = list(zip(places, inputs, kernels, channels, strict=True))
    assert latency.multiplications(content) == sum(p * p * i * k * k * o for p, i, k, o in layers) + 192 * 7
    assert latency.parameters(content) == sum(i * k * k * o + o for _, i, k, o in layers) + 193 * 7


def test_work_of_a_quantized_network_is_found_behind_its_scales():
    """Weights that pass through DequantizeLinear are counted."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    weights = {
        "w8": np.ones((5, 3, 2, 2), np.int8),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
        "m": np.ones((45, 7), np.float32),
    }
    content = graph(nodes, weights, ["N", 3, 4, 4], ["N", 7])
    assert latency.multiplications(content) == 9 * 5 * 3 * 2 * 2 + 45 * 7
    assert latency.parameters(content) == 5 * 3 * 2 * 2 + 45 * 7


def test_shipped_file_and_reference_are_interleaved(tmp_path):
    """Every path of every network is timed in every round, and the ratios are per tile."""
    (tmp_path / "reference.onnx").write_bytes(reference())
    found = latency.measure(load("builtin"), reference=tmp_path / "reference.onnx", rounds=2)
    paths = {(timed.network, timed.what) for timed in found.paths}
    assert paths >= {("fp32", path) for path in ("call", "batch", "picture")}
    assert paths >= {("reference", path) for path in ("call", "picture", "picture cv2")}
    assert all(timed.n == 2 * latency.BURST and 0 < timed.median_us <= timed.p99_us for timed in found.paths)
    own, other = found.path("fp32", "batch"), found.path("reference", "call")
    assert found.ratio("fp32", "batch", "call") == pytest.approx(other.median_us / (own.median_us / 32))
    assert latency.ratios(found)["fp32"].keys() == {
        "call",
        "call_p99",
        "batch_32_per_tile",
        "picture_against_pil",
        "picture_against_cv2",
    }
    work = {w.network: w for w in found.work}
    assert (work["fp32"].bytes, work["reference"].macs) == (497_894, 112 * 112 * 4 * 27)
    assert work["fp32"].bound_us == pytest.approx(2 * work["fp32"].macs / found.gops["fp32"] / 1e3, rel=0.01)
    assert 0 <= found.waited <= 1


def test_bundles_are_timed_interleaved():
    """One median for each bundle, in their order."""
    one, two = latency.call_us([load("builtin"), load("builtin")], rounds=4)
    assert 0 < one < 10 * two < 100 * one


def test_without_a_reference_there_are_no_ratios():
    """Only the paths of the bundle are timed."""
    found = latency.measure(load("builtin"), rounds=1)
    assert {timed.network for timed in found.paths} <= {"fp32", "int8"}
    assert latency.ratios(found) == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no network", "does not load"), (reference((1, 1, 8, 8), 1), r"takes \[1, 1, 8, 8\]")],
)
def test_a_file_that_is_no_reference_is_refused(content, reason, tmp_path):
    """A file that is not a network, or has another input, is refused by name."""
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(TrainingError, match=rf"other\.onnx: the reference {reason}"):
        latency.measure(load("builtin"), reference=tmp_path / "other.onnx", rounds=1)


def test_command_prints_times_and_ratios(tmp_path):
    """As text or as JSON; a missing file gives one line and exit code 1."""
    (tmp_path / "reference.onnx").write_bytes(reference())
    words = ["latency", "--bundle", "builtin", "--rounds", "1", "--reference", str(tmp_path / "reference.onnx")]
    printed = CliRunner().invoke(main, words)
    assert printed.exit_code == 0, printed.output
    assert "fp32: the reference takes" in printed.stdout
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert found["ratios"]["fp32"].keys() >= {"call", "batch_32_per_tile"}
    missing = CliRunner().invoke(main, [*words[:-1], str(tmp_path / "none.onnx")])
    assert (missing.exit_code, "none.onnx" in missing.output) == (1, True)


def test_machine_is_named():
    """By processor and number of cores."""
    assert "cores" in latency.machine()
