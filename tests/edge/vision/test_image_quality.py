"""Checks of image quality: one picture alone, and one camera over time."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge import config
from edge.camera.sources.simulator import Strip
from edge.host.clock import NS_PER_S
from edge.vision.image_quality import (
    ENTER_FRAMES,
    LEARN_FRAMES,
    LEAVE_FRAMES,
    Episodes,
    ImageCheck,
    QualityMonitor,
    fault,
)


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
def test_fault_of_typical_pictures(image, found):
    """A covered lens, overexposure and a dead sensor have names; a dim or smooth surface is no fault."""
    assert fault(image) == found


def test_fault_accepts_a_part_of_a_frame():
    """A view, such as the region of interest, is checked like any picture."""
    frame = np.zeros((200, 300), np.uint8)
    frame[50:100, 60:200] = surface(120, shape=(50, 140))
    assert fault(frame[50:100, 60:200]) is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_uniform_picture_is_always_a_fault(height, width, value):
    """A picture of one gray value, of any size, comes from no working sensor."""
    assert fault(np.full((height, width), value, np.uint8)) is not None


# ---- one camera over time ------------------------------------------------------------------------

GOOD = 40
"""Frames until a camera's own picture is known."""
STRIP = Strip(width=512, height=256)
EDGES = np.interp(np.arange(512), [0, 58, 62, 398, 402, 511], [25, 25, 150, 150, 60, 60])


def moving(n):
    """Steel that moves past, with sensor noise."""
    return STRIP.frame(n)


def between_edges(n, moved_px=0):
    """A strip whose edges are in view at a fixed place."""
    picture = np.roll(EDGES, moved_px)[None, :] + np.random.default_rng(n).normal(0, 4, (256, 512))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


class Scene:
    """A monitor and its frames, 30 per second."""

    def __init__(self, *, frozen=True, fps=30.0, **settings):
        self.watch = QualityMonitor(config.ImageQuality(**settings), frozen=frozen)
        self.step_ns = int(NS_PER_S / fps)
        self.now_ns = 0
        self.shown = 0
        self.faults = []
        self.reported = []

    def show(self, picture, frames, change=lambda image: image):
        """Check frames of a source, each changed.  Returns the fault of each."""
        found = []
        for _ in range(frames):
            check = self.watch.step(change(picture(self.shown)), self.now_ns)
            self.shown += 1
            self.now_ns += self.step_ns
            found.append(check.fault)
            if check.started:
                self.reported.append(("began", check.started))
            if check.ended:
                self.reported.append(("ended", check.ended))
        self.faults += found
        return found


def copied_rows(image):
    half = len(image) // 2
    return np.vstack([image[:half], np.repeat(image[half : half + 1], len(image) - half, axis=0)])


def gray_blocks(image):
    changed = image.copy()
    changed[64:160, 100:300] = 128
    return changed


def other_half(image):
    half = len(image) // 2
    return np.vstack([image[:half], np.clip(image[half:].astype(int) + 60, 0, 255).astype(np.uint8)])


FAULTS = {
    "dark": np.zeros_like,
    "saturated": lambda image: np.full_like(image, 255),
    "blank": lambda image: np.full_like(image, 90),
    "torn": other_half,
    "corrupted": copied_rows,
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 2.5),
}


@pytest.mark.parametrize("reason", sorted(FAULTS))
def test_fault_is_named_within_three_seconds_and_cleared(reason):
    """A fault has one episode with its name; the first good frames end it."""
    scene = Scene()
    assert set(scene.show(moving, GOOD)) == {None}
    found = scene.show(moving, 90, FAULTS[reason])
    assert found[-1] == reason
    assert set(found) <= {None, reason}
    assert scene.show(moving, LEAVE_FRAMES)[-1] is None
    assert scene.reported == [("began", reason), ("ended", reason)]
    assert set(scene.show(moving, 60)) == {None}


def test_gray_blocks_of_a_decoder_are_corrupted():
    """A part of the picture with exactly one gray, neither black nor white, comes from no sensor."""
    scene = Scene()
    scene.show(moving, GOOD)
    assert scene.show(moving, 5, gray_blocks) == ["corrupted"] * 5


def test_repeated_picture_is_frozen():
    """Equal pictures for long enough are frozen; the next different ones are good."""
    scene = Scene(min_fault_s=1.0)
    scene.show(moving, GOOD)
    still = moving(7)
    found = scene.show(lambda _n: still, 60)
    assert (found[29], found[-1]) == (None, "frozen")
    assert scene.show(moving, LEAVE_FRAMES)[-1] is None
    assert scene.reported == [("began", "frozen"), ("ended", "frozen")]


def test_frozen_takes_both_time_and_frames():
    """At one frame per second a few equal pictures are no proof; at 1,000 per second a thousand are none."""
    still = moving(7)
    assert set(Scene(fps=1.0).show(lambda _n: still, 7)) == {None}
    assert set(Scene(fps=1000.0).show(lambda _n: still, 1000)) == {None}


def test_recording_may_repeat_a_picture():
    """A file may contain the same picture twice."""
    still = moving(7)
    assert set(Scene(frozen=False).show(lambda _n: still, 200)) == {None}


def test_configured_frozen_overrides_the_kind_of_source():
    """`frozen: true` checks a recording too, `false` does not check a camera."""
    still = moving(7)
    watched, left = (QualityMonitor(config.ImageQuality(frozen=flag), frozen=not flag) for flag in (True, False))
    checks = [(watched.step(still, n * NS_PER_S // 10), left.step(still, n * NS_PER_S // 10)) for n in range(60)]
    assert checks[-1][0].fault == "frozen"
    assert checks[-1][1].fault is None


def test_knocked_camera_is_shifted():
    """The fixed structure has moved by more than a tenth of the width; weaving by a twentieth is no fault."""
    scene = Scene()
    scene.show(between_edges, 60)
    assert set(scene.show(lambda n: between_edges(n, 20), 90)) == {None}
    scene = Scene()
    scene.show(between_edges, 60)
    assert scene.show(lambda n: between_edges(n, 90), 90)[-1] == "shifted"
    assert scene.reported == [("began", "shifted")]
    assert scene.show(between_edges, 30)[-1] is None


def test_smoother_coil_is_not_blurred():
    """Steel with less texture has less change from pixel to pixel, but its texture is sharp."""
    scene = Scene()
    scene.show(moving, GOOD)

    def even(n):
        return np.clip(128 + np.random.default_rng(n).normal(0, 1.0, (256, 512)), 0, 255).astype(np.uint8)

    smooth = scene.show(even, 90)
    assert set(smooth) == {None}


def test_damage_from_the_first_frame_on_is_no_fault():
    """A hard line or copied rows in every frame are part of the camera's own picture."""
    for damage in (other_half, copied_rows, gray_blocks):
        assert set(Scene().show(moving, 120, damage)) == {None}


def test_new_frame_size_is_no_fault():
    """After a change of size the own picture is learned again; nothing is compared across sizes."""
    scene = Scene()
    scene.show(moving, GOOD)
    other = Strip(width=300, height=128)
    assert set(scene.show(other.frame, LEARN_FRAMES + 30)) == {None}


def test_disabled_checks_find_nothing():
    """`enabled: false` passes every frame; single checks can be off on their own."""
    assert set(Scene(enabled=False).show(moving, 10, FAULTS["dark"])) == {None}
    scene = Scene(damage=False, focus=0.0)
    scene.show(moving, GOOD)
    assert set(scene.show(moving, 90, copied_rows)) == {None}
    assert set(scene.show(moving, 90, FAULTS["blurred"])) == {None}


def test_single_bad_frame_starts_no_episode():
    """A torn frame now and then is bad, without an episode."""
    scene = Scene()
    scene.show(moving, GOOD)
    for _ in range(5):
        assert scene.show(moving, 1, other_half) == ["torn"]
        assert scene.show(moving, 3) == [None] * 3
    assert scene.reported == []


def test_dark_picture_that_gets_a_little_brighter_stays_dark():
    """A fault starts and ends at different limits, so that light at the limit gives no storm of events."""
    scene = Scene()
    rng = np.random.default_rng(5)
    levels = [rng.normal(mean, 2, (64, 64)).clip(0, 255).astype(np.uint8) for mean in (5, 6.8)]
    scene.show(lambda n: levels[n % 2], 100)
    assert scene.reported == [("began", "dark")]


def test_limits_in_the_wrong_order_are_refused():
    """A picture cannot be too dark and too bright at once."""
    with pytest.raises(ValidationError, match="not below bright"):
        config.ImageQuality(dark=200, bright=100)


@given(st.lists(st.sampled_from([None, "dark", "torn"]), max_size=60))
def test_episodes_start_and_end_in_turn_and_hide_no_bad_frame(found):
    """A bad frame always has a fault; an episode ends before it starts again, and with a good frame."""
    episodes, lasting = Episodes(), None
    for reason in found:
        check = episodes.step(reason)
        assert check.fault is not None or reason is None
        if check.started:
            assert check.started != lasting
            lasting = check.started
        if check.ended:
            assert (check.ended, check.fault) == (lasting, None)
            lasting = None
        assert (lasting is None) or check.fault is not None
        assert episodes.reason == lasting


def test_episodes_change_their_reason_without_an_end_in_between():
    """Dark after frozen starts a new episode; the picture was never restored."""
    episodes = Episodes()
    checks = [episodes.step(reason) for reason in ["frozen"] * ENTER_FRAMES + ["dark"] * ENTER_FRAMES]
    assert [check.started for check in checks if check.started] == ["frozen", "dark"]
    assert checks[-1] == ImageCheck("dark", started="dark")
