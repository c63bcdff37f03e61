"""Numbers come from the shipped file, and the card tells them as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.camera.sources.simulator import CLASSES, Strip
from edge.model.bundle import FP32, MAX_STUDENT_BYTES, Bundle, Variant, load
from edge.model.classifier import Classifier, Scores
from trainer.data import index
from trainer.evaluation import evaluate

NEU = Path(__file__).parents[4] / "shared" / "data" / "neu-cls"


@pytest.fixture(scope="module")
def shipped():
    return Classifier(load("builtin"))


def test_temperature_undoes_overconfidence():
    """Logits that were multiplied by three get a temperature of about three."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (20_000, 4)).astype(np.float32)
    chances = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (chances.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    scores = Scores(3 * honest, np.zeros((20_000, 1), np.float32), None)
    assert evaluate.fit_temperature([scores], [labels]) == pytest.approx(3, rel=0.1)


def test_pictures_of_any_size_get_one_row_each(shipped):
    """Square or not, in one call: the same scores as one by one, the mean over the tiles of each."""
    strip = Strip(width=400, height=320, seed=5).frame(30)
    images = [strip[:200, :200], strip[:200, :400], strip[:150, :150]]
    together = evaluate.score_images(shipped, images)
    for place, image in enumerate(images):
        alone = shipped.score(index.cut(image, 100))
        assert together.logits[place] == pytest.approx(alone.logits.mean(0), abs=1e-3)
        assert together.good[place] == pytest.approx(alone.good.mean(0), abs=1e-3)


def test_int8_is_judged_with_its_own_temperature(shipped):
    """The card may give another network another temperature: that one makes the probabilities."""
    bundle = load("builtin")
    variants = {"other.onnx": Variant(selftest=bundle.card.selftest, temperature=3.0)}
    files = bundle.card.files | {"other.onnx": bundle.card.files[FP32]}
    other = Bundle(
        "test",
        bundle.card.model_copy(update={"variants": variants, "files": files}),
        bundle.networks | {"other.onnx": bundle.networks[FP32]},
    )
    image = Strip(width=400, height=320, seed=5).frame(30)[:200, :200]
    plain = evaluate.by_file(shipped)([image])
    flat = evaluate.by_file(Classifier(other, network="other.onnx"))([image])
    assert np.array_equal(plain, shipped.score(index.cut(image, 100)).probabilities(bundle.card.temperature))
    assert np.array_equal(flat, shipped.score(index.cut(image, 100)).probabilities(3.0))


def test_shipped_bundle_is_small_and_passes_its_selftest(shipped):
    """The built-in bundle knows the six classes and sound surface, and computes what its card says."""
    assert shipped.card.classes == CLASSES
    assert shipped.card.has_good
    assert len(load("builtin").networks[FP32]) <= MAX_STUDENT_BYTES
    shipped.selftest()


def test_shipped_bundle_says_where_it_comes_from(shipped):
    """The card names data, authors, seed and versions, and warns."""
    training = shipped.card.training
    assert "K. Song and Y. Yan" in training["data"]
    assert "no licence" in training["data"]
    assert "your own surface" in training["note"]
    assert {"seed", "recipe", "versions", "data_sha256"} <= set(training)


def test_shipped_bundle_sees_the_demonstration_strip_as_it_is(shipped):
    """On the default strip every defect is named for frames on end, and sound tiles stay far from the threshold."""
    found = evaluate.measure_strip(shipped, Strip(), range(400), temperature=shipped.card.temperature)
    assert found["defects"] >= 9
    assert found["defects_right_3_frames_running"] == found["defects"]
    assert found["sound_tiles_defect"] == 0
    assert found["sound_tiles_unsure"] == 0


@pytest.mark.skipif(not NEU.is_dir(), reason="the NEU pictures are not here: they are not part of the repository")
def test_shipped_card_tells_the_truth_about_the_test_split(shipped):
    """The 72 test pictures give what the card says, at least 69 right."""
    pictures = index.index(NEU, look_for_twins=False).splits["test"]
    report = evaluate.evaluate(shipped, pictures, temperature=shipped.card.temperature)
    assert report.pictures == 72
    assert report.right >= 69
    assert report.as_metrics() == shipped.card.metrics["test"]
