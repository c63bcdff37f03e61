"""Which pictures the selector keeps, and what it states about them."""

import itertools
import random

import numpy as np
import pytest
from fakes.clock import FakeClock
from fakes.delivery import event
from pydantic import SecretStr

from edge import config
from edge.event import Defect, Evidence
from edge.evidence.selector import MAX_HELD_BYTES, MAX_OPEN_DEFECTS, EvidenceSelector
from edge.evidence.writer import PendingEvidence
from edge.frame import Frame
from edge.vision.decision import AnomalyScores, Detections, Region, TileScores
from edge.vision.inspector import Verdict

CAMERA = config.Camera(name="top", source=SecretStr("strip:"), tile_px=100)
NO_DETECTIONS = Detections((), ())
SURFACE = np.random.default_rng(5).integers(0, 256, (256, 400), np.uint8)


def frame(number=7, pixels=SURFACE):
    return Frame("top", number, pixels, 0, label="a.png")


def defect_at(box, track="t-1", extent=None, confidence=0.97):
    return Defect(track, "scratches", confidence, box, 4, 1, extent_px=extent)


def fact(kind="defect.opened", box=(100, 100, 100, 100), track="t-1", extent=None, confidence=0.97, **rest):
    if kind.startswith("defect."):
        rest["defect"] = defect_at(box, track, extent, confidence)
    return event(kind, **rest)


class RecordingWriter:
    """Takes pieces as the evidence writer does, and remembers them."""

    def __init__(self):
        self.pieces = []

    def __call__(self, piece):
        self.pieces.append(piece)
        pending = PendingEvidence()
        pending.resolve(Evidence(f"{piece.kind}/{len(self.pieces)}.jpg", "0" * 64))
        return pending

    def kinds(self):
        return [piece.kind for piece in self.pieces]


def selector_with(writer, clock=None, **settings):
    return EvidenceSelector(config.Evidence(**settings), writer, clock or FakeClock(), random.Random(1))


def test_crop_of_a_defect_has_a_margin():
    """The crop is a copy of box and margin, as far as the frame reaches, and the facts state where it lay."""
    writer, pixels = RecordingWriter(), SURFACE.copy()
    opened = fact(box=(300, 100, 100, 100))
    peak = Detections((Region("scratches", 0.9, (300, 100, 100, 100), 1, (300, 100, 100, 100)),), ())
    pending = selector_with(writer).select(opened, CAMERA, frame(pixels=pixels), peak)
    (piece,) = writer.pieces
    pixels[:] = 0  # the ring's slot is used again
    assert piece.facts["crop_px"] == (275, 75, 125, 150)
    assert (piece.pixels == SURFACE[75:225, 275:400]).all()
    assert piece.facts["peak_px"] == (300, 100, 100, 100)
    assert piece.facts["event_id"] == opened.event_id
    assert (piece.facts["label"], piece.facts["frame"], piece.facts["source"]) == ("scratches", 7, "a.png")
    assert pending(0) == Evidence("defect/1.jpg", "0" * 64)


def test_closing_event_repeats_the_picture_of_the_opening_one():
    """Once: a track closes once, and the selector then forgets it."""
    writer = RecordingWriter()
    selector = selector_with(writer)
    pending = {track: selector.select(fact(track=track), CAMERA, frame(), NO_DETECTIONS) for track in ("a", "b")}
    assert selector.select(fact("defect.closed", track="b"), CAMERA, None, NO_DETECTIONS) is pending["b"]
    assert selector.select(fact("defect.closed", track="b"), CAMERA, None, NO_DETECTIONS) is None
    assert writer.kinds() == ["defect", "defect"]


def test_closing_event_has_the_frame_that_shows_most_of_the_defect():
    """Of a defect that enters piece by piece, the first frame shows an end only."""
    writer, boxes = RecordingWriter(), [(0, 100, 200, 100)] * 4
    selector = selector_with(writer)
    opening = selector.select(fact(box=boxes[0], extent=(0, 120, 100, 10)), CAMERA, frame(1), NO_DETECTIONS)
    for number, extent in enumerate(((0, 120, 140, 10), (10, 120, 170, 10), (80, 120, 120, 10)), 2):
        pixels = SURFACE + np.uint8(number)
        selector.follow(CAMERA, frame(number, pixels), [defect_at(boxes[0], extent=extent)], NO_DETECTIONS)
        pixels[:] = 0  # the ring's slot is used again
    assert writer.kinds() == ["defect"]  # only the closing event makes a file of it
    closed = fact("defect.closed", confidence=0.99)
    closing = selector.select(closed, CAMERA, None, NO_DETECTIONS)
    first, best = writer.pieces
    assert (opening(0), closing(0)) == (Evidence("defect/1.jpg", "0" * 64), Evidence("defect/2.jpg", "0" * 64))
    assert (first.facts["frame"], best.facts["frame"]) == (1, 3)
    assert (best.pixels == (SURFACE + np.uint8(3))[75:225, 0:225]).all()
    assert (best.facts["event_id"], best.facts["confidence"]) == (closed.event_id, 0.99)
    assert selector._held_bytes == 0


def test_box_of_the_defect_is_beside_the_picture_and_not_in_it():
    """As shares of the picture, which may be reduced; the pixels stay those of the camera."""
    writer = RecordingWriter()
    selector_with(writer).select(fact(extent=(125, 150, 50, 30)), CAMERA, frame(), NO_DETECTIONS)
    (piece,) = writer.pieces
    assert piece.facts["extent_px"] == (125, 150, 50, 30)
    assert piece.facts["crop_px"] == (75, 75, 150, 150)
    assert piece.facts["box_in_picture"] == [0.3333, 0.5, 0.3333, 0.2]
    assert (piece.pixels == SURFACE[75:225, 75:225]).all()


def test_first_picture_stands_in_until_the_better_one_is_written():
    """An event waits for its picture a moment only; when the better one is not kept at all, too."""
    slow = PendingEvidence()
    for better in (slow, None):
        opening = PendingEvidence()
        opening.resolve(Evidence("defect/1.jpg", "0" * 64))
        answers = {1: opening, 2: better}
        selector = selector_with(lambda piece, answers=answers: answers[piece.facts["frame"]])
        selector.select(fact(extent=(100, 100, 10, 10)), CAMERA, frame(1), NO_DETECTIONS)
        selector.follow(CAMERA, frame(2), [defect_at((100, 100, 100, 100), extent=(100, 100, 50, 50))], NO_DETECTIONS)
        picture = selector.select(fact("defect.closed"), CAMERA, None, NO_DETECTIONS)
        assert picture(0) == Evidence("defect/1.jpg", "0" * 64)


def test_copies_of_open_defects_are_bounded():
    """Above the bound the picture of the opening frame stays; a closed defect makes space."""
    writer = RecordingWriter()
    selector = selector_with(writer)
    wide = np.zeros((4000, 4000), np.uint8)
    whole = (0, 0, 4000, 4000)
    for track in "abc":
        selector.select(fact(track=track, box=(0, 0, 10, 10)), CAMERA, frame(1, wide), NO_DETECTIONS)
        selector.follow(CAMERA, frame(2, wide), [defect_at(whole, track)], NO_DETECTIONS)
    assert selector._held_bytes == 2 * wide.nbytes <= MAX_HELD_BYTES
    for track in "abc":
        selector.select(fact("defect.closed", track=track), CAMERA, None, NO_DETECTIONS)
    assert selector._held_bytes == 0
    assert len(writer.pieces) == 5


def test_whole_frame_is_kept_where_configured():
    """With `frames` there is a second picture with the same event id."""
    writer = RecordingWriter()
    selector_with(writer, frames=True).select(fact(), CAMERA, frame(), NO_DETECTIONS)
    assert writer.kinds() == ["defect", "frame"]
    assert writer.pieces[1].pixels.shape == SURFACE.shape
    assert writer.pieces[0].facts["event_id"] == writer.pieces[1].facts["event_id"]


def test_bad_picture_is_kept_whole():
    """An operator who gets image.bad can look at the picture."""
    writer = RecordingWriter()
    selector_with(writer).select(fact("image.bad", detail={"reason": "dark"}), CAMERA, frame(), NO_DETECTIONS)
    assert writer.kinds() == ["image"]
    assert writer.pieces[0].facts["reason"] == "dark"


@pytest.mark.parametrize("kind", ["camera.lost", "coverage.gap", "node.started", "image.restored"])
def test_other_events_have_no_picture(kind):
    """They are about no piece of surface."""
    writer = RecordingWriter()
    assert selector_with(writer).select(fact(kind), CAMERA, frame(), NO_DETECTIONS) is None
    assert writer.pieces == []


def test_open_defects_are_remembered_up_to_a_bound():
    """Tracks that never close do not fill the memory."""
    selector = selector_with(RecordingWriter())
    for track in range(3000):
        selector.select(fact(track=str(track)), CAMERA, frame(), NO_DETECTIONS)
    assert len(selector._open) == MAX_OPEN_DEFECTS


def boxes():
    return [(x, y, 100, 100) for y in (0, 100) for x in (0, 100, 200, 300)]


def sampled(verdict, hours=200, per_hour=60, **settings):
    writer, clock = RecordingWriter(), FakeClock()
    selector = selector_with(writer, clock, **settings)
    for number in range(hours * per_hour):
        selector.sample(frame(number), verdict, boxes)
        clock.advance(3600 / per_hour)
    return writer.pieces


def test_audit_tiles_come_at_random_at_the_configured_rate():
    """Six an hour on average, all tiles alike, at no fixed distance."""
    pieces = sampled(Verdict("ok", NO_DETECTIONS, 8), audit_per_hour=6)
    assert 1000 < len(pieces) < 1300  # 1,200 less what falls between two frames
    where = {}
    for piece in pieces:
        where[piece.facts["crop_px"]] = where.get(piece.facts["crop_px"], 0) + 1
    assert set(where) == set(boxes())
    assert min(where.values()) > 90
    assert len({b.facts["frame"] - a.facts["frame"] for a, b in itertools.pairwise(pieces)}) > 10


def test_audit_tile_is_labelled_with_the_verdict():
    """The label is good, unsure, or the class of the region that holds the tile."""
    detections = Detections((Region("patches", 0.9, (100, 0, 100, 200), 2),), ((200, 0, 100, 100),))
    pieces = sampled(Verdict("defect", detections, 8), audit_per_hour=30, unsure_per_hour=0)
    labels = {piece.facts["crop_px"][:2]: piece.facts["label"] for piece in pieces}
    assert labels[100, 0] == labels[100, 100] == "patches"
    assert labels[200, 0] == "unsure"
    assert labels[0, 0] == labels[300, 100] == "good"


def test_unsure_samples_are_unsure_tiles():
    """They come only from frames that have some, and not above the configured rate."""
    detections = Detections((), ((200, 0, 100, 100), (300, 0, 100, 100)))
    pieces = sampled(Verdict("unsure", detections, 8), audit_per_hour=0, unsure_per_hour=10)
    assert {piece.facts["crop_px"] for piece in pieces} == set(detections.unsure_boxes)
    assert {piece.kind for piece in pieces} == {"unsure"}
    assert 1500 < len(pieces) < 2200
    assert sampled(Verdict("ok", NO_DETECTIONS, 8), audit_per_hour=0) == []


def test_partly_inspected_frame_gives_no_audit_tile():
    """Its skipped tiles have no verdict, so they have no label."""
    assert sampled(Verdict("unsure", NO_DETECTIONS, 6, skipped=2)) == []


def test_sampled_tile_states_what_the_model_found_and_where_it_was():
    """A label is compared with these scores later; scores that are no numbers are left out."""
    p = np.array([[0.05, 0.52, 0.31], [np.nan, 0.1, 0.1]], np.float32)
    scores = TileScores(
        ("crazing", "scratches", "patches"),
        p,
        np.array([[200, 0, 100, 100], [300, 0, 100, 100]], np.int32),
        "m" * 64,
        has_good=True,
        anomaly=AnomalyScores(np.array([9.0, 2.0], np.float32), 10.0, 5.0),
    )
    verdict = Verdict("unsure", Detections((), ((200, 0, 100, 100),)), 8, tile_scores=scores)
    writer, clock = RecordingWriter(), FakeClock()
    selector = selector_with(writer, clock, unsure_per_hour=36_000, audit_per_hour=0)
    selector.sample(frame(), verdict, boxes)
    clock.advance(60)
    selector.sample(frame(), verdict, boxes, lambda: ("A4711", 640.3123))
    (piece,) = writer.pieces
    known = {name: piece.facts[name] for name in ("model", "scores", "anomaly", "coil", "position_m", "frame_px")}
    assert known == {
        "model": "m" * 64,
        "scores": {"scratches": 0.52, "patches": 0.31, "good": 0.12, "crazing": 0.05},
        "anomaly": 0.9,
        "coil": "A4711",
        "position_m": 640.312,
        "frame_px": (400, 256),
    }
    assert "scores" not in scores.of((300, 0, 100, 100))
    assert scores.of((0, 0, 1, 1)) == {}


SHADOW = {"name": "second", "version": "0.4", "sha256": "s" * 64, "bundle": "t" * 64}


def disputed(ours, theirs, hours=0, **settings):
    """The pieces of a disagreement that lasts, each second."""
    writer, clock = RecordingWriter(), FakeClock()
    selector = selector_with(writer, clock, **settings)
    for number in range(max(1, hours * 3600)):
        selector.dispute(frame(number), ours, theirs, SHADOW, lambda: ("A4711", 12.5))
        clock.advance(1)
    return writer.pieces


def test_disputed_tile_states_both_verdicts():
    """It is the strongest tile of a class that only one of the two names; scores of both are among the facts."""
    box = (100, 0, 100, 100)
    found = Detections((Region("scratches", 0.9, (100, 0, 200, 100), 2, peak_px=box),), ())
    scores = TileScores(("scratches",), np.array([[0.9]], np.float32), np.array([box], np.int32), "t" * 64)
    ours, theirs = Verdict("ok", NO_DETECTIONS, 8), Verdict("defect", found, 8, tile_scores=scores)
    (piece,) = disputed(ours, theirs)
    assert (piece.kind, piece.facts["crop_px"], piece.facts["label"], piece.facts["coil"]) == (
        "shadow",
        box,
        "good",
        "A4711",
    )
    said = {"name": "second", "version": "0.4", "label": "scratches", "scores": {"scratches": 0.9}}
    assert piece.facts["shadow"] == said
    (piece,) = disputed(theirs, ours)
    assert (piece.facts["label"], piece.facts["shadow"]["label"]) == ("scratches", "good")


def test_dispute_about_unsure_tiles_shows_one_that_only_one_is_sure_of():
    """Where both name the same classes and the same unsure tiles there is nothing to show."""
    first, second = (0, 0, 100, 100), (100, 0, 100, 100)
    ours, theirs = Verdict("unsure", Detections((), (first, second)), 8), Verdict("unsure", Detections((), (first,)), 8)
    (piece,) = disputed(ours, theirs)
    assert (piece.facts["crop_px"], piece.facts["label"], piece.facts["shadow"]["label"]) == (second, "unsure", "good")
    assert disputed(ours, ours) == []


def test_disputed_tiles_are_limited_for_each_camera():
    """Those of an hour may come at once, so that a rare dispute is seen; then it goes by the hour."""
    found = Verdict("unsure", Detections((), ((0, 0, 100, 100),)), 8)
    none = Verdict("ok", NO_DETECTIONS, 8)
    assert len(disputed(none, found, hours=3, shadow_per_hour=20)) in (79, 80)
    assert disputed(none, found, hours=1, shadow_per_hour=0) == []
