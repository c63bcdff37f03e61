"""The order of the tiles when there is no time for all."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.vision.tile_order import TileOrder


def boxes(count, side=100):
    return np.array([(i * side, 0, side, side) for i in range(count)], np.int32)


@given(st.data())
def test_every_tile_is_seen_within_the_stated_number_of_frames(data):
    """With k tiles per frame, each of N is inspected within N / ceil(k / 2) frames, whatever is suspicious."""
    count = data.draw(st.integers(1, 60))
    most = data.draw(st.integers(1, count))
    limit = math.ceil(count / math.ceil(most / 2))
    turns = TileOrder(boxes(count))
    seen_ns = np.zeros(count, int)
    for frame in range(1, 4 * limit):
        chosen = turns.order(most)
        assert len(chosen) == len(set(chosen.tolist())) == most
        seen_ns[chosen] = frame
        assert (frame - seen_ns < limit).all() or frame < limit
        suspicious = data.draw(st.lists(st.integers(0, count - 1), max_size=4))
        turns.mark_inspected(chosen, [(i * 100 + 10, 10, 20, 20) for i in suspicious])
    assert (seen_ns > 0).all()


def test_tiles_that_touch_a_suspicious_box_come_first():
    """They include tiles into which a defect of the last frame may have moved."""
    turns = TileOrder(boxes(10))
    turns.mark_inspected(None, [(390, 20, 120, 30)])
    assert set(turns.order(8)[:3].tolist()) == {3, 4, 5}
    turns.mark_inspected(np.array([3, 4, 5]), [])
    assert not {3, 4, 5} & set(turns.order(7).tolist())


def test_suspicious_tiles_take_at_most_half_of_the_places():
    """A surface full of defects does not stop the inspection of the other tiles."""
    turns = TileOrder(boxes(10))
    turns.mark_inspected(np.arange(5), [(0, 0, 500, 100)])
    chosen = turns.order(4).tolist()
    assert sum(tile < 5 for tile in chosen) == 2


def test_moved_tiles_keep_their_turns():
    """Each tile takes over the turn of the nearest old one, even if there are fewer now."""
    boxes = np.array([[x, 0, 10, 10] for x in range(0, 100, 10)], np.int32)
    turns = TileOrder(boxes)
    turns.mark_inspected(turns.order(5), ())
    turns.move_to(boxes + np.array([3, 0, 0, 0], np.int32))
    assert turns.order(5).tolist() == [5, 6, 7, 8, 9]
    turns.mark_inspected(turns.order(5), ())
    turns.move_to(boxes[2:])
    assert len(turns.order(8)) == 8
    assert turns.order(3).tolist() == [0, 1, 2]
