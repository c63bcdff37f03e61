"""Whether a camera still looks like what was calibrated: the reference, the watch, what it must not alarm at."""

import numpy as np
import pytest
from pydantic import ValidationError

from edge import calibration
from edge.calibration import Features, Made, Reference
from edge.camera.strip import Strip
from edge.vision import drift, health

MADE = Made(time="2026-11-22T13:46:11.482Z", version="1", source="good/", frames=3, frame_px=(512, 256))
NETWORK = "ab" * 32


def test_reference_stands_in_the_file_and_comes_back_equal(tmp_path):
    """Written beside other parts, read as it was."""
    strip, rng = Strip(width=512, height=256), np.random.default_rng(1)
    tiles = rng.normal(3.0, 2.0, (500, 8)).astype(np.float32)
    features = drift.features_of(tiles, NETWORK)
    distances = [drift.median_distance(tiles[i : i + 10], features) for i in range(0, 500, 10)]
    sights = [health.sight(strip.frame(n)) for n in range(20)]
    made = drift.reference(sights, MADE, distances=distances, features=features, unsure=0.01)
    path = calibration.path_of(tmp_path, "top")
    calibration.save(path, reference=made)
    assert calibration.load(path).reference == made
    assert 0.9 < made.distance.middle < 1.1  # of the very tiles it was made of
    assert made.brightness.low <= made.brightness.middle <= made.brightness.high


def test_sight_is_what_the_health_watch_sees():
    """A blurred picture is less sharp at the same brightness; a darker one as sharp."""
    import cv2

    sharp = Strip(width=512, height=256).frame(3)
    soft, dim = cv2.GaussianBlur(sharp, (0, 0), 2.0), (sharp // 2).astype(np.uint8)
    plain, blurred, dark = (health.sight(picture) for picture in (sharp, soft, dim))
    assert blurred.brightness == pytest.approx(plain.brightness, abs=1)
    assert blurred.sharpness < 0.8 * plain.sharpness
    assert dark.brightness == pytest.approx(plain.brightness / 2, abs=2)
    assert dark.sharpness == pytest.approx(plain.sharpness, rel=0.1)


def test_distance_of_another_material_is_larger():
    """In standard deviations: tiles three of them away lie about three away."""
    rng = np.random.default_rng(2)
    known = drift.features_of(rng.normal(0, 1, (2000, 16)).astype(np.float32), NETWORK)
    near = drift.median_distance(rng.normal(0, 1, (40, 16)).astype(np.float32), known)
    far = drift.median_distance(rng.normal(3, 1, (40, 16)).astype(np.float32), known)
    assert near == pytest.approx(1.0, abs=0.2)
    assert far == pytest.approx(np.sqrt(10), abs=0.4)


@pytest.mark.parametrize(
    "change",
    [
        {"brightness": {"low": 5, "middle": 4, "high": 6}},
        {"distance": {"low": 1, "middle": 2, "high": 3}},
        {"features": {"network": NETWORK, "mean": [1.0], "scale": [1.0]}},
        {"unsure": 1.5},
    ],
)
def test_reference_that_makes_no_sense_is_refused(change):
    """Quantiles rise, distance and features belong together, a share is one."""
    good = {"low": 1, "middle": 2, "high": 3}
    with pytest.raises(ValidationError):
        Reference.model_validate({"brightness": good, "sharpness": good, "made": MADE, **change})
    with pytest.raises(ValidationError):
        Features(network=NETWORK, mean=(1.0, 2.0), scale=(1.0,))
