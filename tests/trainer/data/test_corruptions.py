"""Each corruption has the effect that its name promises, and is reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from edge.camera.sources.simulator import Strip
from trainer.data.corruptions import FURTHER, FURTHER_NAMES, STANDARD, SUITE, contrast_of, further, group_of

BY_NAME = {corruption.name: corruption for corruption in (*SUITE, *further(20.0, 100))}


@pytest.fixture(scope="module")
def picture():
    return np.ascontiguousarray(Strip(width=400, height=320, seed=3).frame(50)[:200, :200])


def flat(value):
    return np.full((200, 200), value, np.uint8)


def point():
    """A bright dot on black."""
    image = np.zeros((201, 201), np.uint8)
    image[100, 100] = 250
    return image


@pytest.mark.parametrize("name", BY_NAME)
def test_corruption_is_the_same_for_the_same_picture(name, picture):
    """Only key and seed decide; the result has the same size and type, differs, and leaves the original unchanged."""
    before = picture.copy()
    once, again = (BY_NAME[name](picture, "a", 0) for _ in range(2))
    assert (once.shape, once.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(once, again)
    assert not np.array_equal(once, picture)
    assert np.array_equal(picture, before)


def test_draws_differ_by_picture_seed_and_corruption():
    """Different pictures, seeds and corruptions have different noise."""
    ten, twenty = BY_NAME["noise sigma 10"], BY_NAME["noise sigma 20"]
    one = ten(flat(128), "a", 0).astype(float) - 128
    others = [ten(flat(128), "b", 0), ten(flat(128), "a", 1), twenty(flat(128), "a", 0)]
    assert all(abs(np.corrcoef(one.ravel(), o.ravel())[0, 1]) < 0.03 for o in others)


@pytest.mark.parametrize("sigma", [10, 20, 30])
def test_noise_has_its_sigma(sigma):
    """The noise has this standard deviation in gray levels and mean 0."""
    noisy = BY_NAME[f"noise sigma {sigma}"](flat(128), "a", 0)
    assert noisy.std() == pytest.approx(sigma, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.5)


def test_snr_counts_the_total_power():
    """20 dB below the power of 100 gray levels is noise of sigma 10."""
    assert BY_NAME["noise 20 dB SNR"](flat(100), "a", 0).std() == pytest.approx(10, rel=0.02)


def test_photometry_is_exact():
    """Brightness scales the values, contrast their distance from the mean; both saturate at white."""
    steps = np.repeat(np.array([[80, 120]], np.uint8), 2, 0)
    assert BY_NAME["brightness x0.6"](steps, "a", 0)[0].tolist() == [48, 72]
    assert BY_NAME["brightness x1.4"](steps, "a", 0)[0].tolist() == [112, 168]
    assert BY_NAME["contrast x0.6"](steps, "a", 0)[0].tolist() == [88, 112]
    assert BY_NAME["contrast x1.4"](steps, "a", 0)[0].tolist() == [72, 128]
    assert BY_NAME["brightness x1.4"](flat(250), "a", 0).max() == 255


def test_illumination_runs_from_60_to_140_percent_in_all_four_directions():
    """One side is dim, the other bright; the direction depends on the picture."""
    brightest = set()
    for key in range(20):
        lit = BY_NAME["illumination +-40 %"](flat(100), str(key), 0)
        assert (lit.min(), lit.max()) == (60, 140)
        brightest.add(tuple(np.argwhere(lit == 140).mean(0).round().astype(int)))
    assert len(brightest) == 4


@pytest.mark.parametrize("length_px", [5, 9])
def test_motion_blur_draws_a_point_into_a_line(length_px):
    """The line has the stated length, many directions, and the same total light."""
    directions = set()
    for key in range(20):
        drawn = BY_NAME[f"motion blur {length_px} px"](point(), str(key), 0)
        rows, columns = (int(np.ptp(where)) for where in np.nonzero(drawn > 5))
        assert length_px - 2 <= np.hypot(rows, columns) + 1 <= length_px + 2
        assert int(drawn.sum()) == pytest.approx(250, rel=0.1)
        directions.add((rows, columns))
    assert len(directions) >= 4


@pytest.mark.parametrize("sigma_px", [1, 2])
def test_defocus_has_its_sigma(sigma_px):
    """A step becomes a ramp whose slope matches the sigma."""
    step = flat(0)
    step[:, 100:] = 200
    slope = np.diff(BY_NAME[f"defocus sigma {sigma_px} px"](step, "a", 0)[100].astype(float)).max()
    assert slope == pytest.approx(200 / (sigma_px * np.sqrt(2 * np.pi)), rel=0.06)


def test_rotation_turns_by_a_right_angle(picture):
    """Four rotations restore the picture."""
    rotated = picture
    for _ in range(4):
        rotated = BY_NAME["rotation 90 degrees"](rotated, "a", 0)
    assert np.array_equal(rotated, picture)


def test_the_standard_group_stays_as_it_was_published():
    """Fifteen corruptions; every name of the second group is known, and no name is in both."""
    assert len(SUITE) == 15
    assert {group_of(one.name) for one in SUITE} == {STANDARD}
    assert {group_of(name) for name in FURTHER_NAMES} == {FURTHER}
    assert group_of("fog") == STANDARD


def test_noise_of_the_second_group_is_a_share_of_the_contrast():
    """A set with a third of the contrast gets a third of the noise."""
    for contrast in (21.0, 7.0):
        noisy = {one.name: one for one in further(contrast, 100)}["noise x0.5 contrast"](flat(128), "a", 0)
        assert noisy.std() == pytest.approx(contrast / 2, rel=0.02)


def test_blur_of_the_second_group_is_measured_at_the_networks_input():
    """Half a pixel of an input of 50 px is two pixels of a tile of 200 px, and one of 100 px."""
    step = flat(0)
    step[:, 100:] = 200
    for image, sigma_px in ((step, 2), (step[:100, 50:150], 1)):
        blurred = {one.name: one for one in further(20.0, 50)}["defocus sigma 0.5 input px"](image, "a", 0)
        slope = np.diff(blurred[50].astype(float)).max()
        assert slope == pytest.approx(200 / (sigma_px * np.sqrt(2 * np.pi)), rel=0.06)
    drawn = {one.name: one for one in further(20.0, 50)}["motion blur 2.5 input px"](point(), "a", 0)
    assert np.hypot(*(np.ptp(where) for where in np.nonzero(drawn > 2))) + 1 == pytest.approx(10, abs=2)


def test_polarity_and_gamma_are_exact():
    """Inverting twice restores the picture; gamma keeps black and white."""
    steps = np.array([[0, 64, 255]], np.uint8)
    assert BY_NAME["inverted gray"](steps, "a", 0).tolist() == [[255, 191, 0]]
    assert BY_NAME["gamma 0.5"](steps, "a", 0).tolist() == [[0, 128, 255]]
    assert BY_NAME["gamma 2.0"](steps, "a", 0).tolist() == [[0, 16, 255]]


def test_contrast_is_the_median_of_the_pictures():
    """Of standard deviations; pictures without contrast and no pictures give no zero."""
    pictures = [np.array([[100 - d, 100 + d]], np.uint8) for d in (4, 8, 90)]
    assert contrast_of(pictures) == 8.0
    assert contrast_of([flat(3)]) == contrast_of([]) == 1.0
