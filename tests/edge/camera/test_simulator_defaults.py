"""Generated strips that know their own scale, direction and speed."""

from __future__ import annotations

from pathlib import Path

import defect_extent
import numpy as np
import pytest

from edge import config
from edge.camera.simulator_defaults import described
from edge.camera.sources.simulator import Strip
from edge.coverage.strip_position import PositionTracker
from edge.host.clock import NS_PER_S
from edge.vision.metrology import Heading, Ruler

SHIPPED = Path(__file__).parents[3] / "config.yaml"


def configured(*sources, travel=None, **camera):
    cameras = [{"name": f"camera{n}", "source": source, **camera} for n, source in enumerate(sources)]
    settings = config.Config.model_validate({"node": "line3", "cameras": cameras, "travel": travel or {}})
    return described(settings)


def test_first_run_places_each_defect_where_it_lies_on_the_strip():
    """With the shipped configuration, frame by frame: 0.25 mm for each row from the start of the strip."""
    settings = described(config.load(SHIPPED))
    (camera,) = settings.cameras
    travel, heading = PositionTracker(settings.travel, 0), Heading.of(Ruler.of(camera.scale), camera.direction)
    strip, seen = Strip.from_url(camera.source.get_secret_value()), 0
    for n in range(0, 600, 7):
        position = travel.at(int(n / camera.fps * NS_PER_S))
        for defect, box in strip.truth(n):
            if box[3] == defect.box[3]:
                span = heading.span(box, (strip.width, strip.height), position)
                assert span.near.position.m == pytest.approx(defect.box[1] * 0.25 / 1000)
                assert span.length_mm == pytest.approx(defect.box[3] * 0.25, abs=0.1)
                seen += 1
    assert seen > 20


def test_speed_of_a_strip_follows_from_travel_pace_and_scale():
    """At the default pace if none is set; no speed for a strip that stands still or is not paced."""
    url = "strip:?mm_per_px=0.5&speed_px=10"
    assert configured(url).travel.speed_m_per_s == pytest.approx(0.15)
    assert configured(url, fps=60).travel.speed_m_per_s == pytest.approx(0.3)
    assert configured(url, fps=0).travel.speed_m_per_s is None
    assert configured("strip:?mm_per_px=0.5&speed_px=0").travel.speed_m_per_s is None


def test_configured_keys_override_those_of_the_strip():
    """Each key for itself; a topic is a source of the speed, too."""
    url, scale = "strip:?mm_per_px=0.25", {"mm_per_px": 2.0}
    settings = configured(url, scale=scale, direction="left", travel={"speed_m_per_s": 3.0})
    assert (settings.cameras[0].scale.mm_per_px, settings.cameras[0].direction) == (2.0, "left")
    assert settings.travel.speed_m_per_s == 3.0
    assert configured(url, travel={"topic": "drive"}).travel.speed_m_per_s is None
    assert configured(url, scale=scale).cameras[0].direction == "up"


@pytest.mark.parametrize(
    "source", ["0", "clip.mp4", "strip:", "strip:?mm_per_px=-1", "strip:?mm_per_px=x", "strip:?no=1"]
)
def test_no_other_source_has_a_position(source):
    """A real camera, a strip without a scale, and one that will not open get no scale, direction or speed."""
    settings = configured(source)
    assert (settings.cameras[0].scale, settings.cameras[0].direction) == (None, None)
    assert settings.travel == config.Travel()
    assert configured("strip:?mm_per_px=0.25", source).travel == config.Travel(), "beside a strip"


def test_two_strips_have_a_speed_only_if_it_is_the_same():
    """The node has one strip."""
    assert configured("strip:?mm_per_px=0.25", "strip:?mm_per_px=0.25&seed=2").travel.speed_m_per_s == pytest.approx(
        0.18
    )
    assert configured("strip:?mm_per_px=0.25", "strip:?mm_per_px=0.5").travel.speed_m_per_s is None


def test_closing_events_measure_the_defects_of_the_first_run():
    """Length and position of most are within a few millimetres of the truth, where a tile is 50 mm."""
    off = defect_extent.strip(500)
    assert len(off) > 8
    assert np.median(off, axis=0).max() < 4
    assert np.quantile(off, 0.8, axis=0).max() < 10
