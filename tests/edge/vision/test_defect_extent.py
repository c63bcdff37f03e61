"""The extent of a defect within its tiles."""

import itertools
import time

import cv2
import numpy as np
import pytest
from defect_extent import iou

from edge.camera.sources.simulator import Strip
from edge.vision.decision import Region
from edge.vision.defect_extent import extent
from edge.vision.heat_map import HeatMap

TILE = 200


def region(*box):
    return Region("scratches", 0.9, box, 1)


def steel(height=400, width=800, sigma=4.0):
    """Brushed surface under a lamp that is brighter in the middle."""
    generator = np.random.default_rng(2)
    grain = cv2.GaussianBlur(generator.normal(0, 30, (height, width)), (0, 0), 1)
    light = 90 + 50 * np.sin(np.linspace(0, np.pi, width))[None, :]
    return np.clip(light + grain * sigma / grain.std(), 0, 255).astype(np.uint8)


def far(one, other):
    """The largest distance of two boxes' sides, px."""
    sides = [(box[0], box[1], box[0] + box[2], box[1] + box[3]) for box in (one, other)]
    return max(abs(a - b) for a, b in zip(*sides, strict=True))


@pytest.mark.parametrize("gray", [30, 235])
@pytest.mark.parametrize("truth", [(300, 120, 18, 14), (230, 110, 3, 170), (220, 150, 150, 6), (215, 115, 160, 150)])
def test_extent_is_right_within_a_few_pixels(truth, gray):
    """Or a tenth: a pit, lines along and across, a patch that fills its tile; dark and bright, in uneven light."""
    image = steel()
    x, y, w, h = truth
    image[y : y + h, x : x + w] = gray
    found = extent(image, region(200, 100, 200, 200), TILE)
    assert found is not None
    assert far(found, truth) <= max(8, 0.1 * max(w, h))


def test_extent_includes_all_parts_and_no_specks():
    """Two pits of one size in a box belong together; a single bright speck far from them does not."""
    image = steel()
    for x, y in ((240, 140), (350, 240)):
        image[y : y + 20, x : x + 20] = 20
    image[292:294, 212:214] = 200
    found = extent(image, region(200, 100, 200, 200), TILE)
    assert found is not None
    assert far(found, (240, 140, 130, 120)) <= 8


def test_extent_stays_within_the_box():
    """For a defect that continues beyond its tiles, and for one at the edge of the frame."""
    image = steel()
    image[:, 300:310] = 20
    found = extent(image, region(200, 100, 200, 200), TILE)
    assert found is not None
    assert (found[1], found[3]) == (100, 200)
    image = steel()
    image[0:30, 0:30] = 20
    assert far(extent(image, region(0, 0, 200, 200), TILE), (0, 0, 30, 30)) <= 8


@pytest.mark.parametrize("image", [steel(), np.full((400, 800), 120, np.uint8)], ids=["plain steel", "no grain at all"])
def test_extent_is_unknown_where_no_pixel_stands_out(image):
    """On a texture, or on a plain surface, only the box of the tiles is known."""
    assert extent(image, region(200, 100, 200, 200), TILE) is None


@pytest.mark.parametrize("tile_px", [64, 200, 900])
def test_extent_is_right_for_tiles_of_any_size(tile_px):
    """All tile sizes are shrunk to about the same size."""
    image = cv2.resize(steel(), None, fx=tile_px / 200, fy=tile_px / 200, interpolation=cv2.INTER_AREA)
    unit = tile_px / 200
    truth = tuple(round(side * unit) for side in (260, 150, 60, 40))
    x, y, w, h = truth
    image[y : y + h, x : x + w] = 20
    found = extent(image, region(tile_px, tile_px // 2, tile_px, tile_px), tile_px)
    assert far(found, truth) <= 8 * max(1.0, unit)


def test_extent_of_generated_defects_is_better_than_the_box_of_their_tiles():
    """For whole defects of all six classes, the extent overlaps the truth 1.5 times as much as the tiles' box."""
    strip, ours, tiles = Strip(), [], []
    for number in itertools.islice(itertools.count(0, 7), 400):
        shown = strip.truth(number)
        if len(shown) != 1 or shown[0][1][1] <= 0 or shown[0][1][1] + shown[0][1][3] >= 400:
            continue
        x, y, w, h = truth = shown[0][1]
        left, top = x // 100 * 100, y // 100 * 100
        box = (left, top, -(-(x + w) // 100) * 100 - left, -(-(y + h) // 100) * 100 - top)
        found = extent(strip.frame(number), region(*box), TILE)
        assert found is not None
        ours.append(iou(found, truth))
        tiles.append(iou(box, truth))
    assert len(ours) >= 100
    assert np.mean(ours) > 0.7
    assert np.mean(ours) > 1.5 * np.mean(tiles)


def heat(*steps):
    """Evidence in some of the 16x16 steps of the tile at (200, 100).  steps: (row, column) slices."""
    found = np.zeros((16, 16), np.float32)
    for at in steps:
        found[at] = 8.0
    return HeatMap(found, 200, 100, TILE / 16, TILE / 4)


def test_texture_has_the_extent_of_its_evidence():
    """No pixel stands out of it."""
    assert extent(steel(), region(200, 100, 200, 200), TILE, heat(np.s_[4:12, 0:8])) == (200, 150, 100, 100)


def test_pixels_that_stand_out_are_the_defect_if_the_evidence_is_around_them():
    """The cells are coarser, so they add nothing to a pit."""
    image = steel()
    image[150:164, 250:264] = 20
    alone = extent(image, region(200, 100, 200, 200), TILE)
    assert extent(image, region(200, 100, 200, 200), TILE, heat(np.s_[3:7, 3:7])) == alone
    assert far(alone, (250, 150, 14, 14)) <= 8


def test_what_stands_out_without_evidence_is_not_the_defect():
    """The edge of the strip beside a pit, and alone."""
    image = steel()
    image[:, 385:] = 5
    assert far(extent(image, region(200, 100, 200, 200), TILE, heat(np.s_[3:7, 3:7])), (238, 138, 50, 50)) <= 8
    image[150:164, 250:264] = 20
    assert extent(image, region(200, 100, 200, 200), TILE)[2:] == (140, 200)
    assert far(extent(image, region(200, 100, 200, 200), TILE, heat(np.s_[3:7, 3:7])), (250, 150, 14, 14)) <= 8


def test_evidence_apart_from_the_pixels_counts_too():
    """A texture beside a pit: the extent holds both."""
    image = steel()
    image[170:184, 220:234] = 20
    found = extent(image, region(200, 100, 200, 200), TILE, heat(np.s_[8:16, 0:16]))
    assert far(found, (200, 170, 200, 130)) <= 8
    assert found[1] < 200


def test_defect_over_the_whole_frame_takes_little_time():
    """The shrunk region is bounded, whatever the size of the frame."""
    image = cv2.resize(steel(), (4000, 2000))
    started = time.process_time()
    extent(image, region(0, 0, 4000, 2000), TILE)
    assert time.process_time() - started < 0.5
