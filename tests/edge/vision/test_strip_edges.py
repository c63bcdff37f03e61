"""The region that follows a wandering strip: on generated frames, and on real ones."""

import sys
import time

import cv2
import numpy as np
import pytest
from fakes.clock import FakeClock
from node import SEVERSTAL, needs_data
from pydantic import SecretStr

from edge import config
from edge.camera.sources.simulator import Strip
from edge.config.camera_calibration import CameraCalibration, Track
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision import strip_edges
from edge.vision.inspector import Inspector
from edge.vision.strip_edges import HOLD_FRAMES, NEW_FRAMES, StripFollower, locate

STEEL = [Strip(width=1600, height=256).frame(n).astype(np.float32) for n in range(3)]
NOISE = np.random.default_rng(0).normal(0, 2, (256, 1600)).astype(np.float32)
TRACK = Track(seen_px={"left": (120.0, 200.0), "right": (1400.0, 1480.0)}, margin_px=4)
FIXED = (212, 0, 1176, 256)


def frame(number=0, left=150.0, right=1430.0, dark=8):
    """1600x256: steel between two vertical, soft edges, with sensor noise."""
    columns = np.arange(1600, dtype=np.float32)
    inside = np.clip(columns - left + 0.5, 0, 1) * np.clip(right - columns + 0.5, 0, 1)
    soft = cv2.GaussianBlur(inside[None, :], (0, 0), 1.5)
    picture = STEEL[number % 3] * soft + dark * (1 - soft) + np.roll(NOISE, 7 * number, axis=1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def wandering(number):
    """Back and forth by 35 px, at most 2 px per frame."""
    off = 35 * np.sin(number / 17.5)
    return 160 + off, 1440 + off


def test_region_follows_the_strip():
    """Each edge is found within 2 px; the region starts inside it, by at most the margin and two steps."""
    follower = StripFollower(TRACK, FIXED)
    regions = set()
    for number in range(110):
        left, right = wandering(number)
        x, y, w, h = follower.step(frame(number, left, right))
        if number < NEW_FRAMES:
            continue
        assert follower.edges["left"].at_px == pytest.approx(left, abs=2)
        assert follower.edges["right"].at_px == pytest.approx(right, abs=2)
        assert 2 <= x - left <= 14
        assert 2 <= right - (x + w) <= 14
        assert (y, h) == (0, 256)
        regions.add((x, w))
    assert 5 < len(regions) < 60


def test_region_is_fixed_while_the_edge_trembles():
    """The noise of an edge does not lay new tiles."""
    follower = StripFollower(TRACK, FIXED)
    regions = [follower.step(frame(n, 150 + (n % 3) * 0.7, 1430)) for n in range(30)]
    assert len(set(regions[NEW_FRAMES:])) <= 2


def test_lost_edge_holds_for_a_while_before_the_fixed_region():
    """First its last place holds, then the region of calibration; the state tells which; the edge is found again."""
    follower = StripFollower(TRACK, FIXED)
    for n in range(5):
        x, _, w, _ = follower.step(frame(n))
    everywhere = frame(left=-10, right=1430)  # the strip fills the left side
    for _ in range(HOLD_FRAMES):
        assert follower.step(everywhere)[0] == x
        assert follower.edges["left"].state == "held"
    assert follower.step(everywhere)[0] == FIXED[0]
    assert (follower.edges["left"].state, follower.edges["left"].lost_frames) == (
        "lost",
        NEW_FRAMES,
    )  # two of them before its first sighting
    assert follower.edges["right"].state == "seen"
    assert follower.step(everywhere)[0] + follower.step(everywhere)[2] > 1400
    for _ in range(NEW_FRAMES):
        region = follower.step(frame())
    assert region == (x, 0, w, 256)
    assert follower.edges["left"].state == "seen"


def test_single_frame_does_not_move_an_edge_far():
    """A place far from the last one is accepted after three frames."""
    follower = StripFollower(TRACK, FIXED)
    for n in range(5):
        before = follower.step(frame(n))
    assert follower.step(frame(left=205)) == before
    assert follower.step(frame()) == before
    for _ in range(1 + NEW_FRAMES):  # the first is not found near the last place
        after = follower.step(frame(left=205))
    assert 207 <= after[0] <= 219


@pytest.mark.parametrize(
    "picture", [np.full((256, 1600), 3, np.uint8), np.full((256, 1600), 200, np.uint8), frame(0, -9, 1700)]
)
def test_frames_without_an_edge_show_none(picture):
    """Darkness, a white wall, and steel from side to side have no edge."""
    everywhere = {"left": (0, 1600), "right": (0, 1600), "top": (0, 256), "bottom": (0, 256)}
    assert set(locate(picture, everywhere, 150.0).values()) == {None}


def test_edges_at_top_and_bottom_are_followed():
    """A strip that runs sideways has its edges there."""
    turned = np.ascontiguousarray(frame(2, 150, 1430).T)
    follower = StripFollower(
        Track(seen_px={"top": (140, 160), "bottom": (1420, 1440)}, margin_px=0), (0, 170, 256, 1240)
    )
    for _ in range(NEW_FRAMES):
        x, y, w, h = follower.step(turned)
    assert (x, w) == (0, 256)
    assert follower.edges["top"].at_px == pytest.approx(150, abs=2)
    assert 150 <= y <= 160
    assert 1420 <= y + h <= 1430


def test_real_edges_are_followed_within_8_px_and_no_others_found():
    """On every Severstal frame, in the whole width and around the edge only."""
    folder = needs_data("normal-steel/severstal")
    for path in sorted(folder.glob("frames*/*.jpg")):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        height, width = picture.shape
        level = strip_edges._brightness_of_strip(picture)
        whole = {"left": (0, width), "right": (0, width), "top": (0, height), "bottom": (0, height)}
        found = {side: at for side, at in locate(picture, whole, level).items() if at is not None}
        side, truth = SEVERSTAL.get(f"{path.parent.name}/{path.stem}", (None, None))
        assert set(found) == ({side} if side else set()), path.stem
        if side:
            assert abs(found[side].innermost_px - truth) <= 8, path.stem
            follower = StripFollower(
                Track(seen_px={side: (truth - 60, truth + 60)}, margin_px=4), (0, 0, width, height)
            )
            for _ in range(NEW_FRAMES):
                x, _, w, _ = follower.step(picture)
            assert abs(follower.edges[side].at_px - truth) <= 8, path.stem
            assert abs((x if side == "left" else x + w) - truth) <= 16, path.stem


# ---- with the inspector ------------------------------------------------------------------------


def fitted(**keys):
    camera = config.Camera(name="top", source=SecretStr("strip:"), roi=FIXED, **keys)
    return camera.with_calibration(CameraCalibration(made_px={"roi": (1600, 256)}, track=TRACK))


@pytest.fixture(scope="module")
def network():
    return Classifier(bundle.load("builtin"))


def test_tiles_lie_on_the_strip_of_each_frame(network):
    """No tile crosses an edge, tiles outside are counted, and the image check finds no fault."""
    inspector = Inspector(fitted(), network, FakeClock())
    plain = Inspector(config.Camera(name="top", source=SecretStr("strip:")), network, FakeClock())
    assert inspector.edges["left"].state == "lost"
    for number in range(100):
        left, right = wandering(number)
        picture = frame(number, left, right)
        prepared = inspector.check(picture, number * 33_000_000)
        assert prepared.fault is None
        verdict = inspector.inspect(prepared)
        boxes = np.array(prepared.boxes())
        assert boxes[:, 0].min() > left
        assert (boxes[:, 0] + boxes[:, 2]).max() < right
        assert (verdict.tiles, verdict.outside) == (len(boxes), plain.prepare(picture, follow=True).tiles - len(boxes))
        assert verdict.outside > 0
    assert inspector.edges["left"].state == "seen"
    assert len(inspector._learned.places) <= 32


def test_every_tile_is_inspected_under_overload_while_the_strip_wanders(network):
    """Turns survive the moving of tiles: with half of them per frame, every place is inspected within six frames."""
    inspector = Inspector(fitted(), network, FakeClock())
    seen = np.zeros((6, 1600), bool)
    for number in range(30):
        left, right = wandering(number)
        picture = frame(number, left, right)
        prepared = inspector.check(picture, number * 33_000_000)
        layout = prepared.layout
        assert layout is not None
        inspector.inspect(prepared, max_tiles=len(layout.grid) // 2 + 1)
        seen[number % 6] = False
        for x, _, w, _ in layout.grid.boxes[layout.turns._seen == layout.turns._round].tolist():
            seen[number % 6, x : x + w] = True
        assert not seen[number % 6].all()
        if number > 6:
            assert seen.any(axis=0)[int(left) + 60 : int(right) - 60].all()


def test_frame_of_another_size_is_bad_and_changes_no_state(network):
    """The region is calibrated for one frame size; the next frame of that size is followed as before."""
    inspector = Inspector(fitted(), network, FakeClock())
    for n in range(4):
        inspector.check(frame(n), n)
    assert "calibrated for 1600x256" in str(inspector.check(frame()[:, :800], 5).fault)
    assert inspector.inspect_alone(frame()[:, :800]).state == "bad_image"
    prepared = inspector.check(frame(1), 6)
    assert prepared.fault is None
    assert inspector.inspect(prepared).outside > 0


@pytest.mark.bench
def test_time_of_following_beside_the_network(network):
    """Prints the time to follow two edges of a 1600x256 frame beside the network's time for its tiles."""
    inspector = Inspector(fitted(), network, FakeClock())
    picture, times = frame(), {"follow": [], "network": []}
    for n in range(220):
        started = time.perf_counter_ns()
        frame_ = inspector.prepare(picture, follow=True)
        followed = time.perf_counter_ns()
        cut = inspector.cut(frame_)
        prepared = time.perf_counter_ns()
        network.score(cut)
        if n >= 20:
            times["follow"].append(followed - started)
            times["network"].append(time.perf_counter_ns() - prepared)
    follow, alone = (float(np.median(ns)) / 1000 for ns in times.values())
    sys.stderr.write(
        f"\nfollow {follow:.0f} us, network {alone:.0f} us for {len(cut)} tiles, {follow / alone:.1%}, n 200"
    )


def test_width_of_a_wandering_tapering_strip_is_exact():
    """Within half a pixel of the truth in each frame, whatever the noise, and without a bias."""
    strip = Strip(width=1600, height=256, speed_px=400, noise=2.0, border_px=160, wander_px=60.0, taper_px=80.0)
    follower = StripFollower(
        Track(seen_px={"left": (100.0, 260.0), "right": (1340.0, 1500.0)}, margin_px=4), (270, 0, 1060, 256)
    )
    errors = []
    for number in range(100):
        follower.step(strip.frame(number))
        left, right = (float(edge[0]) for edge in strip.edges(np.array([number * 400 + 127.5])))
        if number < NEW_FRAMES:
            continue
        first, last = follower.edges["left"], follower.edges["right"]
        if first.state == last.state == "seen":
            errors.append(last.middle_px - first.middle_px - (right - left))
    assert len(errors) > 40
    assert max(abs(error) for error in errors) < 0.6
    assert abs(float(np.mean(errors))) < 0.2
