"""Calibrate on ten minutes of good strip, then inspect an hour with defects."""

import itertools

import pytest
from fakes.clock import FakeClock
from pydantic import SecretStr

from edge import config
from edge.calibration.anomaly import AllowedAlarms, Collector, Pace, fit
from edge.camera.sources.simulator import Strip
from edge.host.clock import NS_PER_S
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision.boxes import overlap_px
from edge.vision.inspector import Inspector
from edge.vision.tracker import Tracker

FPS = 30
MIN_PX = 20
"""5 mm at a quarter of a millimetre per px."""


def hour(folder, *, good_frames, frames):
    """False alarms, the defects of the strip, and the defects that were found."""
    classifier = Classifier(bundle.load("builtin"), network="student.int8.onnx")
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    collector = Collector(Inspector(camera, classifier, FakeClock()), classifier)
    clean = Strip(spacing_px=1_000_000)
    for number in range(good_frames):
        collector.add(str(number), clean.frame(number), follows=number > 0)
    path = folder / "top.npz"
    path.write_bytes(fit(collector, AllowedAlarms(1.0, None), Pace(FPS, 2, 3)).anomaly.coded())
    inspector = Inspector(camera.model_copy(update={"anomaly": (path,)}), classifier, FakeClock())
    ids = itertools.count()
    tracker = Tracker(camera.decision, camera.tile_px, lambda: str(next(ids)))
    strip = Strip()
    false, there, found = 0, set(), set()
    for number in range(frames):
        shown = strip.truth(number)
        there |= {defect.track for defect, box in shown if min(box[2:]) >= MIN_PX}
        detections = inspector.inspect_alone(strip.frame(number)).detections
        for change in tracker.step(detections, number * NS_PER_S // FPS):
            if change.type == "defect.opened":
                hits = {defect.track for defect, box in shown if overlap_px(change.defect.box_px, box)}
                found |= hits
                false += not hits
    last = {defect.track for defect, _ in strip.truth(frames - 1)}
    return false, there - last, found


@pytest.mark.soak
def test_an_hour_of_strip_gives_no_more_alarms_than_allowed_and_every_defect(tmp_path):
    """108,000 frames: at most one false alarm, and every defect of at least 5 mm."""
    false, there, found = hour(tmp_path, good_frames=18_000, frames=108_000)
    assert false <= 1
    assert there - found == set()
    assert len(there) > 2000


def test_seven_seconds_of_strip_give_no_alarm_and_every_defect(tmp_path):
    """The same, short: after 600 good frames.  Half as many would put the threshold above every defect."""
    false, there, found = hour(tmp_path, good_frames=600, frames=200)
    assert false == 0
    assert there
    assert there - found == set()
