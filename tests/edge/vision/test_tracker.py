"""Defects over frames, played as tables: what each frame shows, and which events come of it."""

import itertools
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import config
from edge.coverage.strip_position import FramePoint, Span, StripPosition
from edge.vision.decision import Detections, Region
from edge.vision.tracker import MAX_HELD, MAX_TRACKS, Motion, Tracker, open_and_close

TILE = 200
FRAME_NS = 33_000_000


def scratch(x, y=0, w=TILE, h=TILE, confidence=0.9, name="scratches", tiles=1):
    return Region(name, confidence, (x, y, w, h), tiles)


def crazing(x, y=0, **more):
    return scratch(x, y, name="crazing", **more)


def unsure(x, y=0, w=TILE, h=TILE):
    return (x, y, w, h)


class Scene:
    """A tracker and its events: each frame is a list of regions and unsure tiles."""

    def __init__(self, **decision):
        ids = itertools.count(1)
        self.tracks = Tracker(config.Decision(**decision), TILE, lambda: f"t{next(ids)}")
        self.now_ns = 0
        self.frame = 0
        self.reported = []

    def show(self, *things, elapsed=1, motion=None, place=lambda _box: None):
        self.frame += elapsed
        self.now_ns += elapsed * FRAME_NS
        regions = tuple(thing for thing in things if isinstance(thing, Region))
        suspects = tuple(thing for thing in things if not isinstance(thing, Region))
        changes = self.tracks.step(Detections(regions, suspects), self.now_ns, elapsed, motion, place)
        self.reported += [(self.frame, change) for change in changes]
        return [(change.type.removeprefix("defect."), change.defect.track_id) for change in changes]

    def play(self, frames, drift=None):
        """One list of things for each frame.  drift: px to the right per frame, by the speed of the strip."""
        motion = None if drift is None else Motion((drift, 0.0), (1600, TILE))
        for things in frames:
            self.show(*things, motion=motion)
        return self

    def end(self):
        self.reported += [(self.frame, change) for change in self.tracks.close_all()]
        return self

    @property
    def opened(self):
        return [change.defect for _, change in self.reported if change.type == "defect.opened"]

    @property
    def closed(self):
        return [change.defect for _, change in self.reported if change.type == "defect.closed"]

    def counts(self):
        return len(self.opened), len(self.closed)


def passing(start=-200, stop=1600, step=90, width=1600, tile=TILE, name="scratches"):
    """A defect of 60 px that crosses the frame: the tiles that show it, as one box on the grid of tiles."""
    frames = []
    for x in range(start, stop, step):
        first, last = max(0, x) // tile, min(width - 1, x + 60) // tile
        visible = x + 60 > 0 and x < width
        things = [scratch(first * tile, w=(last - first + 1) * tile, tiles=last - first + 1, name=name)]
        frames.append(things if visible else [])
    return frames


NOTHING = [[]] * 5


# ---- one defect ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [20, 60, 90, 150, 199])
@pytest.mark.parametrize("direction", [1, -1])
def test_defect_that_crosses_the_frame_opens_and_closes_once(step, direction):
    """At any speed up to a tile per frame, in either direction."""
    scene = Scene().play(passing(step=step)[::direction] + NOTHING)
    assert scene.counts() == (1, 1)
    assert scene.closed[0].track_id == scene.opened[0].track_id
    assert scene.closed[0].frames == sum(bool(things) for things in passing(step=step))


def test_closing_event_covers_the_whole_track():
    """It has class, best confidence, largest box and tiles, sightings, and the time from first to last sighting."""
    scene = Scene()
    scene.play([[scratch(0, confidence=0.7)], [scratch(0, w=400, confidence=0.95, tiles=2)], [scratch(200)], *NOTHING])
    closed = scene.closed[0]
    assert (closed.class_name, closed.confidence, closed.box_px) == ("scratches", 0.95, (0, 0, 400, 200))
    assert (closed.frames, closed.tiles) == (3, 2)
    assert closed.duration_s == pytest.approx(2 * FRAME_NS / 1e9)


def test_region_beside_a_defect_that_has_left_is_another_defect():
    """A speck in one frame on the other side of the strip, while the track is open; then another defect there."""
    leaving = [[scratch(0, y=y)] for y in range(400, -1, -50)]
    other = [[scratch(600, y=y)] for y in range(400, -1, -50)]
    scene = Scene().play([*leaving, [], [scratch(600, y=200)], [], *other, *NOTHING])
    assert scene.counts() == (2, 2)
    assert [defect.box_px[0] for defect in scene.closed] == [0, 600]


def test_extent_of_a_defect_is_around_all_its_parts():
    """The opening event has the present extent, the closing event that of the frame with the largest box."""
    one = replace(scratch(0), extent_px=(40, 50, 30, 20))
    parts = [replace(scratch(0), extent_px=(10, 50, 60, 20)), replace(scratch(200), extent_px=(200, 40, 50, 90))]
    whole = [replace(scratch(0, w=400), extent_px=(12, 42, 230, 80))]
    scene = Scene().play([[one], whole, [one], *NOTHING])
    assert scene.opened[0].extent_px == scene.closed[0].extent_px == (12, 42, 230, 80)
    assert Scene().play([whole, parts, *NOTHING]).opened[0].extent_px == (10, 40, 240, 90)
    assert Scene().play([[one], [scratch(0)], *NOTHING]).opened[0].extent_px is None


def test_place_on_the_strip_comes_from_the_extent():
    """It comes from the box of tiles only where the extent is unknown."""
    asked = []

    def place(box):
        asked.append(box)
        return Span(
            FramePoint(StripPosition(0, 0.0), box[0] / 1000),
            FramePoint(StripPosition(0, 0.0), (box[0] + box[2]) / 1000),
        )

    scene = Scene()
    scene.show(replace(scratch(0), extent_px=(40, 50, 30, 20)), place=place)
    scene.show(scratch(0), place=place)
    assert asked == [(40, 50, 30, 20), (0, 0, TILE, TILE)]


def test_sighting_in_one_frame_is_not_confirmed():
    """A flash in one of three frames is no defect."""
    assert Scene().play([[scratch(0)], *NOTHING]).end().counts() == (0, 0)


def test_one_of_one_confirms_at_once():
    """A line-scan camera shows each piece of strip once."""
    scene = Scene(confirm_frames=1, confirm_window=1, close_frames=1)
    assert scene.show(scratch(0)) == [("opened", "t1")]
    assert scene.show() == [("closed", "t1")]


@pytest.mark.parametrize(
    ("seen", "opens_at"),
    [("11", 2), ("101", 3), ("1001", None), ("10011", 5), ("1", None), ("0101", 4), ("10010001", None)],
)
def test_two_of_three_frames_confirm(seen, opens_at):
    """k of n: two sightings within three frames confirm, two further apart do not."""
    scene = Scene(confirm_frames=2, confirm_window=3).play([[scratch(0)] if digit == "1" else [] for digit in seen])
    opened_at = [frame for frame, change in scene.reported if change.type == "defect.opened"]
    assert opened_at == ([opens_at] if opens_at else [])


def test_window_longer_than_the_closing_time_is_kept():
    """Three of ten confirm though the sightings are further apart than `close_frames`."""
    scene = Scene(confirm_frames=3, confirm_window=10, close_frames=2)
    scene.play([[scratch(0)] if digit == "1" else [] for digit in "10001001"])
    assert len(scene.opened) == 1


@pytest.mark.parametrize("close_frames", [1, 3, 7])
def test_defect_closes_after_close_frames(close_frames):
    """Not a frame earlier, and not a frame later."""
    scene = Scene(close_frames=close_frames).play([[scratch(0)]] * 3)
    for _ in range(close_frames - 1):
        assert scene.show() == []
    assert scene.show() == [("closed", "t1")]


def test_short_gap_does_not_split_a_moving_defect():
    """The tracker finds a defect again after two missed frames, as far on as the strip has moved."""
    frames = passing(step=150)
    frames[4] = frames[5] = []
    assert Scene().play(frames + NOTHING).counts() == (1, 1)


def test_frames_that_were_not_inspected_do_not_split_a_defect():
    """If only every third frame is inspected, the strip moves three times as far between them."""
    scene = Scene()
    for things in passing(step=150)[::3]:
        scene.show(*things, elapsed=3)
    scene.play(NOTHING)
    assert scene.counts() == (1, 1)


def test_static_scene_is_one_defect():
    """A strip that stands still with a defect in view gives one opening event and no more."""
    scene = Scene().play([[scratch(400)]] * 500)
    assert scene.counts() == (1, 0)
    assert scene.end().counts() == (1, 1)
    assert scene.closed[0].frames == 500


def test_flickering_box_of_a_long_defect_stays_one():
    """A long scratch that shows now one end and now the other is one defect."""
    boxes = [(0, 600), (0, 200), (400, 200), (0, 600), (200, 200), (0, 200), (0, 600)] * 4
    scene = Scene().play([[scratch(x, w=w)] for x, w in boxes])
    assert scene.end().counts() == (1, 1)


def test_long_moving_defect_that_flickers_stays_one():
    """After it has travelled, a box that shrinks to its rear end is not taken for the next defect."""
    frames = [[scratch(x, w=600)] for x in range(0, 600, 100)]
    frames += [[scratch(500, w=600)], [scratch(500)], [scratch(500, w=600)], [scratch(900)]]
    assert Scene().play(frames + NOTHING).counts() == (1, 1)


# ---- class flicker -------------------------------------------------------------------------------


def test_class_flicker_in_place_is_one_defect():
    """The closing event has the class with most votes."""
    scene = Scene().play([[scratch(0)], [crazing(0)], [scratch(0)], [scratch(0)], *NOTHING])
    assert scene.counts() == (1, 1)
    assert scene.closed[0].class_name == "scratches"


def test_votes_count_what_decided_and_not_the_published_confidence():
    """Two sightings of 0.65 outvote one of 0.95, whatever is published of each; the event has the published one."""
    said = [replace(scratch(0, confidence=0.7), weight=0.65)] * 2
    scene = Scene().play([said[:1], [replace(crazing(0, confidence=0.999), weight=0.95)], said[1:], *NOTHING])
    assert (scene.closed[0].class_name, scene.closed[0].confidence) == ("scratches", 0.7)
    scene = Scene().play([said[:1], [replace(crazing(0, confidence=0.7), weight=1.4)], said[1:], *NOTHING])
    assert scene.closed[0].class_name == "crazing"


def test_class_flicker_of_a_moving_defect_is_one_defect():
    """Where the motion is known, another class at the expected place is the same defect."""
    frames = passing(step=100)
    for n in range(6, len(frames), 2):
        frames[n] = [replace(region, class_name="crazing") for region in frames[n]]
    assert Scene().play(frames + NOTHING).counts() == (1, 1)


def test_two_classes_side_by_side_are_two_defects():
    """Neighbouring regions of different classes stay separate."""
    scene = Scene().play([[scratch(0), crazing(200)]] * 5).end()
    assert sorted(defect.class_name for defect in scene.closed) == ["crazing", "scratches"]


# ---- several defects -----------------------------------------------------------------------------


def test_two_lanes_are_two_defects():
    """Two defects of one class that cross side by side are never mixed up."""
    frames = [[*things, *(scratch(r.box_px[0], 600, w=r.box_px[2]) for r in things)] for things in passing(step=120)]
    scene = Scene().play(frames + NOTHING)
    assert scene.counts() == (2, 2)
    for defect in scene.closed:
        assert defect.box_px[3] == TILE


def test_defect_that_enters_while_another_leaves_is_a_new_one():
    """In the same lane and class, the direction of the strip separates the next one from the last."""
    one = passing(start=-200, stop=1800, step=150)
    frames = one + [[]] * len(one)
    for n, things in enumerate(one):
        at = n + 8
        frames[at] = [*frames[at], *things]
    scene = Scene().play(frames + NOTHING)
    assert scene.counts() == (2, 2)


def test_successive_defects_in_a_narrow_view_are_two():
    """The next defect enters in the frame in which the last has left, one tile away."""
    cross = [[scratch(x)] for x in (0, 200, 400)]
    scene = Scene(max_shift_px=400).play(cross + cross + NOTHING)
    assert scene.counts() == (2, 2)


@pytest.mark.parametrize("step", [100, 150, 200, 400])
def test_strip_that_reverses_hides_no_defect(step):
    """In a reversing mill each defect is reported, at most once too often per reversal."""
    scene = Scene(max_shift_px=400).play(passing(step=step) + NOTHING)
    for turns in range(1, 4):
        scene.play(passing(step=step)[:: (-1) ** turns] + NOTHING)
        assert 1 + turns <= len(scene.opened) == len(scene.closed) <= 1 + 2 * turns


def test_strip_that_reverses_with_a_defect_in_view_reports_it():
    """A defect in view while the strip reverses may be reported twice, but is never lost, and each closes."""
    forth = passing(step=150)[:7]
    scene = Scene().play(forth + forth[::-1] + NOTHING)
    assert 1 <= len(scene.opened) == len(scene.closed) <= 2


def test_defects_that_merge_and_split_keep_their_events():
    """Two of one class that merge into one region and split again are two defects throughout."""
    apart = [scratch(0, tiles=1), scratch(400, tiles=1)]
    merged = [scratch(0, w=600, tiles=3)]
    scene = Scene().play([apart] * 3 + [merged] * 6 + [apart] * 3 + NOTHING)
    assert scene.counts() == (2, 2)


def test_defect_that_splits_stays_one():
    """Regions within the box of a tracked defect start no track of their own."""
    whole, pieces = [scratch(0, w=600, tiles=3)], [scratch(0), scratch(400)]
    scene = Scene().play([whole] * 3 + [pieces, whole] * 3 + NOTHING)
    assert scene.counts() == (1, 1)


def test_later_defect_at_an_old_place_does_not_keep_a_track_open():
    """A track without sightings closes though a defect of its class passes there later."""
    scene = Scene(close_frames=4, max_shift_px=0)
    scene.play([[scratch(800)]] * 3 + [[]])
    scene.play([[scratch(0, 600), scratch(790, 120, w=220)]] * 5)
    assert scene.closed == [] or scene.closed[0].track_id == "t1"
    assert scene.end().counts()[0] == scene.counts()[1]


# ---- unsure tiles --------------------------------------------------------------------------------


def test_unsure_tiles_hold_an_open_defect():
    """A defect that fades to unsure and comes back is one defect."""
    scene = Scene().play([[scratch(0)]] * 3 + [[unsure(0)]] * 6 + [[scratch(0)]] * 2)
    assert scene.end().counts() == (1, 1)


def test_unsure_tiles_hold_a_defect_that_moves():
    """The tracker expects unsure tiles where the strip has carried the defect."""
    frames = passing(step=100)
    for n in range(8, 13):
        frames[n] = [region.box_px for region in frames[n]]
    assert Scene().play(frames + NOTHING).counts() == (1, 1)


def test_unsure_tiles_open_nothing():
    """Unsure tiles alone give no event, however long they last."""
    assert Scene().play([[unsure(0)]] * 50).end().counts() == (0, 0)


def test_unsure_tiles_elsewhere_hold_nothing():
    """An unsure tile at another place does not belong to the track."""
    scene = Scene().play([[scratch(0)]] * 3 + [[unsure(800)]] * 3)
    assert scene.counts() == (1, 1)


def test_dirt_that_stays_in_view_does_not_keep_a_defect_open():
    """Unsure tiles hold a track for a bounded number of frames."""
    scene = Scene(close_frames=3).play([[scratch(0)]] * 3 + [[unsure(0)]] * (3 * MAX_HELD + 3))
    assert scene.counts() == (1, 1)


# ---- the ends ------------------------------------------------------------------------------------


def test_close_all_closes_open_tracks_and_drops_the_others():
    """After a camera is lost, nothing is in view."""
    scene = Scene().play([[scratch(0), scratch(800)]] * 2)
    scene.show(scratch(0), scratch(800), scratch(400))
    assert len(scene.tracks) == 2
    assert scene.end().counts() == (2, 2)
    assert len(scene.tracks) == 0
    assert scene.tracks.close_all() == []


def test_number_of_tracks_is_bounded():
    """Long noise everywhere, with close_frames of ten thousand, neither fills the memory nor stalls the tracker."""
    scene = Scene(confirm_frames=1, confirm_window=1, close_frames=10_000, max_shift_px=0)
    started = time.process_time()
    for n in range(60):
        scene.show(*(scratch(1000 * i, 1000 * n) for i in range(40)))
    assert time.process_time() - started < 10
    assert len(scene.tracks._tracks) <= MAX_TRACKS
    scene.end()
    assert scene.counts() == (2400, 2400)


def test_unconfirmed_tracks_are_forgotten_with_their_window():
    """A track that can no longer be confirmed is dropped, however long `close_frames` is."""
    scene = Scene(close_frames=10_000, max_shift_px=0)
    for n in range(30):
        scene.show(scratch(0, 1000 * n))
    assert len(scene.tracks._tracks) <= 3


def test_long_gap_does_not_match_a_distant_defect():
    """After a thousand uninspected frames, a defect far away is a new one."""
    scene = Scene().play([[scratch(0)]] * 3)
    scene.show(scratch(5000), elapsed=1000)
    scene.show(scratch(5000))
    assert len(scene.opened) == 2


def test_parts_open_and_close_in_their_frame():
    """In mode `parts`, each region gives both events with one id."""
    ids = iter(["a", "b"])
    changes = open_and_close(Detections((scratch(0), crazing(400)), (unsure(0),)), lambda: next(ids))
    assert [(change.type, change.defect.track_id) for change in changes] == [
        ("defect.opened", "a"),
        ("defect.closed", "a"),
        ("defect.opened", "b"),
        ("defect.closed", "b"),
    ]
    assert {change.defect.frames for change in changes} == {1}


# ---- anything at all -----------------------------------------------------------------------------

REGIONS = st.builds(
    Region,
    st.sampled_from(["scratches", "crazing", "patches"]),
    st.floats(0, 1),
    st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(1, 3), st.integers(1, 2)).map(
        lambda box: tuple(part * TILE for part in box)
    ),
    st.integers(1, 6),
)
FRAMES = st.tuples(
    st.lists(REGIONS, max_size=5),
    st.lists(st.tuples(*[st.integers(0, 1400)] * 2, *[st.integers(1, 400)] * 2), max_size=3),
    st.integers(-1, 12),
)
DECISIONS = st.fixed_dictionaries(
    {
        "confirm_frames": st.integers(1, 3),
        "confirm_window": st.integers(3, 6),
        "close_frames": st.integers(1, 5),
        "max_shift_px": st.sampled_from([None, 0, 50, 1000]),
    }
)


@settings(max_examples=250)
@given(st.lists(FRAMES, max_size=30), DECISIONS)
def test_every_opened_defect_is_closed_exactly_once(frames, decision):
    """For any frames: ids are unique, closed follows opened, counts fit, and no step raises."""
    scene = Scene(**decision)
    for regions, suspects, elapsed in frames:
        scene.show(*regions, *suspects, elapsed=elapsed)
        assert len(scene.tracks) == len(scene.opened) - len(scene.closed)
    scene.end()
    opened = [defect.track_id for defect in scene.opened]
    assert len(set(opened)) == len(opened)
    assert sorted(opened) == sorted(defect.track_id for defect in scene.closed)
    is_open = set()
    for _, change in scene.reported:
        if change.type == "defect.opened":
            is_open.add(change.defect.track_id)
        else:
            is_open.remove(change.defect.track_id)
    before = {defect.track_id: defect for defect in scene.opened}
    for defect in scene.closed:
        assert defect.frames >= before[defect.track_id].frames >= 1
        assert defect.tiles >= 1
        assert defect.confidence >= 0


# ---- with the speed of the strip --------------------------------------------------------------------


@pytest.mark.parametrize("step", [24, 150, 350, 600])
def test_defect_on_a_fast_strip_is_one_where_the_speed_is_known(step):
    """However far it moves per frame; without the speed, tracking fails at 600 px."""
    frames = passing(step=step) + NOTHING * 3
    assert Scene().play(frames, drift=step).counts() == (1, 1)
    if step == 600:
        assert Scene().play(frames).counts() != (1, 1)


def test_equal_defects_as_far_apart_as_the_strip_moves_are_separate():
    """Roll marks: to the picture alone they are one defect that stands still."""
    step, count = 400, 30
    frames = [[scratch((n - k) * step) for k in range(count) if 0 <= n - k < 4] for n in range(count + 6)]
    assert Scene().play(frames + NOTHING * 3, drift=step).counts() == (count, count)
    assert Scene().play(frames + NOTHING * 3).counts() != (count, count)


@pytest.mark.parametrize("drift", [0, -60, 600, 3600])
def test_wrong_speed_loses_no_defect(drift):
    """Zero, backwards, ten and sixty times too fast: the tracker falls back to the picture alone."""
    for step in (24, 60, 150):
        scene = Scene().play((passing(step=step) + NOTHING * 3) * 6, drift=drift)
        assert scene.counts() == (6, 6), step


def test_tracker_stops_trusting_a_speed_that_becomes_wrong():
    """After it has followed a fast strip, a speed in the wrong unit loses few defects."""
    scene = Scene().play((passing(step=600) + NOTHING) * 12, drift=600)
    assert scene.counts()[0] == 12
    scene.play((passing(step=90) + NOTHING) * 6, drift=36_000)
    assert scene.counts()[0] >= 12 + 5


def test_defect_unseen_for_a_while_stays_one_while_it_is_in_view():
    """Eight frames without a sighting are one defect with the speed, two without."""
    seen = passing(start=0, step=90)
    frames = [things if n < 4 or n > 11 else [] for n, things in enumerate(seen)]
    assert Scene().play(frames + NOTHING * 4, drift=90).counts() == (1, 1)
    assert Scene().play(frames + NOTHING * 4).counts() == (2, 2)


def test_defect_on_a_strip_that_stands_still_closes_after_close_frames():
    """A defect that is no longer seen has not moved out of reach: its track closes."""
    scene = Scene().play([[scratch(0)]] * 3, drift=0).play([[]] * 3, drift=0)
    assert scene.counts() == (1, 1)


def test_span_of_a_defect_covers_all_its_sightings():
    """It runs from the first end to the last; a sighting without a place leaves the length unknown."""
    for missing, length_mm in ((None, 500.0), (2, None)):
        scene = Scene()
        for n in range(6):
            box = [scratch(100 * n)] if n < 5 else []
            position = StripPosition(0, 5.0 + n * 0.1)

            def place(box, position=position, known=n != missing):
                return Span(FramePoint(position, 0.0), FramePoint(position, box[2] / 2000)) if known else None

            scene.show(*box, place=place)
        span = scene.end().reported[-1][1].span
        assert (span.near.position.m, span.length_mm) == (5.0, length_mm)


@settings(max_examples=100)
@given(st.lists(st.lists(REGIONS, max_size=4), min_size=3, max_size=15), st.integers(1, 6))
def test_confirmed_surface_is_always_covered_by_an_event(frames, repeats):
    """Whatever came before, a defect in view for long enough to be confirmed is in an open track."""
    scene = Scene().play(frames)
    scene.play([[scratch(400, 800)]] * (2 + repeats))
    assert len(scene.tracks) >= 1
