"""The shipped file gives the numbers that its card states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.camera.sources.simulator import CLASSES, Strip
from edge.model.bundle import FP32, MAX_STUDENT_BYTES, Bundle, Variant, load
from edge.model.classifier import Classifier, Scores
from trainer.data.index import index_folder
from trainer.data.pictures import cut
from trainer.evaluation import evaluate
from trainer.evaluation.predictors import file_predictor
from trainer.evaluation.simulated_strip import measure_strip
from trainer.evaluation.temperature import fit_temperature

NEU = Path(__file__).parents[4] / "shared" / "data" / "neu-cls"


@pytest.fixture(scope="module")
def shipped():
    return Classifier(load("builtin"))


def test_temperature_undoes_overconfidence():
    """Logits multiplied by three get a temperature of about three."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (20_000, 4)).astype(np.float32)
    chances = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (chances.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    scores = Scores(3 * honest, np.zeros((20_000, 1), np.float32), None)
    assert fit_temperature([scores], [labels]) == pytest.approx(3, rel=0.1)


def test_pictures_of_any_size_get_one_row_each(shipped):
    """Square or not, one call gives the same scores as one call each: the mean over the tiles of each picture."""
    strip = Strip(width=400, height=320, seed=5).frame(30)
    images = [strip[:200, :200], strip[:200, :400], strip[:150, :150]]
    together = evaluate.score_images(shipped, images)
    for place, image in enumerate(images):
        alone = shipped.score(cut(image, 100))
        assert together.logits[place] == pytest.approx(alone.logits.mean(0), abs=1e-3)
        assert together.good[place] == pytest.approx(alone.good.mean(0), abs=1e-3)


def test_each_network_is_evaluated_with_its_own_temperature(shipped):
    """The card may give a network a temperature of its own, which scales its probabilities."""
    bundle = load("builtin")
    variants = {"other.onnx": Variant(selftest=bundle.card.selftest, temperature=3.0)}
    files = bundle.card.files | {"other.onnx": bundle.card.files[FP32]}
    other = Bundle(
        "test",
        bundle.card.model_copy(update={"variants": variants, "files": files}),
        bundle.networks | {"other.onnx": bundle.networks[FP32]},
    )
    image = Strip(width=400, height=320, seed=5).frame(30)[:200, :200]
    plain = file_predictor(shipped)([image])
    flat = file_predictor(Classifier(other, network="other.onnx"))([image])
    assert np.array_equal(plain, shipped.score(cut(image, 100)).probabilities(bundle.card.temperature))
    assert np.array_equal(flat, shipped.score(cut(image, 100)).probabilities(3.0))


def test_shipped_bundle_is_small_and_passes_its_selftest(shipped):
    """The built-in bundle has the six classes and `good`, and computes the logits of its card."""
    assert shipped.card.classes == CLASSES
    assert shipped.card.has_good
    assert len(load("builtin").networks[FP32]) <= MAX_STUDENT_BYTES
    shipped.selftest()


def test_shipped_bundle_states_its_origin(shipped):
    """The card names data, authors, seed and versions, and advises to train on pictures of one's own."""
    training = shipped.card.training
    assert "K. Song and Y. Yan" in training["data"]
    assert "no licence" in training["data"]
    assert "your own surface" in training["note"]
    assert {"seed", "recipe", "versions", "data_sha256"} <= set(training)


def test_shipped_bundle_recognises_the_defects_of_the_demonstration_strip(shipped):
    """Every defect of the default strip is recognised in 3 consecutive frames, and no defect-free tile is reported."""
    found = measure_strip(shipped, Strip(), range(400), temperature=shipped.card.temperature)
    assert found["defects"] >= 9
    assert found["defects_right_3_frames_running"] == found["defects"]
    assert found["sound_tiles_defect"] == 0
    assert found["sound_tiles_unsure"] == 0


@pytest.mark.skipif(not NEU.is_dir(), reason="the NEU pictures are not here: they are not part of the repository")
def test_shipped_card_has_the_counts_of_the_test_split(shipped):
    """The 72 test pictures give the counts in the card, at least 69 correct."""
    pictures = index_folder(NEU, find_duplicates=False).splits["test"]
    report = evaluate.evaluate(shipped, pictures, temperature=shipped.card.temperature)
    assert report.pictures == 72
    assert report.right >= 69
    assert report.as_metrics() == shipped.card.metrics["test"]
