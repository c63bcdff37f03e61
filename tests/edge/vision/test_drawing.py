"""The picture with the defects drawn in."""

import numpy as np

from edge.camera.sources.simulator import Strip
from edge.vision import drawing
from edge.vision.decision import Detections, Region
from edge.vision.defect_extent import extent, parts


def scratched(*columns):
    """Steel with a bright line at each column."""
    image = Strip(width=800, height=256, defects=0).frame(0)
    for x in columns:
        image[60:200, x : x + 4] = 230
    return image


def region(box_px, extent_px=None):
    return Region("scratches", 0.97, box_px, 4, extent_px=extent_px)


def test_scratches_that_lie_apart_have_boxes_of_their_own():
    """Three of them in one region of 650 px are three, and their extent is one box around all."""
    whole = region((80, 0, 650, 256))
    image = scratched(100, 400, 700)
    found = parts(image, whole, 200)
    assert [box[0] // 50 for box in found] == [1, 7, 13]
    assert all(box[2] < 20 for box in found)
    left, _, across, _ = extent(image, whole, 200)
    assert (left // 50, (left + across) // 50) == (1, 14)


def test_lines_of_one_scratch_are_one_defect():
    """What is nearer than a part of a tile belongs together."""
    assert len(parts(scratched(300, 320, 345), region((200, 0, 300, 256)), 200)) == 1


def test_extent_that_holds_more_than_the_parts_is_drawn():
    """A texture beside a scratch, or one in which nothing stands out."""
    for image in (scratched(300), scratched()):
        drawn = drawing.draw(image, Detections((region((200, 0, 400, 200), (210, 20, 180, 150)),), ()), 200)
        red = (drawn == drawing.DEFECT_BGR).all(axis=2)
        assert red[173, 215:385].all()
        assert not red[60:150, 290:310].any()


def test_what_stands_out_beside_the_extent_is_not_drawn():
    """As the edge of the strip, where the network sees no defect."""
    image = scratched(220, 480)
    (extent_px,) = parts(image, region((400, 0, 200, 200)), 200)
    drawn = drawing.draw(image, Detections((region((200, 0, 400, 200), extent_px),), ()), 200)
    red = (drawn == drawing.DEFECT_BGR).all(axis=2)
    assert red[120, 470:495].any()
    assert not red[120, 210:240].any()


def test_the_defect_is_thick_its_tiles_are_thin_and_a_legend_says_so():
    """The emphasis is on the defect; a good frame stays as it is."""
    image = scratched(400)
    box = (200, 0, 400, 200)
    drawn = drawing.draw(image, Detections((region(box),), ((0, 0, 200, 200),)), 200)
    red = (drawn == drawing.DEFECT_BGR).all(axis=2)
    blue = (drawn == drawing.TILES_BGR).all(axis=2)
    assert red[120, 380:400].sum() >= 2
    assert blue[100, 195:210].sum() == 1
    assert (drawn[-30:, :300] != drawing.draw(image, Detections((), ()), 200)[-30:, :300]).any()
    assert np.array_equal(drawing.draw(image, Detections((), ()), 200)[..., 0], image)
