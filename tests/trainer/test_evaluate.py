"""Numbers come from the shipped file, and the card tells them as they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle import FP32, MAX_STUDENT_BYTES, Bundle, Variant, load
from edge.camera.strip import CLASSES, Strip
from edge.vision.classifier import Classifier, Scores
from trainer import data, evaluate
from trainer.recipe import TrainingError

NEU = Path(__file__).parents[3] / "shared" / "data" / "neu-cls"


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
        alone = shipped.score(data.cut(image, 100))
        assert together.logits[place] == pytest.approx(alone.logits.mean(0), abs=1e-3)
        assert together.good[place] == pytest.approx(alone.good.mean(0), abs=1e-3)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """White squares on black, with their boxes; three of them of a class whose boxes are coarse."""
    folder = tmp_path_factory.mktemp("boxed")
    pictures, boxes = [], {}
    for n in range(6):
        image = np.zeros((200, 200), np.uint8)
        x, y = 10 + 12 * n, 20 * (n % 3)
        image[y : y + 60, x : x + 60] = 255
        cv2.imwrite(str(folder / f"{n}.png"), image)
        boxes[f"{n}"] = [(x, y, x + 60, y + 60)]
        pictures.append(data.Picture(folder / f"{n}.png", n % 2))
    return pictures, boxes


@pytest.mark.parametrize("side_px", [64, 100])
def test_crops_show_what_their_names_say(boxed, side_px):
    """Free ones are black all over, defective ones are not; both whole tiles, none free around a coarse box."""
    pictures, boxes = boxed
    crops = evaluate.crops_for_good(pictures, boxes, ("patches", "crazing"), side_px, seed=0)
    assert crops.free.shape == (6, 200, 200)
    assert crops.defect.shape == (12, 200, 200)
    assert crops.free.max() == 0
    assert (crops.defect.max((1, 2)) == 255).all()
    assert len(set(crops.free_from)) == 3
    assert len(set(crops.defect_from)) == 6
    again = evaluate.crops_for_good(pictures[::-1], boxes, ("patches", "crazing"), side_px, seed=0)
    assert np.array_equal(again.defect[::-1].mean((1, 2)).sum(), crops.defect.mean((1, 2)).sum())


def test_no_boxes_no_crops(boxed, shipped):
    """Nothing to rank is no figure, not an error."""
    crops = evaluate.crops_for_good(boxed[0], {}, CLASSES, 64, seed=0)
    scores = evaluate.good_scores(shipped, crops)
    assert (scores.free, scores.defect) == ((), ())
    assert evaluate.good_ranking([scores]) is None


def test_scores_of_crops_come_back_from_their_file(boxed, shipped, tmp_path):
    """Fold by fold on disk, pooled later; a damaged file is refused by name."""
    crops = evaluate.crops_for_good(*boxed, ("patches", "crazing"), 64, seed=0)
    scores = evaluate.good_scores(shipped, crops)
    scores.write(tmp_path / "good" / "64-0.json")
    assert evaluate.GoodScores.load(tmp_path / "good" / "64-0.json") == scores
    (tmp_path / "damaged.json").write_bytes(b"{")
    with pytest.raises(TrainingError, match=r"damaged\.json: no scores of crops"):
        evaluate.GoodScores.load(tmp_path / "damaged.json")


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
    assert np.array_equal(plain, shipped.score(data.cut(image, 100)).probabilities(bundle.card.temperature))
    assert np.array_equal(flat, shipped.score(data.cut(image, 100)).probabilities(3.0))


def test_sound_steel_ranks_below_defects_pooled_over_folds(shipped, boxed):
    """Generated sound tiles against generated defects, in two parts: nearly all in order."""
    strip, sound = Strip(seed=5, spacing_px=500), Strip(seed=5, spacing_px=1_000_000)
    free = [sound.frame(n)[:200, :200] for n in range(8)]
    defect = []
    for n in range(0, 400, 4):
        for _, (x, y, w, h) in strip.truth(n):
            if w > 40 and h > 40 and 0 <= y < 150 and x < 550:
                defect.append(strip.frame(n)[y : y + 200, x : x + 200])
    defect = [d for d in defect if d.shape == (200, 200)]
    halves = [
        evaluate.good_scores(
            shipped,
            evaluate.Crops(200, np.stack(free[i::2]), np.stack(defect[i::2]), ("a",) * 4, ("b",) * len(defect[i::2])),
        )
        for i in (0, 1)
    ]
    found = evaluate.good_ranking(halves)
    assert found.negatives == 8
    assert found.positives == len(defect) > 5
    assert found.auroc > 0.9


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
    pictures = data.index(NEU).splits["test"]
    report = evaluate.evaluate(shipped, pictures, temperature=shipped.card.temperature)
    assert report.pictures == 72
    assert report.right >= 69
    assert report.as_metrics() == shipped.card.metrics["test"]
