"""Lanes: which of them a defect lies in, and their coils along the strip."""

from __future__ import annotations

import pytest

from edge import config
from edge.config.strip_sections import Lane
from edge.coverage.lanes import lanes_of
from edge.coverage.runs import Run
from edge.coverage.strip_position import CoilNamed, PositionTracker, StripPosition

LANES = (Lane(name="left", from_mm=0, to_mm=600), Lane(name="right", from_mm=610, to_mm=1200))
S = 1_000_000_000


@pytest.mark.parametrize(
    ("across_mm", "main", "touched"),
    [
        ((10.0, 20.0), "left", ("left",)),
        ((580.0, 640.0), "right", ("left", "right")),
        ((602.0, 608.0), None, ()),
        ((1300.0, 1310.0), None, ()),
        (None, None, ("left", "right")),
    ],
)
def test_defect_lies_in_the_lanes_that_it_touches(across_mm, main, touched):
    """Most of it names the lane; an unknown place may be in each."""
    assert lanes_of(LANES, across_mm) == (main, touched)


def test_each_lane_has_a_coil_of_its_own_beside_that_of_the_strip():
    """Places count from the start of the lane's coil; a stop ends that one alone."""
    tracker = PositionTracker(config.Travel(speed_m_per_s=1.0), 0)
    tracker.start_coil("mother", 10 * S)
    tracker.start_coil("A-1", 20 * S, "left")
    here = StripPosition(0, 25.0)
    assert (tracker.on_coil(here), tracker.on_coil(here, "left"), tracker.on_coil(here, "right")) == (
        ("mother", 15.0),
        ("A-1", 5.0),
        (None, None),
    )
    ended = tracker.end_coil(30 * S, "left")
    assert (ended.name, ended.length_m, tracker.coil, tracker.lanes) == ("A-1", 10.0, "mother", {"left": None})
    pieces = tracker.pieces(Run(15.0, 35.0, "whole"), "left")
    assert [(coil, None if run is None else (run.from_m, run.to_m)) for coil, run in pieces] == [
        (None, None),
        ("A-1", (0.0, 10.0)),
        (None, None),
    ]


def test_plant_names_the_coils_of_lanes():
    """The first name may be old, as for the strip; the lanes do not disturb each other."""
    tracker = PositionTracker(config.Travel(topic="drive", coil_topic="coil"), 0)
    for second in range(40):
        tracker.sample(second * S, 1.0)
    assert tracker.name_coil(CoilNamed(10 * S, "A-1", lane="left")).name is None
    assert tracker.on_coil(tracker.at(12 * S), "left") == ("A-1", None)
    assert tracker.name_coil(CoilNamed(20 * S, "A-2", lane="left")).name == "A-1"
    assert tracker.on_coil(tracker.at(25 * S), "left") == ("A-2", 5.0)
    assert tracker.coil is None
