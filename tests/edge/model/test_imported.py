"""Somebody else's classifier becomes a bundle that scores raw tiles as it scored its own pictures."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from fakes.foreign_networks import CLASSES, IMAGENET, repository, rgb_network

from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.errors import BundleError
from edge.host.clock import SystemClock
from edge.model import bundle, imported
from edge.model.bundle import require_features, selftest_tiles
from edge.model.classifier import Classifier, foreign


def imported_from(folder, config=None):
    return imported.bundle_of(imported.read(str(folder), config, SystemClock()))


def own_way(network, tiles, *, gray=False):
    """As the usual snippet feeds it: one picture at a time, three equal channels, mean and std."""
    mean, std = (np.array(IMAGENET[key], np.float32)[:, None, None] for key in ("mean", "std"))
    if gray:
        mean, std = mean.mean(0, keepdims=True), std.mean(0, keepdims=True)
    run = foreign(network)
    planes = [np.float32((np.repeat(t[None], len(mean), 0) / np.float32(255) - mean) / std)[None] for t in tiles]
    return np.concatenate([run(one)[0] for one in planes])


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("ends", ["conv", "gemm"])
def test_scores_are_those_of_the_network_as_it_came(tmp_path, batch, ends):
    """Fixed to one picture or not, a linear or a 1x1 layer at its end: logits and features of any number of tiles."""
    network = rgb_network(batch=batch, ends=ends)
    made = imported_from(repository(tmp_path, network)).bundle
    classifier = Classifier(made)
    tiles = selftest_tiles(5, 7, 32)
    scores = classifier.score(tiles)
    assert np.abs(scores.logits - own_way(network, tiles)).max() < 1e-4
    assert scores.features.shape == (7, 8)
    assert (made.card.classes, made.card.input_px, made.card.name) == (CLASSES, 32, "somebody/steel")


def test_gray_networks_and_channels_at_the_end(tmp_path):
    """One channel takes the mean of mean and std; height, width, channels is turned."""
    tiles = selftest_tiles(5, 2, 32)
    gray = rgb_network(channels=1)
    found = Classifier(imported_from(repository(tmp_path / "gray", gray)).bundle).score(tiles)
    assert np.abs(found.logits - own_way(gray, tiles, gray=True)).max() < 1e-4
    plain, turned = rgb_network(), rgb_network(is_last=True)
    found = Classifier(imported_from(repository(tmp_path / "turned", turned)).bundle).score(tiles)
    assert np.abs(found.logits - own_way(plain, tiles)).max() < 1e-4


def test_probabilities_at_the_end_become_logits(tmp_path):
    """The softmax is left to the daemon; with a class called good its logit joins it."""
    network = rgb_network(ends="softmax")
    names = [*CLASSES[:5], "good"]
    made = imported_from(repository(tmp_path, network, class_names=names)).bundle
    tiles = selftest_tiles(5, 3, 32)
    scores = Classifier(made).score(tiles)
    assert made.card.has_good
    assert made.card.classes == CLASSES[:5]
    assert np.abs(scores.probabilities(1.0) - own_way(network, tiles)[:, :5]).max() < 1e-5


def test_network_without_features_says_what_does_not_work(tmp_path):
    """It scores, has no features, and a calibration that needs them names the reason."""
    found = imported_from(repository(tmp_path, rgb_network(ends="pool", batch="N")))
    assert not found.bundle.card.has_features
    assert Classifier(found.bundle).score(selftest_tiles(1, 2, 32)).features.shape == (2, 0)
    assert any("calibrate normal" in note for note in found.notes)
    with pytest.raises(BundleError, match="calibrate normal needs the features of the network"):
        require_features(found.bundle.card, "calibrate normal")


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ({"ends": "sigmoid"}, {}, "each class on its own"),
        ({"batch": 4}, {}, "takes 4 pictures at a time"),
        ({"channels": 2}, {}, "2 channels"),
        ({}, {"img_size": 64}, "pictures of 32 px, not of 64 px"),
        ({}, {"img_size": [32, 64]}, "no side of a square"),
        ({}, {"class_names": ["a", "b"]}, "no output with 2 scores"),
        ({}, {"class_names": None}, "nothing names its classes"),
        ({}, {"class_names": ["a", "a", "b", "c", "d", "e"]}, "a name occurs twice"),
        ({}, {"std": [0, 1, 1]}, "std"),
        ({}, {"mean": [0, 1]}, "give 1 or 3 numbers"),
        ({}, {"onnx_file": "../secret.onnx"}, "no file of a model repository"),
        ({}, {"onnx_file": None}, "does not name the network"),
        ({}, {"temperature": "warm"}, "config.json: is not usable"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(tmp_path, network, changes, message):
    """Neither a traceback nor a bundle that would be wrong."""
    if network.get("channels") == 2:
        network = {**network, "batch": "N"}
    with pytest.raises(BundleError, match=message):
        imported_from(repository(tmp_path, rgb_network(**network), **changes))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 40, bytes(range(256))])
def test_files_that_are_no_network_are_refused(tmp_path, content):
    """Arbitrary bytes raise BundleError and nothing else."""
    with pytest.raises(BundleError):
        imported_from(repository(tmp_path, content))


def test_command_writes_a_bundle_that_inspects_pictures(tmp_path):
    """One ONNX file with options; the bundle verifies, and `inspect` runs with it."""
    (tmp_path / "net.onnx").write_bytes(rgb_network(side=64))
    out = tmp_path / "theirs.zip"
    options = ["--size", "64", "--mean", "0.5", "--std", "0.25", "--classes", ",".join(CLASSES), "--tile-px", "128"]
    done = CliRunner().invoke(main, ["model", "import", str(tmp_path / "net.onnx"), "-o", str(out), *options, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["classes"] == list(CLASSES)
    card = bundle.load(out).card
    assert (card.tile_px, card.input_px, card.training["mean"]) == (128, 64, [0.5, 0.5, 0.5])
    assert CliRunner().invoke(main, ["model", "verify", str(out)]).exit_code == 0
    picture = tmp_path / "strip.png"
    cv2.imwrite(str(picture), Strip(width=384, height=256).frame(3))
    done = CliRunner().invoke(main, ["inspect", str(picture), "--json", "--bundle", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tiles"] > 3
