"""Pictures that show no surface."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vision.health import ailment


def surface(mean, spread=20.0, shape=(120, 160)):
    values = np.random.default_rng(3).normal(mean, spread, shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (surface(120), None),
        (surface(20, 5), None),
        (surface(240, 5), None),
        (surface(120, 1.5), None),
        (np.zeros((120, 160), np.uint8), "dark"),
        (surface(2, 2), "dark"),
        (np.full((120, 160), 255, np.uint8), "saturated"),
        (surface(254, 2), "saturated"),
        (np.full((120, 160), 128, np.uint8), "blank"),
        (np.full((1, 1), 128, np.uint8), "blank"),
    ],
)
def test_ailment_of_typical_pictures(image, found):
    """Covered lens, overexposure and a dead sensor are told by name; a dim or flat surface is still judged."""
    assert ailment(image) == found


def test_ailment_looks_at_a_view_without_copying_needs():
    """A part of a frame, as the region of interest is, is looked at like any picture."""
    frame = np.zeros((200, 300), np.uint8)
    frame[50:100, 60:200] = surface(120, shape=(50, 140))
    assert ailment(frame[50:100, 60:200]) is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_even_picture_is_never_fit(height, width, value):
    """A picture of one value, of any size, comes from no working sensor."""
    assert ailment(np.full((height, width), value, np.uint8)) is not None
