"""Defects whose names are weak: on steel unlike the training's, and of classes taught from a few pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge import config
from edge.vision.decision import CERTAIN, UNKNOWN, AnomalyScores, Naming, Region, decide
from edge.vision.thresholds import Thresholds
from edge.vision.tracker import Tracker

NAMES = ("scratches", "crazing", "patches")
THRESHOLDS = Thresholds.of(config.Decision(), NAMES, "top")
CELLS = np.array([[0, 0], [0, 1], [0, 2], [5, 5]], np.int32)
BOXES = np.concatenate((CELLS[:, ::-1] * 100, np.full((4, 2), 100, np.int32)), axis=1)


def decided(
    rows: list[list[float]], naming: Naming, anomaly_scores: list[float] | None = None, sharpness: float = 1.0
) -> tuple[Region, ...]:
    scores = None if anomaly_scores is None else AnomalyScores(np.array(anomaly_scores, np.float32), 1.0, 0.5)
    found = decide(
        np.array(rows, np.float32), BOXES, CELLS, THRESHOLDS, has_good=True, anomaly_scores=scores, naming=naming,
        sharpness=sharpness,
    )  # fmt: skip
    return found.regions


def test_defect_on_strange_steel_is_unknown_with_candidates() -> None:
    """Tiles of any class join; the candidates are those of the strongest tile, the confidence that of any defect."""
    good = [0.0, 0.0, 0.0]
    (region,) = decided([[0.7, 0.2, 0.0], [0.1, 0.85, 0.0], good, good], "unknown")
    assert (region.class_name, region.tiles, region.confidence) == (UNKNOWN, 2, pytest.approx(0.95))
    assert region.candidates == (("crazing", 0.85), ("scratches", 0.1), ("patches", 0.0))
    assert decided([[0.7, 0.2, 0.0], good, good, good], "unknown", sharpness=2.0)[0].confidence == pytest.approx(0.9)
    (region,) = decided([good, good, good, [0.2, 0.5, 0.1]], "unknown", [0.1, 0.1, 0.1, 2.0])
    assert (region.class_name, region.anomaly, region.candidates[0][0]) == (UNKNOWN, 2.0, "crazing")


def test_certain_defect_of_uncertain_class_is_not_lost() -> None:
    """A taught class that reaches its threshold gives the name; otherwise the defect is unknown; good stays good."""
    rows = [[0.8, 0.1, 0.0], [0.45, 0.5, 0.0], [0.0, 0.0, 0.0], [0.5, 0.42, 0.0]]
    named, unknown = sorted(decided(rows, "taught"), key=lambda region: region.box_px)
    assert (named.class_name, named.tiles, named.candidates) == ("scratches", 2, ())
    assert (unknown.class_name, unknown.candidates[0]) == (UNKNOWN, ("scratches", 0.5))
    assert unknown.confidence >= CERTAIN
    assert [region.class_name for region in decided(rows, "classes")] == ["scratches"]


def test_track_of_an_unknown_defect_gathers_its_candidates() -> None:
    """The highest probability of each name; a defect that gets a name has no candidates."""
    tracker = Tracker(config.Decision(), 100, lambda: "t")
    changes: list[Any] = []
    for number, row in enumerate([[0.6, 0.3, 0.05], [0.5, 0.45, 0.0]]):
        found = decide(np.array([row], np.float32), BOXES[:1], CELLS[:1], THRESHOLDS, has_good=True, naming="unknown")
        changes += tracker.step(found, number)
    (opened,) = changes
    assert opened.defect.candidates == (("scratches", 0.6), ("crazing", 0.45), ("patches", 0.05))
    assert opened.defect.as_json()["candidates"][0] == {"class": "scratches", "confidence": 0.6}
