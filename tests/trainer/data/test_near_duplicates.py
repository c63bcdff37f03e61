"""Near duplicates are found by their pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from surfaces import texture

from trainer.data.near_duplicates import groups, signature


def duplicate(picture, kind):
    """The same picture, changed as happens in practice."""
    changed = {
        "copy": picture,
        "rotated": np.ascontiguousarray(np.rot90(picture)),
        "mirrored": np.ascontiguousarray(picture[:, ::-1]),
        "darker": (picture * 0.7).astype(np.uint8),
        "smaller": cv2.resize(picture, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA),
    }
    if kind == "compressed":
        return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    return changed[kind]


@pytest.mark.parametrize("kind", ["copy", "rotated", "mirrored", "darker", "smaller", "compressed"])
def test_a_changed_copy_is_found(kind):
    """A copy that was rotated, mirrored, dimmed, scaled or compressed has the same group, whatever its label."""
    pictures = [texture(n, 200) for n in range(6)]
    signatures = [signature(p) for p in (*pictures, duplicate(pictures[2], kind))]
    assert groups(signatures, [0, 0, 0, 0, 0, 0, 1]) == [0, 1, 2, 3, 4, 5, 2]


def test_shifted_views_of_one_place_are_found():
    """Three crops along one surface are one group, although the first and the last do not overlap."""
    place = texture(3, 500)
    views = [place[:200, x : x + 200] for x in (0, 100, 200)]
    signatures = [signature(p) for p in (*views, texture(4, 200))]
    assert groups(signatures, [0] * 4) == [0, 0, 0, 3]


def test_parallel_scratches_are_not_near_duplicates():
    """Two pictures that share only the direction and width of a bright line are different."""
    pictures = []
    for seed in (1, 2):
        picture = texture(seed, 200) // 2
        picture[:, 80 + 20 * seed : 88 + 20 * seed] = 250
        pictures.append(picture)
    assert groups([signature(p) for p in pictures], [0, 0]) == [0, 1]
