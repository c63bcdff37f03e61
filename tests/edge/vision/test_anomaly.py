"""Anomaly scores, and the file of an anomaly model."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from edge.errors import ConfigError
from edge.model.bundle import FP32, load
from edge.model.classifier import Scores
from edge.vision.anomaly import LOW_ODDS, ODDS_UNIT, WITHOUT_ODDS, AnomalyModel, Gaussians, fitting, joined, views_of
from edge.vision.learned_file import Model


def scores_of(count, fill=0.0, peaks=4):
    rows = [np.full((count, size), fill, np.float32) for size in (6, 8, peaks)]
    return Scores(rows[0], rows[1], None, rows[2])


def plain(*sizes, names=("logits", "peaks")):
    """Good surface with a mean of 0 and a variance of 1 in each direction."""
    whole, views = sum(sizes), len(sizes)
    starts = np.cumsum([0, *sizes[:-1]], dtype=np.intp)
    return Gaussians(
        names,
        starts,
        np.eye(whole, dtype=np.float32),
        np.zeros(whole, np.float32),
        np.ones(views, np.float32),
        np.zeros(views, np.float32),
    )


def anomaly_model(sha256="a" * 64):
    return AnomalyModel(Model("tiny", "1", sha256), plain(6, 4), 3.0, 2.0)


def test_views_are_logits_and_maximum_activations():
    """`good` is among the logits; a network without maximum activations has its features instead."""
    both = scores_of(3)
    assert {name: view.shape for name, view in views_of(both).items()} == {"logits": (3, 6), "peaks": (3, 4)}
    good = np.ones((3, 1), np.float32)
    without = views_of(Scores(both.logits, both.features, good))
    assert {name: view.shape for name, view in without.items()} == {
        "logits": (3, 7),
        "features": (3, 8),
        "odds": (3, 1),
    }


def test_odds_count_above_a_fixed_limit():
    """They are those of any class against `good`; below the limit, a tile is as good as its distances say."""
    logits = np.full((4, 6), -20, np.float32)
    logits[:, 2] = [-9, -1, 1, 9]
    views = views_of(Scores(logits, np.zeros((4, 0), np.float32), np.zeros((4, 1), np.float32), None))
    assert views["odds"][:, 0] == pytest.approx([-9, -1, 1, 9], abs=1e-3)
    surface = plain(1, names=("odds",))
    unit = np.float32([1 / ODDS_UNIT]), np.float32([-LOW_ODDS / ODDS_UNIT])
    scored = replace(surface, gain=unit[0], shift=unit[1]).score(views["odds"])
    assert scored == pytest.approx([0, 0, 1, 5], abs=1e-3)


def test_each_view_has_a_distance_of_its_own():
    """It is the Mahalanobis distance to the Gaussian of that view."""
    generator = np.random.default_rng(4)
    blocks = [generator.normal(size=(size, size)).astype(np.float32) for size in (6, 4)]
    offset = generator.normal(size=10).astype(np.float32)
    whitening = np.zeros((10, 10), np.float32)
    whitening[:6, :6], whitening[6:, 6:] = blocks
    surface = replace(plain(6, 4), whitening=whitening, offset=offset)
    values = generator.normal(size=(7, 10)).astype(np.float32)
    found = surface.logarithms(values)
    for view, columns in enumerate((slice(0, 6), slice(6, 10))):
        apart = values[:, columns] @ blocks[view] - offset[columns]
        assert found[:, view] == pytest.approx(np.log((apart**2).sum(1)), abs=1e-5)


def test_views_are_combined_like_a_vector():
    """Common values count 0; one distant view is enough; each view has its own scale."""
    rows = np.array([[-3.0, -3.0], [-3.0, 9.0], [9.0, 9.0]], np.float32)
    one = np.ones(2, np.float32)
    assert joined(rows, one, one) == pytest.approx([0.0, 10.0, 10 * 2**0.5])
    assert joined(rows * 4 + 2, one / 4, one / 2) == pytest.approx([0.0, 10.0, 10 * 2**0.5])


def test_nan_outputs_give_nan_scores():
    """A tile with NaN in any output never counts as good."""
    for name in ("logits", "max_activations"):
        broken = scores_of(2, 1.0)
        getattr(broken, name)[1] = np.nan
        assert np.isnan(anomaly_model().score(broken)).tolist() == [False, True]


def test_surface_at_the_mean_scores_zero():
    """A distance of 0 has no logarithm; its score is 0."""
    assert anomaly_model().score(scores_of(2)).tolist() == [0.0, 0.0]


def test_model_survives_its_file(tmp_path):
    """Scores are equal to the bit, and the file has no pickles."""
    made = anomaly_model()
    path = tmp_path / "top.npz"
    path.write_bytes(made.coded())
    read = AnomalyModel.read(path)
    assert read.score(scores_of(5, 2.0)).tolist() == made.score(scores_of(5, 2.0)).tolist()
    assert (read.model, read.threshold, read.unsure_threshold) == (made.model, 3.0, 2.0)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-60], lambda b: b"", lambda b: b"PK" + b[:99], lambda b: b + bytes(9 << 20)]
)
def test_damaged_file_is_refused(tmp_path, damage):
    """The error names the key, the file, and the command to run."""
    path = tmp_path / "top.npz"
    path.write_bytes(damage(anomaly_model().coded()))
    with pytest.raises(ConfigError, match=r"cameras.anomaly.*calibrate normal"):
        AnomalyModel.read(path)
    with pytest.raises(ConfigError, match="No such file"):
        AnomalyModel.read(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "defectd.normality/1"}, "made by another version"),
        ({"views": []}, "0 views with arrays of shape"),
        ({"views": ["logits", "colour"]}, "unknown views colour"),
        ({"threshold": -1.0}, "threshold -1.0"),
    ],
)
def test_file_with_wrong_content_is_refused(tmp_path, change, words):
    """Another schema, no views, or a negative threshold raises an error."""
    with np.load(io.BytesIO(anomaly_model().coded())) as file:
        arrays = dict(file)
    head = json.loads(bytes(arrays.pop("head"))) | change
    path = tmp_path / "top.npz"
    np.savez(path, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    with pytest.raises(ConfigError, match=words):
        AnomalyModel.read(path)


def test_anomaly_models_of_before_the_odds_are_read(tmp_path):
    """They score as they did."""
    with np.load(io.BytesIO(anomaly_model().coded())) as file:
        arrays = dict(file)
    head = json.loads(bytes(arrays.pop("head"))) | {"schema": WITHOUT_ODDS}
    path = tmp_path / "top.npz"
    np.savez(path, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    tiles = scores_of(3, 2.0)
    assert AnomalyModel.read(path).score(tiles).tolist() == anomaly_model().score(tiles).tolist()


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("starts", [0, 0], "views that start at"),
        ("starts", [0, 99], "views that start at"),
        ("offset", [np.inf] * 10, "not all numbers are finite"),
        ("gain", [1.0, 0.0], "gain"),
        ("whitening", np.eye(3), "arrays of shape"),
    ],
)
def test_inconsistent_arrays_are_refused(tmp_path, part, value, words):
    """A file that was edited by hand raises an error."""
    made = anomaly_model()
    kind = np.intp if part == "starts" else np.float32
    path = tmp_path / "top.npz"
    path.write_bytes(replace(made, surface=replace(made.surface, **{part: np.array(value, kind)})).coded())
    with pytest.raises(ConfigError, match=words):
        AnomalyModel.read(path)


def test_anomaly_model_of_another_network_is_refused():
    """The error names both networks and the command; the one that fits is found; none at all raises nothing."""
    card = load("builtin").card
    ours = anomaly_model(card.files[FP32])
    assert fitting((), card, "top") is None
    assert fitting((anomaly_model(), ours), card, "top") is ours
    with pytest.raises(ConfigError, match=r"tiny 1 \(aaaaaaaaaaaa\).*calibrate normal --camera top.*--bundle"):
        fitting((anomaly_model(),), card, "top")
