"""The odds of any defect, cell by cell."""

import numpy as np
import pytest

from edge.vision.heat_map import heat_map

TILE = 160


def cells(*tiles):
    """Logits of 4x4 cells for two classes and good.  tiles: {(row, column): odds of the first class}."""
    found = np.zeros((len(tiles), 3, 4, 4), np.float32)
    found[:, 1] = -20
    found[:, 2] = 1
    for tile, hot in zip(found, tiles, strict=True):
        tile[0] = -4
        for (row, column), odds in hot.items():
            tile[0, row, column] = 1 + odds
    return found


def boxes(*corners):
    return np.array([(x, y, TILE, TILE) for x, y in corners], np.int32)


def middle(box):
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def test_hot_box_is_around_the_cells_with_evidence():
    """In pixels of the frame; a hot cell is 40 px wide, and its box little more."""
    heat = heat_map(cells({(1, 2): 9.0}), boxes((200, 100)), (200, 100, TILE, TILE))
    assert middle(heat.hot_px) == pytest.approx((200 + 2.5 * 40, 100 + 1.5 * 40), abs=6)
    assert 40 <= heat.hot_px[2] <= 60
    assert 40 <= heat.hot_px[3] <= 60


def test_two_tiles_show_one_defect():
    """Evidence at the border of two neighbours has one box over both."""
    found = heat_map(cells({(2, 3): 9.0}, {(2, 0): 9.0}), boxes((0, 0), (TILE, 0)), (0, 0, 2 * TILE, TILE))
    assert middle(found.hot_px) == pytest.approx((TILE, 2.5 * 40), abs=6)
    assert 80 <= found.hot_px[2] <= 100


def test_tiles_that_overlap_are_averaged():
    """What one of two tiles denies is half as hot."""
    one = heat_map(cells({(0, 0): 8.0}), boxes((0, 0)), (0, 0, TILE, TILE))
    two = heat_map(cells({(0, 0): 8.0}, {}), boxes((0, 0), (0, 0)), (0, 0, TILE, TILE))
    assert two.evidence.max() < 0.5 * one.evidence.max()


def test_share_counts_a_cell_around_the_box():
    """A pit in a hot cell explains it; one in the opposite corner explains nothing."""
    heat = heat_map(cells({(0, 0): 9.0}), boxes((0, 0)), (0, 0, TILE, TILE))
    assert heat.share((15, 15, 6, 6)) > 0.9
    assert heat.share((140, 140, 6, 6)) == 0
    assert heat.share((0, 0, TILE, TILE)) == 1
    everywhere = heat_map(cells({(r, c): 5.0 for r in range(4) for c in range(4)}), boxes((0, 0)), (0, 0, TILE, TILE))
    assert everywhere.hot_px == (0, 0, TILE, TILE)
    assert everywhere.share((15, 15, 6, 6)) < 0.2


def test_no_cell_with_a_defect_gives_no_map():
    """An anomaly that no class explains has none."""
    assert heat_map(cells({}, {}), boxes((0, 0), (80, 0)), (0, 0, 240, TILE)) is None
