"""Models of patches on small generated maps, and the layers of the student."""

from __future__ import annotations

import sys

import normal_surface as surface
import numpy as np
import patch_surface as bench
import pytest

from edge.model import bundle
from edge.model.bundle import FP32, selftest_tiles
from edge.model.classifier import Classifier

SEED = 7


def _maps(count, *, spots=False):
    """(N, 36, 8) of correlated noise; with one unusual patch in each."""
    generator = np.random.default_rng(SEED + spots)
    maps = (generator.normal(size=(count, 36, 3)) @ np.random.default_rng(SEED).normal(size=(3, 8))).astype(np.float32)
    maps += generator.normal(size=maps.shape).astype(np.float32) * np.float32(0.1)
    if spots:
        maps[np.arange(count), generator.integers(36, size=count)] += 3 * (-1) ** np.arange(8, dtype=np.float32)
    return maps


def test_spread_reaches_every_cluster_before_it_returns_to_one():
    """Ten clusters far apart: ten patches are one of each; a smaller count gives the first of them."""
    generator = np.random.default_rng(SEED)
    sizes = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    owner = np.repeat(np.arange(10), sizes)
    patches = (generator.normal(size=(10, 5)) * 100)[owner] + generator.normal(size=(len(owner), 5))
    kept = bench.spread(patches.astype(np.float32), 10)
    assert sorted(owner[kept]) == list(range(10))
    assert list(bench.spread(patches.astype(np.float32), 4)) == list(kept[:4])


def test_spread_covers_closer_than_chance():
    """The largest distance to a kept patch is smaller than with random patches, also after a projection."""
    patches = np.random.default_rng(SEED).standard_t(4, size=(600, 2 * bench.PROJECTED)).astype(np.float32)

    def reach(kept):
        return np.linalg.norm(patches[:, None] - patches[kept][None], axis=2).min(1).max()

    assert reach(bench.spread(patches, 60)) < reach(np.arange(60))


def test_spread_keeps_each_patch_once():
    """Equal patches, and fewer than asked for: each index at most once."""
    kept = bench.spread(np.ones((20, 3), np.float32), 50)
    assert sorted(kept) == list(range(20))


@pytest.mark.parametrize(
    "make", [bench.Farthest, bench.ByPlace, lambda maps: bench.Memory.of(maps, 0.2)], ids=["one", "by place", "memory"]
)
def test_tile_with_a_spot_is_farther_than_plain_ones(make):
    """One patch of 36 in a direction in which good patches do not vary."""
    known = make(_maps(60))
    fine, odd = known(_maps(100)[60:]), known(_maps(40, spots=True))
    assert surface.auroc(fine, odd) > 0.99


def test_memory_finds_the_distance_to_its_nearest_patch():
    """Equal to the pairwise distances; the weighted distance is never larger."""
    bank, maps = _maps(4).reshape(-1, 8), _maps(3, spots=True)
    plain, weighted = bench.Memory(bank).both(maps)
    slow = np.linalg.norm(maps[:, :, None] - bank[None, None], axis=3).min(2).max(1)
    np.testing.assert_allclose(plain, slow, rtol=1e-4)
    assert (weighted <= plain).all()
    assert (weighted > 0).all()


def test_scaled_puts_good_surface_around_one_and_anomalous_tiles_above():
    """The median of held-out good tiles is 1 and a tenth of them is above 2."""
    known = _maps(100).reshape(100, -1)[:, :12]
    held, fine, odd = bench.scaled(bench.Whole, known, np.arange(100), known[:10], known[:10] + 9)
    assert np.median(held) == pytest.approx(1, abs=1e-5)
    assert (held > 2).mean() == pytest.approx(0.1, abs=0.02)
    assert np.median(fine) < 2 < np.median(odd)


def test_layers_of_the_shipped_student_are_those_it_computes():
    """The means of the last layer are the features of the classifier, the maxima of the first two its peaks."""
    pytest.importorskip("onnx", reason="the trainer extra is not installed")
    shipped = bundle.load("builtin")
    classifier, model = Classifier(shipped), shipped.networks[FP32]
    tiles = selftest_tiles(SEED, 3, classifier.card.input_px)
    names = bench.layers_of(model)
    layers = bench.in_batches(bench.session(model, names), tiles, names)
    scores = classifier.score(tiles)
    np.testing.assert_allclose(layers[-1].mean((2, 3)), scores.features, rtol=1e-3, atol=1e-4)
    peaks = np.concatenate([maps.max((2, 3)) for maps in layers[:2]], 1)
    np.testing.assert_allclose(peaks, scores.max_activations, rtol=1e-3, atol=1e-4)


def test_pretrained_network_is_left_out_where_it_is_not_installed(monkeypatch):
    """None, and the message names what to install."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert bench.pretrained() is None
    assert "pip install" in bench.MISSING


def test_gray_tiles_are_put_on_the_scale_of_imagenet():
    """Three planes at 224 px; middle gray is near zero."""
    planes = bench.planes_of(np.full((2, 200, 200), 116, np.uint8))
    assert planes.shape == (2, 3, 224, 224)
    assert np.abs(planes).max() < 0.3
