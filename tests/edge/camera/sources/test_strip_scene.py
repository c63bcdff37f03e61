"""The shipped network, the inspector and the tracks on the generated strip: the truth is known, so it is compared."""

from __future__ import annotations

from itertools import count

import pytest
from fakes.strip_defects import defects_of
from pydantic import SecretStr

from edge import config
from edge.camera.sources.simulator import Strip
from edge.host.clock import SystemClock
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision.inspector import Inspector
from edge.vision.tracker import Tracker

FRAMES = 600
FRAME_NS = 33_000_000
TRAILING_FRAMES = 12
"""A defect is closed some frames after it left the picture."""


def events_of(strip: Strip) -> list[tuple[str, str, int]]:
    """Type, class and frame of every change."""
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    inspector = Inspector(camera, Classifier(bundle.load("builtin")), SystemClock())
    numbers = count()
    tracks = Tracker(camera.decision, camera.tile_px, lambda: str(next(numbers)))
    return [
        (change.type, change.defect.class_name, number)
        for number in range(FRAMES)
        for change in tracks.step(inspector.inspect_alone(strip.frame(number)).detections, number * FRAME_NS)
    ]


@pytest.mark.parametrize("seed", [1, 3])
def test_strip_defects_are_each_opened_once_and_closed_once_with_their_class(seed: int) -> None:
    """Over twenty seconds of strip each defect is reported exactly once with its class, and nothing else is."""
    strip = Strip(seed=seed)
    events, truth = events_of(strip), defects_of(strip, FRAMES, TRAILING_FRAMES)
    assert len(truth) >= 10
    for kind, slack in (("defect.opened", 0), ("defect.closed", TRAILING_FRAMES)):
        seen = [(name, number) for type_, name, number in events if type_ == kind and number <= truth[-1][2] + slack]
        assert [name for name, _ in seen] == [name for name, _, _ in truth]
        assert all(first < number <= last + slack for (_, number), (_, first, last) in zip(seen, truth, strict=True))
