"""int8 agrees with fp32, or is not kept."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper

from edge.camera.sources.simulator import CLASSES
from edge.model.bundle import FP32, INT8, load, selftest_tiles
from edge.model.classifier import Classifier
from trainer.cli.commands import main
from trainer.compression import export_onnx, quantize
from trainer.compression.int8_gate import Gate
from trainer.compression.quantize import Stem
from trainer.compression.rounding import InputStatistics
from trainer.data.corruptions import SUITE
from trainer.data.index import index_folder
from trainer.data.pictures import cut
from trainer.networks.architecture import Architecture, Conv, Student
from trainer.networks.max_activations import LAYERS
from trainer.recipe import TrainingError

LENIENT = Gate(accuracy_drop=1, corruption_drop=1, largest_drop=1, agreement=0, gain=0, rounds=4)
DARKER = next(corruption for corruption in SUITE if corruption.name == "brightness x0.6")


@pytest.fixture(scope="module")
def six_classes(tmp_path_factory, draw):
    """Generated pictures of the classes of the shipped student."""
    root = tmp_path_factory.mktemp("six")
    for split, count in (("train", 6), ("valid", 3), ("test", 2)):
        for seed, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number, picture in enumerate(draw(name, count, 40 + seed)):
                cv2.imwrite(str(folder / f"{name}_{number}.png"), picture)
    return root


@pytest.fixture(scope="module")
def outcome(six_classes):
    """The shipped student, quantized again."""
    return quantize.quantize(load("builtin"), index_folder(six_classes), gate=LENIENT, suite=(DARKER,))


def exported(*convs, side=100):
    """A student with random weights, whose BatchNorm has statistics."""
    torch.manual_seed(0)
    student = Student(Architecture("odd", side, convs), 6, good=True)
    for _ in range(3):
        student(torch.rand(8, 1, side, side) * 255)
    return export_onnx.bundle(student.eval(), classes=CLASSES, tile_px=200, version="0")


def graph_of(made, network=INT8):
    return onnx.load_from_string(made.networks[network]).graph


def test_int8_agrees_with_fp32(outcome, draw):
    """The probabilities of both are close on generated defects, and the counts are in the card."""
    assert outcome.kept
    shown = np.concatenate([cut(p, 100) for name in CLASSES for p in draw(name, 4, 90)])
    ones, others = (
        c.score(shown).probabilities(c.temperature)
        for c in (Classifier(outcome.bundle, network=name) for name in (FP32, INT8))
    )
    assert np.abs(ones - others).max() < 0.2
    measured = outcome.bundle.card.metrics["int8"]
    assert (measured["n"], measured["bytes"]) == (18 + 6, len(outcome.bundle.networks[INT8]))
    assert measured["right"] / measured["n"] >= 0.8
    assert set(measured["times_fp32"]) == {"1", "18", "32"}
    right, fp32_right = measured["corrupted"]["brightness x0.6"]
    assert abs(right - fp32_right) <= 2


def test_every_convolution_is_an_integer_one_and_reads_raw_bytes(outcome):
    """The stem reads patches of the tiles; nothing becomes float before a pooling."""
    kinds = [node.op_type for node in graph_of(outcome.bundle).node]
    assert kinds.count("MaxPool") == LAYERS
    assert kinds[:4] == ["Reshape", "Transpose"] * 2
    assert kinds[4:9] == ["QLinearConv"] * 5
    assert "QuantizeLinear" not in kinds
    assert kinds.count("DequantizeLinear") == 1 + LAYERS


def test_contract_is_that_of_fp32(outcome):
    """Names, types and shapes of input and outputs are the same in both files."""
    fp32, int8 = (graph_of(outcome.bundle, name) for name in (FP32, INT8))
    assert list(fp32.input) == list(int8.input)
    assert [o.name for o in fp32.output] == [o.name for o in int8.output]
    Classifier(outcome.bundle, network=INT8).selftest()


def test_weights_have_seven_bits(outcome):
    """More would overflow the 16-bit sums of processors without VNNI."""
    weights = [numpy_helper.to_array(i) for i in graph_of(outcome.bundle).initializer if i.name.endswith("_quantized")]
    kernels = [w for w in weights if w.dtype == np.int8]
    assert len(kernels) == 5
    assert max(int(np.abs(w.astype(int)).max()) for w in kernels) == 64


def test_written_bundle_loads_and_passes_both_selftests(outcome, tmp_path):
    """Hashes, expected logits and files match."""
    export_onnx.write_bundle(outcome.bundle, tmp_path)
    read = load(tmp_path)
    assert read.card == outcome.bundle.card
    for name in (FP32, INT8):
        Classifier(read, network=name).selftest()


def test_quantizing_again_gives_the_same_bytes(outcome, six_classes):
    """The same pictures and seed give the same file, also from a bundle that already has int8."""
    again = quantize.quantize(outcome.bundle, index_folder(six_classes), gate=LENIENT, suite=())
    assert again.bundle.networks == outcome.bundle.networks


@pytest.mark.parametrize(
    ("convs", "has_patches"),
    [
        ((Conv(8, 2, 2), Conv(12, 3, 2), Conv(16, 3, 2)), True),
        ((Conv(8, 5, 5), Conv(12, 3, 2)), True),
        ((Conv(8, 3, 3), Conv(12, 3, 2)), False),  # 3 does not divide 100
    ],
)
def test_any_stem_gives_an_int8_network(convs, has_patches, six_classes, draw):
    """A stem that reads each pixel once becomes a matrix product; any other stem stays float."""
    made = exported(*convs)
    found = quantize.quantize(made, index_folder(six_classes), gate=LENIENT, suite=())
    kinds = [node.op_type for node in graph_of(found.bundle).node]
    assert kinds.count("QLinearConv") == len(convs) - (not has_patches)
    assert found.measured["float_stem"] is not has_patches
    tiles = np.concatenate([cut(p, 100) for name in CLASSES for p in draw(name, 2, 70)])
    ones, others = (Classifier(found.bundle, network=name).score(tiles).features for name in (FP32, INT8))
    assert np.abs(ones - others).max() < 0.1 * np.abs(ones).max()


def test_rewritten_stem_computes_the_same_numbers():
    """The rewritten float network has the same logits, before anything is rounded."""
    made = exported(Conv(8, 4, 4), Conv(12, 3, 2))
    stem = Stem.of(onnx.load_from_string(made.networks[FP32]))
    tiles = selftest_tiles(3, 5, 100)
    rewritten = onnx.reference.ReferenceEvaluator(stem.network)
    logits = rewritten.run(["logits"], {"planes": stem.planes(tiles)})[0]
    assert np.abs(logits - Classifier(made).score(tiles).logits).max() < 1e-4


def test_shared_biases_are_copied(draw):
    """If an exporter stores equal biases once, every convolution still becomes an integer one with its own bias."""
    made = exported(Conv(8, 4, 4), Conv(8, 3, 2), Conv(8, 3, 2))
    network = onnx.load_from_string(made.networks[FP32])
    first, *others = [node for node in network.graph.node if node.op_type == "Conv"]
    for node in others:
        node.input[2] = first.input[2]
    stem = Stem.of(network)
    tiles = cut(draw(CLASSES[0], 1, 70)[0], 100)
    content = quantize._finished(
        stem, quantize._quantized(stem, tiles, quantize.METHODS[0]), InputStatistics(stem.network, stem.planes(tiles))
    )
    quantize._check(content, stem)
    biases = [node.input[8] for node in onnx.load_from_string(content).graph.node if node.op_type == "QLinearConv"]
    assert len(set(biases)) == 3


def test_network_of_another_exporter_is_refused():
    """A graph that does not start like an exported student is refused."""
    made = exported(Conv(8, 4, 4))
    network = onnx.load_from_string(made.networks[FP32])
    network.graph.node[0].op_type = "Identity"
    with pytest.raises(TrainingError, match="should feed one Cast"):
        Stem.of(network)


def test_command_writes_the_bundle(six_classes, tmp_path):
    """`defectd-train quantize` writes the bundle into the folder and prints the results."""
    lenient = ["--gain", "0", "--agreement", "0", "--accuracy-drop", "1", "--corruption-drop", "1"]
    made = CliRunner().invoke(
        main, ["quantize", "builtin", "--data", str(six_classes), "--out", str(tmp_path), *lenient]
    )
    assert made.exit_code == 0, made.output
    assert f"{INT8}, {len(load(tmp_path).networks[INT8])} bytes" in made.output
    Classifier(load(tmp_path), network=INT8).selftest()


def test_command_refuses_what_it_cannot_do(six_classes, class_folder, tmp_path):
    """No output folder, other classes, no speed-up: one line, exit code 2 or 1, and nothing is written."""
    lines = {
        ("quantize", "builtin", "--data", six_classes): (2, "give --out"),
        ("quantize", "builtin", "--data", class_folder, "--out", tmp_path): (1, "the bundle knows crazing"),
        ("quantize", "builtin", "--data", six_classes, "--out", tmp_path, "--gain", 1000): (1, "int8 is not kept"),
    }
    for arguments, (code, message) in lines.items():
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert (result.exit_code, message in result.output) == (code, True), result.output
    assert not list(tmp_path.iterdir())
