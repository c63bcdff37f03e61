"""One frame in, one verdict out."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SIDE, FakeClock, bundle, network
from pydantic import SecretStr

from edge import config
from edge.errors import ConfigError
from edge.model.bundle import FP32
from edge.model.classifier import Classifier
from edge.vision.inspector import GRIDS_KEPT, Inspector

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
def test_verdict_is_the_worst_that_a_tile_says(means, state):
    """A defect anywhere is a defect, doubt anywhere is unsure, and only a frame without either is ok."""
    verdict = inspector().inspect(frame(means))
    assert verdict.state == state
    assert verdict.tiles == 3


def test_verdict_says_where():
    """Regions and suspects carry the boxes of their tiles."""
    detections = inspector().inspect(frame([[30, 250, 250], [127, 30, 30]])).detections
    assert [region.box_px for region in detections.regions] == [(32, 0, 64, 32)]
    assert detections.unsure_boxes == ((0, 32, 32, 32),)


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
    verdict = inspector().inspect(image)
    assert (verdict.state, verdict.tiles) == ("bad_image", 0)
    assert reason in verdict.reason
    assert verdict.detections.regions == ()


def test_dark_around_the_region_of_interest_is_no_ailment():
    """Only the region is looked at: a strip in a black housing is judged."""
    image = np.zeros((640, 640), np.uint8)
    image[320:352, 320:384] = frame([[30, 250]])
    assert inspector(roi=(320, 320, 64, 32)).inspect(image).state == "defect"
    assert inspector().inspect(image).reason == "dark"


def test_dead_region_in_a_fine_picture_is_bad():
    """The other way round: what surrounds the region does not vouch for it."""
    image = frame([[30] * 8] * 8)
    image[32:96, 32:96] = 0
    assert inspector(roi=(32, 32, 64, 64)).inspect(image).reason == "dark"


def test_frames_of_many_sizes_are_judged_with_bounded_memory():
    """A folder of pictures may mix sizes; only a few grids are kept, the last used ones."""
    judge = inspector()
    often = frame([[30, 250]])
    for width in range(2, GRIDS_KEPT * 3):
        assert judge.inspect(frame([[30] * width])).tiles == width
        assert judge.inspect(often).state == "defect"
    assert len(judge._learned.grids) == GRIDS_KEPT
    assert often.shape in judge._learned.grids


def test_smaller_frame_after_a_larger_one_sees_nothing_of_it():
    """The tiles' memory is used again, its content is not."""
    judge = inspector()
    assert judge.inspect(frame([[240] * 9])).state == "defect"
    verdict = judge.inspect(frame([[30, 30]]))
    assert (verdict.state, verdict.tiles) == ("ok", 2)


def test_inspector_leaves_the_frame_alone():
    """The picture is the camera's memory; it may even be read-only."""
    image = frame([[30, 250]])
    before = image.copy()
    image.flags.writeable = False
    assert inspector().inspect(image).state == "defect"
    assert np.array_equal(image, before)


def test_broken_scores_are_never_ok():
    """A network that yields no numbers makes frames unsure."""
    onnx_bytes = network(offsets=(0, 0, 0, 0, 0, float("nan")), good=(0, 0))
    broken = Classifier(replace(bundle(good=(0, 0)), networks={FP32: onnx_bytes}))
    assert inspector(broken).inspect(frame([[30, 30]])).state == "unsure"


def test_good_output_of_the_card_is_used():
    """Without a good output some class always leads; with one a plain surface is ok."""
    closed = Classifier(bundle(weights=(0,) * 6, offsets=(0, 0, 0, 0, 0, 9)))
    assert inspector(closed).inspect(frame([[30, 30]])).state == "defect"
    open_set = Classifier(bundle(weights=(0,) * 6, offsets=(0, 0, 0, 0, 0, 9), good=(0, 20)))
    assert inspector(open_set).inspect(frame([[30, 30]])).state == "ok"


def test_frame_inspected_in_part_is_never_ok():
    """What was not looked at may hold a flaw: unsure with the reason, and a defect that was found is one."""
    judge = inspector()
    image = frame([[30] * 8 + [250]])
    part = judge.inspect(image, most=3)
    assert (part.state, part.reason, part.tiles, part.skipped) == ("unsure", "partial", 3, 6)
    states = [judge.inspect(image, most=3).state for _ in range(2)]
    assert states[-1] == "defect"


def test_suspicious_tile_is_looked_at_in_every_partial_frame():
    """A flaw found once stays in view, and the others take their turns beside it."""
    judge = inspector()
    image = frame([[250] + [30] * 8])
    assert judge.inspect(image).state == "defect"
    assert [judge.inspect(image, most=2).state for _ in range(8)] == ["defect"] * 8


def test_inspection_stops_at_its_deadline():
    """Not one batch is begun that would end after it; the tiles left over are skipped, in the order of turns."""
    clock = FakeClock()

    class Slow:
        batch = 4
        card = BRIGHT.card
        temperature = BRIGHT.temperature

        def score(self, tiles):
            clock.advance(0.010)
            return BRIGHT.score(tiles)

    camera = config.Camera(name="top", source=SecretStr("strip:"), tile_px=2 * SIDE, overlap=0.0)
    judge = Inspector(camera, Slow(), clock)
    image = frame([[30] * 15 + [250]])
    deadline_ns = clock.monotonic_ns() + 25_000_000
    verdict = judge.inspect(image, deadline_ns=deadline_ns)
    assert (verdict.tiles, verdict.skipped, verdict.state) == (8, 8, "unsure")
    verdict = judge.inspect(image, deadline_ns=clock.monotonic_ns() + 25_000_000)
    assert (verdict.tiles, verdict.state) == (8, "defect")
    verdict = judge.inspect(image, deadline_ns=clock.monotonic_ns() + 1)
    assert verdict.tiles == 4


def test_threshold_of_an_unknown_class_refuses_the_camera():
    """Before the first frame, with the camera's name."""
    with pytest.raises(ConfigError, match="top"):
        inspector(decision=config.Decision(classes={"rust": 0.5}))
