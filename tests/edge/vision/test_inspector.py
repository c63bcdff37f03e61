"""One frame in, one verdict out."""

from dataclasses import replace

import numpy as np
import pytest
from fakes.bundles import bundle
from fakes.clock import FakeClock
from fakes.networks import SIDE, network
from pydantic import SecretStr

from edge import config
from edge.camera.sources.simulator import Strip
from edge.errors import ConfigError, ImageError
from edge.model.bundle import FP32, load
from edge.model.classifier import Classifier
from edge.vision.inspector import MAX_GRIDS, Inspector

# A tile's mean decides: bright (1.0) is scratches at 0.98, middle (0.5) is 0.5, dark (0) is 0.02.
BRIGHT = Classifier(bundle(weights=(0, 0, 0, 0, 0, 8), offsets=(-9, -9, -9, -9, -9, -4), good=(0, 0)))


def inspector(classifier=BRIGHT, **keys):
    options = {"tile_px": 2 * SIDE, "overlap": 0.0, **keys}
    return Inspector(config.Camera(name="top", source=SecretStr("strip:"), **options), classifier, FakeClock())


def frame(means, side=2 * SIDE):
    """Tiles of these means, with a little texture."""
    rows = [np.concatenate([np.full((side, side), mean) for mean in row], axis=1) for row in means]
    image = np.concatenate(rows)
    return np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("means", "state"),
    [([[30, 30, 30]], "ok"), ([[30, 250, 30]], "defect"), ([[30, 127, 30]], "unsure"), ([[250, 127, 30]], "defect")],
)
def test_verdict_is_the_worst_of_all_tiles(means, state):
    """One defect makes the frame a defect, one unsure tile makes it unsure; a frame with neither is ok."""
    verdict = inspector().inspect_alone(frame(means))
    assert verdict.state == state
    assert verdict.tiles == 3


def test_verdict_has_the_boxes():
    """Regions and suspects carry the boxes of their tiles."""
    detections = inspector().inspect_alone(frame([[30, 250, 250], [127, 30, 30]])).detections
    assert [region.box_px for region in detections.regions] == [(32, 0, 64, 32)]
    assert detections.unsure_boxes == ((0, 32, 32, 32),)


def test_published_confidence_is_that_of_the_card_or_of_the_camera():
    """Sharpened by the card, unless the camera has a temperature of its own; the scores of a tile are what decided."""
    made = bundle(weights=(0, 0, 0, 0, 0, 8), offsets=(-9, -9, -9, -9, -9, -6.5), good=(0, 0))
    sharp = Classifier(replace(made, card=made.card.model_copy(update={"sharpness": 2.0})))
    plain, published = (inspector(one).inspect_alone(frame([[30, 250]])) for one in (Classifier(made), sharp))
    (before,), (after,) = plain.detections.regions, published.detections.regions
    assert 0.6 < before.confidence == after.weight < after.confidence
    scores = [verdict.tile_scores.of(before.box_px)["scores"]["scratches"] for verdict in (plain, published)]
    assert scores[0] == scores[1] == pytest.approx(before.confidence, abs=1e-4)
    own = {"temperature": made.card.temperature, "classes": {}}
    (calibrated,) = inspector(sharp, calibrated_thresholds=own).inspect_alone(frame([[30, 250]])).detections.regions
    assert calibrated.confidence == before.confidence


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((64, 64), np.uint8), "dark"),
        (np.full((64, 64), 255, np.uint8), "saturated"),
        (np.full((64, 64), 100, np.uint8), "blank"),
        (np.full((10, 64), 100, np.uint8), "too small"),
        (np.empty((0, 64), np.uint8), "outside"),
    ],
)
def test_picture_of_no_surface_is_bad(image, reason):
    """The state is bad_image with the reason, no tile counts as inspected, and nothing is raised."""
    verdict = inspector().inspect_alone(image)
    assert (verdict.state, verdict.tiles) == ("bad_image", 0)
    assert reason in verdict.reason
    assert verdict.detections.regions == ()


def test_dark_around_the_region_of_interest_is_no_fault():
    """Only the region is checked: a strip in a black housing is inspected."""
    image = np.zeros((640, 640), np.uint8)
    image[320:352, 320:384] = frame([[30, 250]])
    assert inspector(roi=(320, 320, 64, 32)).inspect_alone(image).state == "defect"
    assert inspector().inspect_alone(image).reason == "dark"


def test_dark_region_in_a_good_picture_is_bad():
    """A bright picture around the region does not make the region good."""
    image = frame([[30] * 8] * 8)
    image[32:96, 32:96] = 0
    assert inspector(roi=(32, 32, 64, 64)).inspect_alone(image).reason == "dark"


def test_frames_of_many_sizes_take_bounded_memory():
    """A folder of pictures may mix sizes; only the last used grids are kept."""
    top = inspector()
    often = frame([[30, 250]])
    for width in range(2, MAX_GRIDS * 3):
        assert top.inspect_alone(frame([[30] * width])).tiles == width
        assert top.inspect_alone(often).state == "defect"
    assert len(top._learned.grids) == MAX_GRIDS
    assert often.shape in top._learned.grids


def test_smaller_frame_after_a_larger_one_shares_no_tiles_with_it():
    """The memory of the tiles is used again, its content is not."""
    top = inspector()
    assert top.inspect_alone(frame([[240] * 9])).state == "defect"
    verdict = top.inspect_alone(frame([[30, 30]]))
    assert (verdict.state, verdict.tiles) == ("ok", 2)


def test_inspection_does_not_change_the_frame():
    """The pixels are the ring's memory; they may be read-only."""
    image = frame([[30, 250]])
    before = image.copy()
    image.flags.writeable = False
    assert inspector().inspect_alone(image).state == "defect"
    assert np.array_equal(image, before)


def test_broken_scores_are_never_ok():
    """Scores that are not finite make the frame unsure."""
    onnx_bytes = network(offsets=(0, 0, 0, 0, 0, float("nan")), good=(0, 0))
    broken = Classifier(replace(bundle(good=(0, 0)), networks={FP32: onnx_bytes}))
    assert inspector(broken).inspect_alone(frame([[30, 30]])).state == "unsure"


def test_good_output_of_the_card_is_used():
    """Without a good output some class always leads; with one a plain surface is ok."""
    closed = Classifier(bundle(weights=(0,) * 6, offsets=(0, 0, 0, 0, 0, 9)))
    assert inspector(closed).inspect_alone(frame([[30, 30]])).state == "defect"
    open_set = Classifier(bundle(weights=(0,) * 6, offsets=(0, 0, 0, 0, 0, 9), good=(0, 20)))
    assert inspector(open_set).inspect_alone(frame([[30, 30]])).state == "ok"


def test_frame_inspected_in_part_is_never_ok():
    """A tile that was left out may have a defect: unsure with the reason; a defect that was found stays one."""
    top = inspector()
    image = frame([[30] * 8 + [250]])
    part = top.inspect_alone(image, max_tiles=3)
    assert (part.state, part.reason, part.tiles, part.skipped) == ("unsure", "partial", 3, 6)
    states = [top.inspect_alone(image, max_tiles=3).state for _ in range(2)]
    assert states[-1] == "defect"


def test_suspicious_tile_is_inspected_in_every_partial_frame():
    """A defect found once is inspected in each frame, and the other tiles take turns."""
    top = inspector()
    image = frame([[250] + [30] * 8])
    assert top.inspect_alone(image).state == "defect"
    assert [top.inspect_alone(image, max_tiles=2).state for _ in range(8)] == ["defect"] * 8


def test_tiles_that_may_show_a_defect_are_compared_by_column():
    """Each counts in its column of the grid, whatever its row."""
    top = Inspector(config.Camera(name="top", source=SecretStr("0")), Classifier(load("builtin")), FakeClock())
    verdict = top.inspect_alone(Strip().frame(161))  # shows a patch of crazing
    lefts = sorted({int(left) for left in verdict.tile_scores.boxes[:, 0]})
    evidence = verdict.tile_scores.probabilities.sum(axis=1)
    expected = [lefts.index(left) for left in verdict.tile_scores.boxes[evidence >= top.thresholds.unsure, 0]]
    suspects = top.suspects(verdict)
    assert [one.column for one in suspects] == expected
    assert len(set(expected)) >= 2
    assert 0 < np.median([one.distance for one in suspects]) < 2


def test_inspection_stops_at_its_deadline():
    """No batch starts that would end after it; the tiles left over are skipped and come first in the next frame."""
    clock = FakeClock()

    class Slow:
        batch = 4
        card, bundle = BRIGHT.card, BRIGHT.bundle
        temperature, sharpness = BRIGHT.temperature, BRIGHT.sharpness

        def score(self, tiles):
            clock.advance(0.010)
            return BRIGHT.score(tiles)

        def cells(self, _tiles):
            return None

    camera = config.Camera(name="top", source=SecretStr("strip:"), tile_px=2 * SIDE, overlap=0.0)
    top = Inspector(camera, Slow(), clock)
    image = frame([[30] * 15 + [250]])
    deadline_ns = clock.monotonic_ns() + 25_000_000
    verdict = top.inspect_alone(image, deadline_ns=deadline_ns)
    assert (verdict.tiles, verdict.skipped, verdict.state) == (8, 8, "unsure")
    verdict = top.inspect_alone(image, deadline_ns=clock.monotonic_ns() + 25_000_000)
    assert (verdict.tiles, verdict.state) == (8, "defect")
    verdict = top.inspect_alone(image, deadline_ns=clock.monotonic_ns() + 1)
    assert verdict.tiles == 4


@pytest.mark.parametrize("deadline_ns", [None, 1 << 62])
def test_inspection_in_progress_can_be_ended(deadline_ns):
    """A stop ends it after the present batch, with and without a deadline; the other tiles are skipped."""
    camera = config.Camera(name="top", source=SecretStr("strip:"), tile_px=2 * SIDE, overlap=0.0)
    small = Classifier(bundle(), batch=4)
    top = Inspector(camera, small, FakeClock())
    asked = iter([False, True])
    prepared = top.prepare(frame([[30] * 16]), follow=False)
    verdict = top.inspect(prepared, deadline_ns=deadline_ns, is_over=asked.__next__)
    assert (verdict.tiles, verdict.skipped, verdict.state, verdict.reason) == (8, 8, "unsure", "partial")


def test_threshold_of_an_unknown_class_refuses_the_camera():
    """Before the first frame, with the camera's name."""
    with pytest.raises(ConfigError, match="top"):
        inspector(decision=config.Decision(classes={"rust": 0.5}))


def test_check_of_a_bad_picture_names_the_fault_and_no_tiles_are_inspected():
    """After three dark frames in a row the fault starts; `inspect` of such a frame is bad_image with the reason."""
    top, dark = inspector(), np.zeros((64, 64), np.uint8)
    checks = [top.check(dark, n).check for n in range(3)]
    assert [check.started for check in checks] == [None, None, "dark"]
    prepared = top.check(dark, 3)
    assert (prepared.fault, top.inspect(prepared).state, top.inspect(prepared).tiles) == ("dark", "bad_image", 0)


def test_prepared_frame_is_inspected_as_it_was_checked():
    """The tiles of the check are those of the verdict, and the statistics are those of the check."""
    top, image = inspector(), frame([[30, 250, 30]])
    prepared = top.check(image, 0)
    assert (prepared.fault, prepared.tiles, len(prepared.boxes())) == (None, 3, 3)
    assert top.inspect(prepared, max_tiles=prepared.tiles).state == "defect"
    assert top.stats(prepared) == prepared.known_stats
    assert prepared.known_stats is not None
    unchecked = top.stats(top.prepare(image, follow=False))
    assert unchecked.brightness == pytest.approx(prepared.known_stats.brightness, abs=0.01)
    assert unchecked.sharpness == pytest.approx(prepared.known_stats.sharpness)


def test_frame_that_cannot_be_tiled_is_a_fault_of_the_check():
    """A frame smaller than a tile has no layout; `prepare`, which checks nothing, raises."""
    top, small = inspector(), np.full((10, 64), 100, np.uint8)
    prepared = top.check(small, 0)
    assert (prepared.layout, prepared.tiles, prepared.boxes()) == (None, 0, [])
    assert "too small" in (prepared.fault or "")
    with pytest.raises(ImageError, match="too small"):
        top.prepare(small, follow=False)
