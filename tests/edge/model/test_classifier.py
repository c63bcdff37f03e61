"""The classifier: contract, self-test, and scores."""

import numpy as np
import onnx
import pytest
from fakes.bundles import bundle, card
from fakes.networks import SIDE, expected_logits, network
from hypothesis import given
from hypothesis import strategies as st

from edge.camera.sources.simulator import Strip
from edge.errors import BundleError
from edge.model.bundle import FP32, INT8, MAX_STUDENT_BYTES, Bundle, ModelCard, load
from edge.model.classifier import Classifier, Scores
from edge.vision.tiles import lay

WEIGHTS = (1.0, -2.0, 0.5, 3.0, 0.0, 4.0)
OFFSETS = (0.0, 1.0, -0.5, 0.2, 0.3, -1.0)


def tiles(count, seed=0, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def refusal(onnx_bytes, *, selftest=False, **card_changes):
    described = ModelCard.model_validate(card(onnx_bytes, **card_changes))
    loaded = Bundle("here", described, {FP32: onnx_bytes})
    if not selftest:
        with pytest.raises(BundleError) as caught:
            Classifier(loaded)
        return str(caught.value)
    classifier = Classifier(loaded)
    with pytest.raises(BundleError) as caught:
        classifier.selftest()
    return str(caught.value)


def test_scores_are_the_outputs_of_the_network():
    """They are the logits and features of each tile, in the order of the tiles."""
    classifier = Classifier(bundle(weights=WEIGHTS, offsets=OFFSETS))
    given_tiles = tiles(5)
    scores = classifier.score(given_tiles)
    assert scores.logits == pytest.approx(expected_logits(given_tiles, WEIGHTS, OFFSETS), abs=1e-5)
    assert scores.features.shape == (5, 2)
    assert scores.good is None
    assert {scores.logits.dtype, scores.features.dtype} == {np.dtype(np.float32)}


def test_good_output_is_returned_where_the_card_names_it():
    """Its shape is (N, 1)."""
    scores = Classifier(bundle(good=(-1.0, 2.0))).score(tiles(3))
    assert scores.good is not None
    assert scores.good.shape == (3, 1)


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
@pytest.mark.parametrize("good", [None, (1.0, 0.5)])
def test_batches_give_the_same_as_single_tiles(batch, good):
    """However the tiles are divided into calls, the scores agree to 1e-5."""
    model = bundle(weights=WEIGHTS, offsets=OFFSETS, good=good)
    given_tiles = tiles(13)
    at_once = Classifier(model, batch=batch).score(given_tiles)
    one_by_one = [Classifier(model, batch=1).score(tile[None]) for tile in given_tiles]
    for name in ("logits", "features", "good") if good else ("logits", "features"):
        single = np.concatenate([getattr(scores, name) for scores in one_by_one])
        assert getattr(at_once, name) == pytest.approx(single, abs=1e-5)


def test_tiles_of_a_larger_batch_may_be_scored_in_place():
    """A view into a reused array is scored like a copy, and its scores do not change afterwards."""
    classifier = Classifier(bundle())
    buffer = tiles(8)
    scores = classifier.score(buffer[2:6])
    kept = scores.logits.copy()
    assert np.array_equal(classifier.score(buffer[2:6].copy()).logits, kept)
    buffer[:] = 0
    classifier.score(buffer)
    assert np.array_equal(scores.logits, kept)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_scores(threads):
    """The option reaches the session, and the scores agree."""
    classifier = Classifier(bundle(weights=WEIGHTS), threads=threads)
    assert classifier._session.get_session_options().intra_op_num_threads == threads
    assert classifier.score(tiles(4)).logits == pytest.approx(expected_logits(tiles(4), WEIGHTS), abs=1e-5)


# ---- probabilities -------------------------------------------------------------------------------


def scores_of(logits, good=None):
    logits = np.array(logits, np.float32)
    return Scores(logits, np.zeros((len(logits), 1), np.float32), None if good is None else np.array(good, np.float32))


LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3)


@given(st.lists(LOGITS, min_size=1, max_size=5), st.floats(0.05, 20))
def test_probabilities_sum_to_one_without_good(logits, temperature):
    """A closed set of classes has the whole probability, for any logits and temperature."""
    found = scores_of(logits).probabilities(temperature)
    assert found.dtype == np.float32
    assert found.sum(1) == pytest.approx(np.ones(len(logits)), abs=1e-5)


@given(LOGITS, st.floats(-1e4, 1e4, width=32))
def test_probabilities_leave_room_for_good(logits, good):
    """With a good output the sum over the classes is the probability of any defect: 1 - p(good)."""
    found = scores_of([logits], [[good]]).probabilities(1.0).sum()
    full = np.exp(np.array([*logits, good], np.float64) - max(*logits, good))
    assert found == pytest.approx(1 - full[-1] / full.sum(), abs=1e-5)


def test_probabilities_leave_the_logits_alone():
    """Reading probabilities twice gives the same."""
    scores = scores_of([[1, 2, 3]])
    assert np.array_equal(scores.probabilities(1.0), scores.probabilities(1.0))
    assert scores.logits.tolist() == [[1, 2, 3]]


def test_higher_temperature_is_less_sure():
    """A higher temperature gives probabilities that are closer to each other."""
    scores = scores_of([[0, 1, 4]])
    assert scores.probabilities(4.0).max() < scores.probabilities(1.0).max()


def test_infinite_logits_give_nan():
    """There is no warning; `decide` makes such a tile unsure."""
    assert np.isnan(scores_of([[np.inf, np.inf, 0]]).probabilities(1.0)).any()


# ---- refusals ------------------------------------------------------------------------------------


def test_file_that_is_not_a_network_is_refused():
    """Random bytes and an empty file do not load, and the message is short."""
    for content in (b"", b"no network", network()[:200]):
        message = refusal(content)
        assert "does not load" in message
        assert len(message) < 500


def test_network_that_the_bundle_lacks_is_refused():
    """int8 was requested, but there is only fp32."""
    with pytest.raises(BundleError, match=f"has no {INT8}"):
        Classifier(bundle(), network=INT8)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"names": ("scores", "features", "good")}, {}, "no output logits"),
        ({"names": ("logits", "pooled", "good")}, {}, "no output features"),
        ({}, {"good": True}, "no output good"),
        ({"side": 8}, {}, "takes"),
        ({"count": 1}, {}, "1 tiles only"),
        ({"dtype": onnx.TensorProto.FLOAT}, {}, "uint8"),
    ],
)
def test_network_that_breaks_the_contract_is_refused(options, changes, message):
    """The constructor checks names, types and sizes, before the first frame."""
    assert message in refusal(network(**options), **changes)


def renamed(model_bytes, change):
    model = onnx.load_from_string(model_bytes)
    change(model.graph)
    return model.SerializeToString()


def test_input_of_another_name_is_refused():
    """The name of the input must be `tiles`."""

    def rename(graph):
        graph.input[0].name = "images"
        graph.node[0].input[0] = "images"

    assert "`tiles`" in refusal(renamed(network(), rename))


@pytest.mark.parametrize("network_name", [FP32, INT8])
def test_shipped_network_scores_a_tile_alone_as_in_a_batch(network_name):
    """Logits of tiles of real frames differ by less than 1e-4 between one call for all and one call for each."""
    shipped, strip = load("builtin"), Strip(width=1600, height=256, seed=3)
    grid = lay((256, 1600), tile_px=200, input_px=100, overlap=0.1)
    for n in (60, 420):
        cut = grid.cut(strip.frame(n))
        together = Classifier(shipped, network=network_name).score(cut)
        alone = Classifier(shipped, network=network_name, batch=1).score(cut)
        assert np.abs(together.logits - alone.logits).max() < 1e-4
        assert np.abs(together.good - alone.good).max() < 1e-4


# ---- self-test -----------------------------------------------------------------------------------


def test_shipped_bundle_passes_its_selftest():
    """The built-in bundle loads, and computes the logits of its card on this machine."""
    shipped = load("builtin")
    assert len(shipped.networks[FP32]) <= MAX_STUDENT_BYTES
    assert len(shipped.networks[INT8]) <= MAX_STUDENT_BYTES / 4
    for network_name in shipped.networks:
        Classifier(shipped, network=network_name).selftest()


@pytest.mark.parametrize("good", [None, (1.0, 0.5)])
def test_selftest_passes_for_the_network_of_the_card(good):
    """Its tiles are the same on every machine."""
    Classifier(bundle(weights=WEIGHTS, offsets=OFFSETS, good=good)).selftest()


def test_selftest_refuses_other_logits():
    """A network with wrong logits is refused; the message gives the difference."""
    message = refusal(network(weights=WEIGHTS), selftest=True, weights=(1.0, -2.0, 0.5, 3.0, 0.0, 4.1))
    assert "logits differ by 0.0" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_selftest_refuses_nan_and_infinite_scores(bad):
    """NaN must not pass because each comparison with it is false."""
    assert "not finite" in refusal(network(offsets=(0, 0, 0, 0, 0, bad)), selftest=True)
    assert "not finite" in refusal(network(good=(1.0, bad)), selftest=True, good=True)


def test_selftest_refuses_another_number_of_classes():
    """A network with seven logits for six classes is refused."""
    assert "logits" in refusal(network(weights=(0,) * 7, offsets=(0,) * 7), selftest=True)


def test_selftest_refuses_a_good_output_of_another_shape():
    """`good` must be one number per tile."""

    def widen(graph):
        for constant in graph.initializer:
            if constant.name == "gw":
                constant.CopyFrom(onnx.numpy_helper.from_array(np.ones(3, np.float32), "gw"))
        for output in graph.output:
            if output.name == "good":
                output.type.tensor_type.shape.dim[1].dim_value = 3

    assert "`good` of shape" in refusal(renamed(network(good=(1.0, 0.0)), widen), selftest=True, good=True)


def test_network_that_cannot_run_is_refused():
    """An error of onnxruntime while running becomes a BundleError."""
    with pytest.raises(BundleError, match="does not run"):
        Classifier(bundle()).score(tiles(2, side=SIDE + 1))
