"""Where tiles lie, and which pixels they contain."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ImageError
from edge.vision.tiles import MAX_TILES, TileGrid, _positions, lay, shrink

SIZES = st.integers(1, 3000)
TILES = st.sampled_from([16, 50, 64, 100, 150, 200, 333, 640])
INPUTS = st.sampled_from([16, 50, 64, 96, 100, 128])
OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5])


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def try_lay(shape, **options):
    """The grid, or None where `lay` refuses the frame."""
    try:
        return lay(shape, **options)
    except ImageError:
        return None


def covered(grid: TileGrid):
    seen = np.zeros(grid.frame_shape, bool)
    for x, y, w, h in grid.boxes.tolist():
        seen[y : y + h, x : x + w] = True
    return seen


@given(SIZES, SIZES, TILES, INPUTS, OVERLAPS)
def test_boxes_cover_the_frame_and_stay_inside(height, width, tile_px, input_px, overlap):
    """Every pixel of a frame is in a box, no box leaves the frame, and only too narrow frames are refused."""
    grid = try_lay((height, width), tile_px=tile_px, input_px=input_px, overlap=overlap)
    if grid is None:
        assert min(height, width) < -(-tile_px // 2) or height * width > 1000 * tile_px**2
        return
    x, y, w, h = grid.boxes.T
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (w > 0).all()
    assert (h > 0).all()
    assert (x + w <= width).all()
    assert (y + h <= height).all()
    assert covered(grid).all()


@given(SIZES, SIZES, TILES, INPUTS, OVERLAPS)
def test_boxes_have_the_size_of_a_tile(height, width, tile_px, input_px, overlap):
    """A box has the size of a tile within the rounding of the shrunk picture; smaller frames give smaller boxes."""
    grid = try_lay((height, width), tile_px=tile_px, input_px=input_px, overlap=overlap)
    if grid is None:
        return
    for side, full, small in ((2, width, grid.small[0]), (3, height, grid.small[1])):
        # The shrunk length is a whole number, and so is each edge of the box.
        slack = 1 + tile_px * abs(full / small * input_px / tile_px - 1)
        assert (abs(grid.boxes[:, side] - min(tile_px, full)) <= slack + 1e-6).all()


@given(SIZES, SIZES, TILES, INPUTS, OVERLAPS)
def test_boxes_match_the_cut_pixels(height, width, tile_px, input_px, overlap):
    """The ends of each box agree within half a pixel with the ends of the tile in the shrunk picture."""
    grid = try_lay((height, width), tile_px=tile_px, input_px=input_px, overlap=overlap)
    if grid is None:
        return
    corners = np.array([(columns.start, rows.start) for rows, columns in grid.places])
    for axis, full in ((0, width), (1, height)):
        scale = full / grid.small[axis]
        start, end = corners[:, axis] * scale, np.minimum(full, (corners[:, axis] + input_px) * scale)
        assert (abs(grid.boxes[:, axis] - start) <= 0.5 + 1e-6).all()
        assert (abs(grid.boxes[:, axis] + grid.boxes[:, axis + 2] - end) <= 0.5 + 1e-6).all()


@given(st.integers(1, 4000), st.integers(10, 200), OVERLAPS)
def test_positions_are_few_and_overlap_enough(length, side, overlap):
    """Tiles cover the length, fewer would not, and neighbours overlap by at least the given share, in whole pixels."""
    starts = _positions(length, side, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - side)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (side - steps >= int(overlap * side)).all()
    fewer = len(starts) - 1
    if fewer >= 1:
        assert side + (fewer - 1) * (side - overlap * side) < length


def test_tiles_of_few_pixels_are_distinct():
    """The step is at least one pixel, whatever the overlap."""
    starts = _positions(12, 2, 0.9)
    assert starts == sorted(set(starts))


@given(st.integers(1, 12), st.integers(1, 12), OVERLAPS, st.integers(0, 5))
def test_cut_equals_shrinking_each_tile_alone(rows, columns, overlap, seed):
    """For factor 2 and even sizes, the cut gives the same bytes as shrinking each box of the frame."""
    image = picture(64 + 6 * rows, 64 + 10 * columns, seed)
    grid = lay(image.shape, tile_px=64, input_px=32, overlap=overlap)
    tiles = grid.cut(image)
    for tile, (x, y, w, h) in zip(tiles, grid.boxes.tolist(), strict=True):
        assert (w, h) == (64, 64)
        alone = cv2.resize(image[y : y + h, x : x + w], (32, 32), interpolation=cv2.INTER_AREA)
        assert np.array_equal(tile, alone)


@pytest.mark.parametrize(("tile_px", "input_px"), [(150, 100), (200, 96), (77, 50), (100, 100), (60, 100)])
def test_cut_shows_the_pixels_of_the_box(tile_px, input_px):
    """For fractional ratios and for enlarging, cut and box show the same place within a pixel."""
    yy, xx = np.mgrid[0:401, 0:613]
    image = ((xx * 200) // 613 + (yy * 50) // 401).astype(np.uint8)
    grid = lay(image.shape, tile_px=tile_px, input_px=input_px, overlap=0.1)
    for tile, (x, y, w, h) in zip(grid.cut(image), grid.boxes.tolist(), strict=True):
        assert abs(float(tile.mean()) - float(image[y : y + h, x : x + w].mean())) < 1.0


def test_cut_without_scaling_copies_pixels():
    """If tile and input have one size, the tiles are copies of the frame's pixels."""
    image = picture(100, 150)
    tiles = lay(image.shape, tile_px=50, input_px=50).cut(image)
    kept = tiles.copy()
    assert np.array_equal(tiles[0], image[:50, :50])
    image[:] = 0
    assert np.array_equal(tiles, kept)


def test_cut_fills_a_given_array():
    """It fills a larger array from its start, and returns the filled part."""
    image = picture(100, 150)
    grid = lay(image.shape, tile_px=50, input_px=25)
    batch = np.full((20, 25, 25), 7, np.uint8)
    tiles = grid.cut(image, batch)
    assert len(tiles) == len(grid) == 6
    assert tiles.base is batch
    assert (batch[6:] == 7).all()
    assert np.array_equal(tiles, grid.cut(image))


def test_cut_of_another_frame_size_is_refused():
    """A grid accepts only gray frames of its own size."""
    grid = lay((100, 150), tile_px=50, input_px=25)
    for shape in ((150, 100), (99, 150), (100, 150, 3)):
        with pytest.raises(ImageError):
            grid.cut(np.zeros(shape, np.uint8))


def test_narrow_frame_is_mirrored_to_the_size_of_a_tile():
    """A frame of at least half a tile is inspected; its box is the frame without the mirrored part."""
    image = picture(32, 200)
    grid = lay(image.shape, tile_px=50, input_px=50)
    tiles = grid.cut(image)
    assert (grid.boxes[:, 3] == 32).all()
    assert np.array_equal(tiles[0][32:], image[31:13:-1, :50])


@pytest.mark.parametrize("shape", [(24, 200), (200, 24), (1, 1), (0, 50), (50, 0)])
def test_frame_below_half_a_tile_is_refused(shape):
    """Too little surface raises an error."""
    with pytest.raises(ImageError):
        lay(shape, tile_px=50, input_px=50)


@pytest.mark.parametrize(
    ("roi", "window"),
    [
        (None, (0, 0, 300, 200)),
        ((10, 20, 100, 50), (10, 20, 100, 50)),
        ((200, 100, 500, 500), (200, 100, 100, 100)),
        (((10, 20), (110, 20), (110, 120), (10, 120)), (10, 20, 100, 100)),
        (((250, 150), (900, 150), (900, 900), (250, 900)), (250, 150, 50, 50)),
    ],
)
def test_region_is_clipped_to_the_frame(roi, window):
    """A region that is partly outside is inspected inside the frame."""
    grid = lay((200, 300), tile_px=50, input_px=25, roi=roi)
    assert grid.window == window
    x, y, w, h = window
    inside = covered(grid)
    assert inside[y : y + h, x : x + w].all()
    assert inside.sum() == w * h


@pytest.mark.parametrize("roi", [(300, 0, 10, 10), (0, 200, 10, 10), ((400, 400), (500, 400), (450, 500))])
def test_region_outside_the_frame_is_refused(roi):
    """The error gives the size of the frame."""
    with pytest.raises(ImageError, match="300x200"):
        lay((200, 300), tile_px=50, input_px=25, roi=roi)


@pytest.mark.parametrize("tile_px", [40, 41, 200])
def test_polygon_leaves_out_tiles_that_are_mostly_outside(tile_px):
    """A triangle keeps the tiles of its half, with their cells in the full grid."""
    size = tile_px * 10
    full = lay((size, size), tile_px=tile_px, input_px=40)
    half = lay((size, size), tile_px=tile_px, input_px=40, roi=((0, 0), (size, 0), (0, size)))
    kept = {tuple(cell) for cell in half.cells.tolist()}
    assert kept <= {tuple(cell) for cell in full.cells.tolist()}
    assert all(row + column <= 9 for row, column in kept)
    assert {(r, c) for r in range(10) for c in range(10) if r + c < 9} <= kept


def test_polygon_without_a_tile_is_refused():
    """A thin slanting sliver covers no tile by half."""
    with pytest.raises(ImageError, match="no tile"):
        lay((1000, 1000), tile_px=100, input_px=50, roi=((0, 0), (1000, 990), (1000, 1000)))


@given(
    st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)), min_size=3, max_size=8).map(tuple),
    st.integers(50, 1500),
)
@settings(max_examples=40)
def test_any_polygon_gives_a_grid_or_an_image_error(polygon, size):
    """A polygon may cross itself, have no area or lie far outside: no other error is raised."""
    grid = try_lay((size, size), tile_px=50, input_px=50, roi=polygon)
    assert grid is None or len(grid) >= 1


def test_cells_are_rows_and_columns():
    """Neighbouring tiles have neighbouring cells."""
    grid = lay((100, 150), tile_px=50, input_px=25)
    assert grid.cells.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid.boxes[4].tolist() == [50, 50, 50, 50]


@pytest.mark.parametrize("options", [{"tile_px": 16, "overlap": 0.9}, {"tile_px": 16, "overlap": 0.0}])
def test_too_many_tiles_are_refused(options):
    """A mistake in the configuration neither fills the memory nor takes minutes."""
    started = time.process_time()
    with pytest.raises(ImageError, match=str(MAX_TILES)):
        lay((8192, 32_768), input_px=100, **options)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("roi", [None, ((0, 0), (8191, 0), (8191, 8191), (0, 8000))])
def test_laying_a_large_frame_is_quick(roi):
    """The grid of a 67-megapixel frame takes less than 2 s, even with a polygon."""
    started = time.process_time()
    grid = lay((8192, 8192), tile_px=100, input_px=100, overlap=0.1, roi=roi)
    assert len(grid) > 8000
    assert time.process_time() - started < 2


def test_shrink_averages_areas():
    """Integer factors give exact means, rounded; enlarging is allowed."""
    image = np.array([[0, 4, 10, 10], [0, 4, 10, 10]], np.uint8)
    assert shrink(image, 2, 1).tolist() == [[2, 10]]
    assert shrink(image, 4, 2) is image
    assert shrink(image, 8, 4).shape == (4, 8)
