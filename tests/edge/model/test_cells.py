"""Logits of single cells, from the networks of bundles."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from fakes.bundles import bundle

from edge.camera.sources.simulator import Strip
from edge.model.bundle import FP32, INT8, load, selftest_tiles
from edge.model.cells import with_cells
from edge.model.classifier import Classifier
from edge.vision.tiles import shrink


@pytest.mark.parametrize("network", [FP32, INT8])
def test_mean_over_the_cells_is_the_score_of_the_tile(network):
    """For each class and for good, in one call and in several."""
    classifier = Classifier(load("builtin"), network=network, batch=5)
    tiles = selftest_tiles(3, 12, 100)
    cells, scores = classifier.cells(tiles), classifier.score(tiles)
    assert cells.shape == (12, 7, 4, 4)
    assert cells.dtype == np.float32
    assert cells.mean(axis=(2, 3)) == pytest.approx(np.concatenate((scores.logits, scores.good), 1), abs=1e-4)


def test_cells_with_most_evidence_show_the_defect():
    """Of 10 narrow generated defects in the left half of a tile, 9 or more have the hottest cell in that half."""
    strip, classifier, left_half = Strip(), Classifier(load("builtin"), network=INT8), []
    for number in range(0, 2000, 4):
        for _, (x, y, w, h) in strip.truth(number):
            left, top = x + w // 2 - 50, y + h // 2 - 100
            if w > 60 or min(left, top) < 0 or top + 200 > strip.height or left + 200 > strip.width:
                continue
            tile = strip.frame(number)[top : top + 200, left : left + 200]
            (cells,) = classifier.cells(shrink(tile, 100, 100)[None])
            odds = cells[:-1].max(axis=0) - cells[-1]
            left_half.append(odds.max(axis=0).argmax() < 2)
    assert len(left_half) >= 20
    assert np.mean(left_half) >= 0.9


def test_network_without_such_a_last_layer_has_no_cells():
    """An imported one, or one without good: everything else works."""
    classifier = Classifier(bundle())
    assert classifier.cells(selftest_tiles(1, 2, classifier.card.input_px)) is None
    shipped = load("builtin")
    model = onnx.load_from_string(shipped.networks[FP32])
    outputs = [one for one in model.graph.output if one.name != "good"]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    for node in [one for one in model.graph.node if "good" in one.output]:
        model.graph.node.remove(node)
    assert with_cells(model.SerializeToString()) is None
    assert with_cells(b"no network") is None


def test_only_the_first_session_decides():
    """The network that inspects is the one of the bundle, bit for bit."""
    shipped = load("builtin")
    tiles = selftest_tiles(3, 4, 100)
    before = Classifier(shipped).score(tiles)
    classifier = Classifier(replace(shipped, origin="again"))
    classifier.cells(tiles)
    assert (classifier.score(tiles).logits == before.logits).all()
