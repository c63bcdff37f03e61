"""From tile scores to the defects of one frame."""

import numpy as np
import pytest
from fakes.networks import CLASSES
from hypothesis import given
from hypothesis import strategies as st

from edge import config
from edge.errors import ConfigError
from edge.vision.boxes import overlap_px, union
from edge.vision.decision import NO_DETECTIONS, AnomalyScores, decide
from edge.vision.thresholds import Thresholds

TILE = 100
LETTERS = {"c": 0, "i": 1, "p": 2, "t": 3, "r": 4, "s": 5}
"""crazing, inclusion, patches, pitted_surface, rolled-in_scale, scratches"""


def thresholds(**decision):
    return Thresholds.of(config.Decision(**decision), CLASSES, "top")


def detections_of(
    drawing, confidences=None, *, has_good=True, overlap=0, limits=None, anomaly_scores=None, sharpness=1.0
):
    """Detections of a drawn grid: a class's letter for a defect at 0.9, ? for an unsure tile, . for a good one.

    confidences: confidence of single letters.  overlap: px that neighbouring tiles share.
    """
    rows, boxes, cells = [], [], []
    for r, line in enumerate(drawing.split()):
        for c, letter in enumerate(line):
            row = np.full(6, 0.001)
            if letter == "?":
                row[5] = 0.45
            elif letter != ".":
                row[LETTERS[letter]] = (confidences or {}).get(letter, 0.9)
            rows.append(row)
            boxes.append((c * (TILE - overlap), r * (TILE - overlap), TILE, TILE))
            cells.append((r, c))
    return decide(
        np.array(rows, np.float32),
        np.array(boxes, np.int32),
        np.array(cells, np.int32),
        limits or thresholds(),
        has_good=has_good,
        anomaly_scores=anomaly_scores,
        sharpness=sharpness,
    )


def regions_of(detections):
    return [(region.class_name, region.box_px, region.tiles) for region in detections.regions]


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ("... ...", []),
        ("s.. ...", [("scratches", (0, 0, 100, 100), 1)]),
        ("ss. ...", [("scratches", (0, 0, 200, 100), 2)]),
        ("s.. .s. ..s", [("scratches", (0, 0, 300, 300), 3)]),
        ("s.s ... s.s", [("scratches", (x, y, 100, 100), 1) for x in (0, 200) for y in (0, 200)]),
        ("sss s.s sss", [("scratches", (0, 0, 300, 300), 8)]),
        ("s.p ...", [("patches", (200, 0, 100, 100), 1), ("scratches", (0, 0, 100, 100), 1)]),
        ("..s .s. s..", [("scratches", (0, 0, 300, 300), 3)]),
    ],
)
def test_touching_tiles_of_one_class_are_one_region(drawing, expected):
    """Neighbours, corners included, are joined; tiles that do not touch stay apart."""
    assert sorted(regions_of(detections_of(drawing))) == sorted(expected)


def test_neighbours_of_different_class_are_two_regions():
    """Side by side, both with a clear class and neither inside the other: both are reported, strongest first."""
    found = detections_of("ssspp sss..", {"s": 0.92, "p": 0.95})
    assert [region.class_name for region in found.regions] == ["patches", "scratches"]


def test_weaker_class_inside_a_stronger_is_absorbed():
    """One defect that overlapping tiles see as two classes is reported once, as the stronger."""
    assert [r.class_name for r in detections_of("sss scs sss", {"c": 0.8}).regions] == ["scratches"]


def test_stronger_class_inside_a_weaker_is_kept():
    """A strong small defect in a weak large one is not lost."""
    found = detections_of("sss scs sss", {"s": 0.92, "c": 0.95})
    assert [r.class_name for r in found.regions] == ["crazing", "scratches"]


@pytest.mark.parametrize(("confidence", "is_separate"), [(0.7, False), (0.89, False), (0.92, True)])
def test_end_of_a_defect_in_the_next_tile_is_no_defect_of_its_own(confidence, is_separate):
    """Where a defect reaches into the next tile, another class there counts only with a high confidence."""
    found = detections_of("ssp ...", {"s": 0.97, "p": confidence})
    assert [r.class_name for r in found.regions] == ["scratches", "patches"][: 1 + is_separate]


def test_defect_beside_a_slanting_scratch_is_kept():
    """The box of a diagonal scratch contains much surface without a scratch."""
    found = detections_of("s.... .s... ..s.. ...s. p...s", {"p": 0.7})
    assert [r.class_name for r in found.regions] == ["scratches", "patches"]


def test_regions_come_strongest_first():
    """The order is by confidence, and equal for equal scores."""
    found = detections_of("s.c.p", {"c": 0.95, "p": 0.85})
    assert [round(r.confidence, 2) for r in found.regions] == [0.95, 0.9, 0.85]


def test_each_class_has_its_own_threshold():
    """`classes` raises or lowers the threshold of single classes."""
    limits = thresholds(confidence=0.6, unsure=0.35, classes={"crazing": 0.95, "patches": 0.4})
    found = detections_of("c.p.s", {"p": 0.45, "s": 0.65}, limits=limits)
    assert [r.class_name for r in found.regions] == ["scratches", "patches"]
    assert found.unsure_boxes == ((0, 0, 100, 100),)


def test_threshold_itself_is_a_defect():
    """A tile at `confidence` is a defect, and a tile at `unsure` is unsure."""
    assert detections_of("s", {"s": 0.6}).regions
    assert detections_of("s", {"s": 0.35}, has_good=False).unsure_boxes
    assert not detections_of("s", {"s": 0.349}, has_good=False).unsure_boxes


def test_unknown_class_in_the_configuration_is_refused():
    """The error names each class that the model does not know, and those that it knows."""
    with pytest.raises(ConfigError) as caught:
        thresholds(classes={"rust": 0.5, "scratches": 0.5, "dust": 0.5})
    assert [p.value for p in caught.value.problems] == ["rust", "dust"]
    assert all("scratches" in p.remedy for p in caught.value.problems)


def test_tile_is_unsure_by_the_probability_of_any_defect_where_there_is_a_good_output():
    """A tile that surely has a defect of some class is not good only because no class leads."""
    rows = np.full((1, 6), 0.16, np.float32)
    place = np.array([[0, 0, 100, 100]], np.int32), np.array([[0, 0]], np.int32)
    assert decide(rows, *place, thresholds(), has_good=True).unsure_boxes
    assert not decide(rows, *place, thresholds(), has_good=False).unsure_boxes


def test_unsure_tile_does_not_depend_on_the_other_tiles():
    """The rule is the same for a frame full of defects and for one with good tiles."""
    sure = np.full((2, 6), 1 / 6, np.float32)
    boxes, cells = np.array([[0, 0, 9, 9], [9, 0, 9, 9]], np.int32), np.array([[0, 0], [0, 1]], np.int32)
    assert len(decide(sure, boxes, cells, thresholds(), has_good=True).unsure_boxes) == 2


@pytest.mark.parametrize("has_good", [True, False])
def test_nan_scores_are_never_good(has_good):
    """A tile with NaN is unsure: it is no defect, and never ok."""
    rows = np.full((1, 6), np.nan, np.float32)
    place = np.array([[0, 0, 100, 100]], np.int32), np.array([[0, 0]], np.int32)
    found = decide(rows, *place, thresholds(), has_good=has_good)
    assert found.regions == ()
    assert len(found.unsure_boxes) == 1


def test_no_tiles_give_no_detections():
    """An empty grid raises no error."""
    empty = decide(
        np.empty((0, 6), np.float32),
        np.empty((0, 4), np.int32),
        np.empty((0, 2), np.int32),
        thresholds(),
        has_good=True,
    )
    assert (empty.regions, empty.unsure_boxes) == ((), ())


def test_detections_hold_plain_numbers():
    """Boxes and confidences go into JSON: no numpy types."""
    found = detections_of("ss. ..?")
    for box in (*found.unsure_boxes, *(region.box_px for region in found.regions)):
        assert [type(part) for part in box] == [int] * 4
    assert type(found.regions[0].confidence) is float
    assert type(found.regions[0].tiles) is int


GRIDS = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.text("ciptrs.?", min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(GRIDS, st.sampled_from([0, 10]), st.booleans())
def test_detections_hold_each_unsure_tile_and_no_good_one(lines, overlap, has_good):
    """A defect tile is in a region, an unsure one is listed, a good one is absent; the strongest region comes first."""
    found = detections_of(" ".join(lines), has_good=has_good, overlap=overlap)
    letters = [letter for letter in "".join(lines) if letter in LETTERS]
    assert {region.class_name for region in found.regions} <= {CLASSES[LETTERS[letter]] for letter in letters}
    assert bool(found.regions) == bool(letters)
    for r, line in enumerate(lines):
        for c, letter in enumerate(line):
            tile = (c * (TILE - overlap), r * (TILE - overlap), TILE, TILE)
            assert (tile in found.unsure_boxes) == (letter == "?")
    assert sum(region.tiles for region in found.regions) <= len(letters)
    assert list(found.regions) == sorted(found.regions, key=lambda region: -region.confidence)


BOXES = st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 50), st.integers(0, 50))


@given(BOXES, BOXES)
def test_overlap_and_union_agree_with_each_other(a, b):
    """The shared area is symmetric and at most each area; the union holds both."""
    shared = overlap_px(a, b)
    assert shared == overlap_px(b, a) <= min(a[2] * a[3], b[2] * b[3])
    around = union(a, b)
    assert overlap_px(around, a) == a[2] * a[3]
    assert overlap_px(around, b) == b[2] * b[3]


@pytest.mark.parametrize("has_good", [True, False])
def test_early_exit_misses_no_tile_at_the_lowest_threshold(has_good):
    """The early exit for good frames does not apply to a tile at or above the threshold, or to NaN."""
    for level in (0.3499, 0.35, 0.3501, float("nan")):
        scores = np.zeros((3, 6), np.float32)
        scores[1, 2] = level
        boxes, cells = np.array([[0, 0, 9, 9]] * 3, np.int32), np.array([[0, 0], [0, 4], [0, 8]], np.int32)
        found = decide(scores, boxes, cells, thresholds(unsure=0.35), has_good=has_good)
        assert bool(found.unsure_boxes) is not (level < 0.35), level


# ---- with an anomaly model -----------------------------------------------------------------------


def by_anomaly(drawing, scores):
    """The same grid, with anomaly scores: unsure above 1, a defect above 2."""
    rows = np.array([float(score) for line in scores.split(";") for score in line.split()], np.float32)
    return detections_of(drawing, anomaly_scores=AnomalyScores(rows, 2.0, 1.0))


def test_only_the_anomaly_score_makes_a_defect():
    """A class alone makes no defect of a tile with a low score; a score in between makes it unsure."""
    assert by_anomaly("s.. ...", "0 0 0; 0 0 0") == NO_DETECTIONS
    found = by_anomaly("s.. ...", "0 0 0; 0 0 1.5")
    assert found.regions == ()
    assert found.unsure_boxes == ((200, 100, 100, 100),)


def test_anomalous_region_without_a_class_is_named_anomaly():
    """It has the network's confidence, and its score in units of the threshold."""
    (region,) = by_anomaly("... ...", "0 0 3; 0 0 5").regions
    assert (region.class_name, region.anomaly, region.tiles) == ("anomaly", 2.5, 2)
    assert region.peak_px == (200, 100, 100, 100)
    assert region.confidence < 0.1


def test_tile_that_touches_a_named_tile_takes_its_class():
    """A scratch over three tiles, of which one has a sure class, is one scratch."""
    assert regions_of(by_anomaly("s.. ...", "3 3 3; 0 0 0")) == [("scratches", (0, 0, 300, 100), 3)]
    assert [r.class_name for r in by_anomaly("s.. ...", "3 0 3; 0 0 3").regions] == ["scratches", "anomaly"]


def test_nan_anomaly_score_is_never_good():
    """It is unsure: neither defect nor ok."""
    found = by_anomaly("... ...", "0 nan 0; 0 0 0")
    assert found.regions == ()
    assert found.unsure_boxes == ((100, 0, 100, 100),)


@pytest.mark.parametrize("drawing", ["ssspp sss..", "s.s ... s?s", "cc? .p. iii", "... .?."])
def test_sharpness_changes_the_confidence_and_nothing_else(drawing):
    """The same regions in the same order, the same unsure tiles; what decided is kept as the weight."""
    told = {"s": 0.62, "p": 0.71, "c": 0.64, "i": 0.93}
    plain, sharp = (detections_of(drawing, told, sharpness=s) for s in (1.0, 2.0))
    assert regions_of(plain) == regions_of(sharp)
    assert plain.unsure_boxes == sharp.unsure_boxes
    for before, after in zip(plain.regions, sharp.regions, strict=True):
        assert after.weight == before.confidence
        assert after.confidence > before.confidence
        rest = 1 - before.confidence - 5 * 0.001  # `good`
        share = before.confidence**2 / (before.confidence**2 + rest**2)
        assert after.confidence == pytest.approx(share, abs=1e-4)


def test_a_defect_gets_the_confidence_of_its_own_tile():
    """Two defects of one probability: what the rest of their tiles resembles decides how sharp each one becomes."""
    rows = np.array([[0.7, 0.3, 0, 0, 0, 0], [0.01] * 6, [0.7, 0.05, 0.05, 0.05, 0.05, 0.05]], np.float32)
    boxes = np.array([(x, 0, TILE, TILE) for x in (0, TILE, 2 * TILE)], np.int32)
    cells = np.array([(0, 0), (0, 1), (0, 2)], np.int32)
    found = decide(rows, boxes, cells, thresholds(), has_good=True, sharpness=2.0)
    assert [(region.box_px[0], region.weight) for region in found.regions] == [
        (0, np.float32(0.7)),
        (200, np.float32(0.7)),
    ]
    first, second = (region.confidence for region in found.regions)
    assert first == pytest.approx(0.49 / (0.49 + 0.09), abs=1e-3)
    assert second == pytest.approx(0.49 / (0.49 + 6 * 0.0025), abs=2e-3)


def test_an_anomaly_without_a_class_keeps_its_confidence():
    """There is no name to be confident of."""
    scores = AnomalyScores(np.array([2.0, 2.0], np.float32), 1.0, 0.5)
    told = {"s": 0.9, "p": 0.5}
    named, weak = (
        detections_of(drawing, told, anomaly_scores=scores, sharpness=2.0).regions[0] for drawing in ("s.", "pp")
    )
    assert named.confidence > 0.98
    assert (weak.class_name, weak.confidence) == ("anomaly", 0.5)
