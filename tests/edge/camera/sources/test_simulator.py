"""The generated strip: the ground truth that other tests rely on."""

from __future__ import annotations

import numpy as np
import pytest

from edge.camera.sources.contract import SourceInfo, SourceSpec
from edge.camera.sources.registry import open_source
from edge.camera.sources.simulator import CACHED_DEFECTS, CLASSES, CLEAR_PX, LONGEST_PX, PERIOD_PX, Strip
from edge.errors import CameraError


def whole_defects(strip, frames):
    """Each defect once, from a frame that shows all of it: (defect, box in the frame, n)."""
    found = {}
    for n in frames:
        for defect, box in strip.truth(n):
            if box[3] == defect.box[3]:
                found.setdefault(defect.track, (defect, box, n))
    return list(found.values())


def test_frame_is_gray_and_of_the_size_asked_for():
    """A frame is (height, width) uint8 and C-contiguous."""
    frame = Strip(width=640, height=256).frame(3)
    assert frame.shape == (256, 640)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous


def test_frame_depends_only_on_parameters_and_number():
    """Drawn in any order, by any strip with the same parameters, frame n has the same bytes."""
    forwards, backwards = Strip(seed=4), Strip(seed=4)
    numbers = [0, 1, 60, 61, 200, 5000, 100_000]
    first = {n: forwards.frame(n).tobytes() for n in numbers}
    assert first == {n: backwards.frame(n).tobytes() for n in reversed(numbers)}


def test_frame_differs_with_seed():
    """Another seed is another strip."""
    assert not np.array_equal(Strip(seed=1).frame(7), Strip(seed=2).frame(7))


def test_frame_is_the_callers_own():
    """Writing into a frame does not change a later one."""
    strip = Strip()
    frame = strip.frame(50)
    kept = frame.copy()
    frame[:] = 0
    assert np.array_equal(strip.frame(50), kept)


def test_surface_moves_by_speed_px():
    """The steel at row y is speed_px higher in the next frame; the light stays in its place."""
    strip = Strip(noise=0, speed_px=24, spacing_px=5000)
    now, then = strip.frame(10).astype(int), strip.frame(11).astype(int)
    moved = now[24:] - then[:-24]
    still = now - then
    assert moved.std() < 1.5
    assert still.std() > 2 * moved.std()


def test_surface_has_no_seam_where_it_repeats():
    """Rows on both sides of the wrap differ no more than neighbours elsewhere."""
    strip = Strip(noise=0, speed_px=1, height=300, spacing_px=100_000)
    frame = strip.frame(PERIOD_PX - 150).astype(float)
    steps = np.abs(np.diff(frame, axis=0)).mean(axis=1)
    assert steps[149] < steps.mean() + 4 * steps.std()


def test_sensor_noise_is_new_in_each_frame():
    """Frames of a strip at rest differ by noise of the configured sigma."""
    strip = Strip(speed_px=0, noise=3.0)
    difference = strip.frame(0).astype(float) - strip.frame(1)
    assert difference.std() == pytest.approx(3.0 * 2**0.5, rel=0.1)


def test_truth_boxes_differ_from_the_steel_around_them():
    """Inside a box is a defect; the same place without it looks different."""
    strip = Strip(noise=0)
    for defect, (x, y, w, h), n in whole_defects(strip, range(0, 900, 4)):
        frame = strip.frame(n).astype(float)
        inside = frame[y : y + h, x : x + w]
        rows = frame[y : y + h]
        outside = np.concatenate([rows[:, : max(0, x - 2)], rows[:, x + w + 2 :]], axis=1)
        far = np.abs(inside - np.median(outside)) > 25
        assert far.mean() > 0.01, defect
        assert (np.abs(outside - np.median(outside)) > 25).mean() < 0.01 * far.mean() + 0.005, defect


def test_truth_boxes_are_tight():
    """Each border row and column of a box shows the defect somewhere: the box is no larger than the defect."""
    strip, clean = Strip(noise=0), Strip(noise=0, spacing_px=1_000_000)
    for defect, (x, y, w, h), n in whole_defects(strip, range(0, 900, 4)):
        changed = strip.frame(n) != clean.frame(n)
        assert changed[y : y + h, x : x + w].sum() == changed.sum(), defect
        for border in (changed[y, x : x + w], changed[y + h - 1, x : x + w]):
            assert border.any(), defect


def test_truth_moves_with_the_strip_and_is_clipped_to_the_frame():
    """A defect keeps its place on the strip; its box in the frame rises by speed_px and never leaves the frame."""
    strip = Strip()
    seen = {}
    for n in range(200):
        for defect, (x, y, w, h) in strip.truth(n):
            assert 0 <= x < x + w <= strip.width
            assert 0 <= y < y + h <= strip.height
            assert (x, w) == (defect.box[0], defect.box[2])
            if h == defect.box[3]:
                assert y == defect.box[1] - n * strip.speed_px
            assert seen.setdefault(defect.track, defect) == defect
    assert len(seen) >= 4


def test_defects_keep_their_distance_and_size():
    """Clean steel of CLEAR_PX lies between any two, none exceeds LONGEST_PX, the mean distance is spacing_px."""
    for spacing in (480, 900, 3000):
        strip = Strip(spacing_px=spacing, speed_px=200)
        defects = [d for d, _, _ in whole_defects(strip, range(60 * spacing // 200))]
        starts = np.array([d.box[1] for d in defects])
        ends = starts + [d.box[3] for d in defects]
        assert (starts[1:] - ends[:-1] >= CLEAR_PX).all()
        assert max(max(d.box[2:]) for d in defects) <= LONGEST_PX
        assert np.diff(starts).mean() == pytest.approx(spacing, rel=0.05)


def test_all_classes_turn_up_within_seven_defects():
    """Every class is there after one round of defects, for any seed."""
    for seed in range(5):
        found = whole_defects(Strip(seed=seed), range(0, 280, 2))
        assert {d.class_name for d, _, _ in found[:6]} == set(CLASSES)


def test_start_is_clean():
    """The first frames show only defect-free steel."""
    strip = Strip()
    assert all(strip.truth(n) == () for n in range((strip.spacing_px - strip.height) // strip.speed_px))


def test_defect_cache_is_bounded():
    """However long the strip runs, the number of drawn defects in memory is bounded."""
    strip = Strip(spacing_px=480, speed_px=300)
    for n in range(200):
        strip.frame(n)
    assert len(strip._drawn) <= CACHED_DEFECTS


def test_url_gives_the_parameters():
    """`strip:` alone is the default; a query sets what it names."""
    assert Strip.from_url("strip:").width == 800
    strip = Strip.from_url("strip:?width=1600&height=256&seed=7&speed_px=32&noise=0.5&classes=scratches,patches")
    assert (strip.width, strip.height, strip.seed, strip.speed_px, strip.noise) == (1600, 256, 7, 32, 0.5)
    assert {d.class_name for d, _, _ in whole_defects(strip, range(200))} == {"scratches", "patches"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("strip:?wdth=3", "wdth: 3: a strip has only width, height"),
        ("strip:?width=wide", "width: wide: a whole number"),
        ("strip:?width=10", "width: 10: 256 to 8192"),
        ("strip:?noise=nan", "noise: nan: 0 to 32"),
        ("strip:?seed=-1", "seed: -1: 0 to"),
        ("strip:?seed=1&seed=2", "seed: 2: set once"),
        ("strip:?spacing_px=100", "spacing_px: 100: 480 to"),
        ("strip:?classes=rust", "classes: rust: some of crazing"),
        ("strip:?height=", "height: : a whole number"),
        ("strip://host", "source: 'strip://host': should be strip: or strip:?"),
        ("strip:5", "source: 'strip:5': should be strip: or strip:?"),
    ],
)
def test_url_errors_name_key_value_and_what_is_allowed(url, message):
    """The message for a wrong source holds the value and the allowed ones."""
    with pytest.raises(CameraError) as refused:
        Strip.from_url(url)
    assert message in str(refused.value)


def test_source_of_the_same_url_gives_the_same_frames():
    """Two sources start alike and go on alike; the actual format is that of the strip."""
    first, again = (open_source(SourceSpec("strip:?width=320&height=80&seed=4")) for _ in range(2))
    assert np.array_equal(first.read().pixels, again.read().pixels)
    assert np.array_equal(first.read().pixels, again.read().pixels)
    assert first.actual == SourceInfo("strip", 320, 80, 30.0, "GREY")
    with pytest.raises(CameraError, match="only"):
        open_source(SourceSpec("strip:?colour=1"))


def test_cameras_of_one_strip_see_the_same_where_they_overlap():
    """One seed and one strip_px: the same defects and steel, each with its own light and noise."""
    keys = {"width": 400, "height": 200, "seed": 3, "strip_px": 600, "noise": 0.0, "mark_px": 700.0, "mark_x_px": 260}
    left, right = Strip(**keys), Strip(**keys, x_px=200)
    assert left.defects(0, 20_000) == right.defects(0, 20_000)
    frames = [(left.view(top, 0)[:, 200:], right.view(top, 0)[:, :200]) for top in (0, 1400)]
    clean, marked = (a.astype(int) - b for a, b in frames)
    assert np.abs(clean - marked).max() <= 2, "only the light differs, and it stands still"
    shown = [defect.track for defect, _ in right.truth(0)], [defect.track for defect, _ in left.truth(58)]
    assert shown[0] == []
    assert -2 in shown[1], "the roll's second turn"


def test_roll_marks_at_its_period_with_jitter_and_misses():
    """The same shape each time; every missing turn leaves no mark, and the others keep their places."""
    strip = Strip(seed=5, mark_px=800.0, mark_x_px=100, mark_class="patches", mark_jitter_px=3.0, mark_missing=0.3)
    marks = [defect for defect in strip.defects(0, 80_000) if defect.track < 0]
    off = [mark.box[1] + mark.track * 800 for mark in marks]
    assert 55 <= len(marks) <= 85
    assert 2.0 < np.std(off) < 4.0
    assert len({(mark.class_name, mark.box[0], *mark.box[2:]) for mark in marks}) == 1
    pixels = strip.view(marks[0].box[1] - 20, 0)
    x, _, w, h = marks[0].box
    assert np.abs(pixels[20 : 20 + h, x : x + w].astype(int) - np.median(pixels)).mean() > 15
