"""Drift of a camera from its calibration: the reference, the detection, and changes that are no drift."""

import cv2
import numpy as np
import pytest
from fakes.clock import FakeClock
from pydantic import SecretStr, ValidationError

from edge import config
from edge.camera.sources.simulator import Strip
from edge.config import calibration
from edge.config.camera_calibration import CameraCalibration, Features, Made, Reference
from edge.config.state_dir import StateDir
from edge.host.clock import NS_PER_S
from edge.model import bundle
from edge.model.bundle import FP32
from edge.model.classifier import Classifier
from edge.vision import drift, image_quality
from edge.vision.drift import DriftDetector, Figures
from edge.vision.inspector import Inspector

MADE = Made(time="2026-11-22T13:46:11.482Z", version="1", source="good/", frames=3000, frame_px=(512, 256))
NETWORK = "ab" * 32


def test_reference_survives_the_file(tmp_path):
    """A saved reference loads equal."""
    strip, rng = Strip(width=512, height=256), np.random.default_rng(1)
    tiles = rng.normal(3.0, 2.0, (500, 8)).astype(np.float32)
    features = drift.features_of(tiles, NETWORK)
    distances = [drift.median_distance(tiles[i : i + 10], features) for i in range(0, 500, 10)]
    sights = [image_quality.image_stats(strip.frame(n)) for n in range(20)]
    made = drift.reference(sights, MADE, distances=distances, features=features, unsure=0.01)
    path = StateDir(tmp_path).calibration("top")
    calibration.save(path, reference=made)
    assert calibration.load(path).reference == made
    assert 0.9 < made.distance.middle < 1.1  # its own tiles
    assert made.brightness.low <= made.brightness.middle <= made.brightness.high


def test_image_stats_measure_brightness_and_sharpness():
    """A blurred picture is less sharp at the same brightness; a darker one is as sharp."""
    sharp = Strip(width=512, height=256).frame(3)
    soft, dim = cv2.GaussianBlur(sharp, (0, 0), 2.0), (sharp // 2).astype(np.uint8)
    plain, blurred, dark = (image_quality.image_stats(picture) for picture in (sharp, soft, dim))
    assert blurred.brightness == pytest.approx(plain.brightness, abs=1)
    assert blurred.sharpness < 0.8 * plain.sharpness
    assert dark.brightness == pytest.approx(plain.brightness / 2, abs=2)
    assert dark.sharpness == pytest.approx(plain.sharpness, rel=0.1)


def test_distance_of_another_material_is_larger():
    """It counts standard deviations: tiles three of them away have a distance of about three."""
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
    """Quantiles rise, distance and features come together, a share is at most one."""
    good = {"low": 1, "middle": 2, "high": 3}
    with pytest.raises(ValidationError):
        Reference.model_validate({"brightness": good, "sharpness": good, "made": MADE, **change})
    with pytest.raises(ValidationError):
        Features(network=NETWORK, mean=(1.0, 2.0), scale=(1.0,))


# ---- detection ---------------------------------------------------------------------------------

STEEL = [Strip(width=512, height=256).frame(n) for n in range(30)]
GOOD = drift.reference([image_quality.image_stats(picture) for picture in STEEL], MADE)
MINUTES = 10


def seen(picture, unsure=None):
    sight = image_quality.image_stats(picture)
    return Figures(sight.brightness, sight.sharpness, unsure=unsure)


def played(watch, picture_at, minutes, from_s=0):
    """Play one frame per second; the share runs from 0 to 1.  Returns each change with its second."""
    reported = []
    for second in range(from_s, from_s + 60 * minutes):
        change = watch.step(seen(picture_at((second - from_s) / (60 * minutes), second)), second * NS_PER_S)
        if change is not None:
            reported.append((second - from_s, change))
    return reported


def dimmed(share, second):
    return (STEEL[second % 30] * (1 - 0.6 * share)).astype(np.uint8)


def defocused(share, second):
    return cv2.GaussianBlur(STEEL[second % 30], (0, 0), 0.05 + 2 * share)


@pytest.mark.parametrize(("fault", "figure"), [(dimmed, "brightness"), (defocused, "sharpness")])
def test_slow_change_is_reported_once_and_cleared_once(fault, figure):
    """It is reported by name within three minutes of leaving the limits, and ends when the camera recovers."""
    watch = DriftDetector(GOOD, 120)
    reported = played(watch, fault, MINUTES)
    assert [change.started for _, change in reported] == [(figure,)]
    limits = drift.limits_of(GOOD)[figure]
    values = [getattr(seen(fault(s / (60 * MINUTES), s)), figure) for s in range(60 * MINUTES)]
    left = next(s for s, value in enumerate(values) if not limits.holds(value, 1.0, only_above=False))
    assert left < reported[0][0] <= left + 180
    assert watch.drifted == (figure,)
    reported = played(watch, lambda _share, second: STEEL[second % 30], 5, 60 * MINUTES)
    assert [(change.started, change.ended) for _, change in reported] == [((), True)]
    assert watch.drifted == ()


def test_light_near_the_limit_gives_no_storm_of_events():
    """A drift starts and ends at different limits, and both take some medians in a row."""
    watch, limits = DriftDetector(GOOD, 60), drift.limits_of(GOOD)["brightness"]
    edge = (limits.low - limits.slack) / GOOD.brightness.middle
    rng = np.random.default_rng(0)

    def trembling(_share, second):
        return (STEEL[second % 30] * (edge + rng.normal(0, 0.01))).astype(np.uint8)

    reported = played(watch, trembling, 10)
    assert len(reported) <= 1


def test_steady_camera_never_drifts():
    """An hour, five frames per second, coils that differ by several percent, some unsure frames: no event."""
    rng = np.random.default_rng(3)

    def frames(hours):
        coil = np.repeat(rng.normal(0, 0.04, (int(hours * 6) + 1, 3)), 3000, axis=0)[: int(hours * 18_000)]
        noise = rng.normal(0, (0.03, 0.04, 0.15), coil.shape)
        return np.array([110.0, 0.6, 1.0]) * (1 + coil + noise), rng.random(len(coil)) < 0.02

    good, _ = frames(0.5)
    features = Features(network=NETWORK, mean=(0.0,), scale=(1.0,))
    spreads = [drift.spread(column.tolist()) for column in good.T]
    known = Reference(
        brightness=spreads[0], sharpness=spreads[1], distance=spreads[2], features=features, unsure=0.02, made=MADE
    )
    watch = DriftDetector(known, 300)
    values, unsure = frames(1)
    changes = [
        watch.step(Figures(*row, is_unsure), n * drift.SAMPLE_NS)
        for n, (row, is_unsure) in enumerate(zip(values.tolist(), unsure.tolist(), strict=True))
    ]
    assert len(changes) == 18_000
    assert set(changes) == {None}
    assert all(figure["now"] is not None for figure in watch.figures().values())
    assert (len(watch._parts), len(watch._sums)) <= (30, 4)


def test_share_of_unsure_frames_is_watched():
    """From 2 % to 50 % is a drift; a reference without the share has no such figure."""
    known = GOOD.model_copy(update={"unsure": 0.02})
    watch, sight = DriftDetector(known, 60), image_quality.image_stats(STEEL[0])
    reported = []
    for second in range(600):
        frame = Figures(sight.brightness, sight.sharpness, unsure=second % (50 if second < 300 else 2) == 0)
        change = watch.step(frame, second * NS_PER_S)
        reported += [] if change is None else [(second, change.started)]
    assert [names for _, names in reported] == [("unsure",)]
    assert 300 < reported[0][0] < 420
    assert set(DriftDetector(GOOD, 60).figures()) == {"brightness", "sharpness"}


def test_limit_is_wide_for_a_reference_of_few_frames():
    """One unsure frame of 25 may mean one in four; 100 of 2,500 mean one in 25."""
    few, many = (
        drift.limits_of(GOOD.model_copy(update={"unsure": 0.04, "made": MADE.model_copy(update={"frames": n})}))
        for n in (25, 2500)
    )
    assert few["unsure"].high > 0.2
    assert many["unsure"].high < 0.06


def test_night_without_frames_is_no_drift():
    """After a pause longer than the window, the window fills again from empty."""
    watch = DriftDetector(GOOD, 60)
    played(watch, lambda _share, s: STEEL[s % 30], 2)
    now = watch.figures()["brightness"]["now"]
    assert now is not None
    assert played(watch, lambda _share, s: dimmed(1.0, s), 1, 36_000) == []
    assert watch.figures()["brightness"]["now"] == now
    assert played(watch, lambda _share, s: dimmed(1.0, s), 2, 36_060) != []


# ---- with the network --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return Classifier(bundle.load("builtin"))


def fitted(network):
    """A camera with a reference made of the generated strip."""
    tiles = np.concatenate([_features(network, picture) for picture in STEEL])
    known = drift.features_of(tiles, network.card.files[FP32])
    distances = [drift.median_distance(_features(network, picture), known) for picture in STEEL]
    made = drift.reference(
        [image_quality.image_stats(p) for p in STEEL], MADE, distances=distances, features=known, unsure=0.0
    )
    camera = config.Camera(name="top", source=SecretStr("strip:"), drift_s=60)
    sizes = {"reference": (512, 256)}
    return camera.with_calibration(CameraCalibration(made_px=sizes, reference=made))


def _features(network, picture):
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return Inspector(camera, network, FakeClock()).inspect_alone(picture).features


def woven(number):
    """Another material, as bright and as sharp as the steel."""
    rng = np.random.default_rng(number)
    cells = cv2.resize(rng.normal(0, 1, (64, 128)).astype(np.float32), (512, 256), interpolation=cv2.INTER_NEAREST)
    picture = STEEL[number % 30].astype(np.float32) + 18 * cells
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_another_material_drifts_by_its_distance(network):
    """Its features lie elsewhere; with another network than the reference's the distance is unknown."""
    camera = fitted(network)
    watch = DriftDetector(camera.calibration.reference, 60)
    here = network.card.files[FP32]
    reported = []
    for second in range(240):
        picture = STEEL[second % 30] if second < 120 else woven(second % 5)
        features = _features(network, picture) if second < 30 or second % 4 == 0 else None
        distance = watch.distance(features, here)
        base = image_quality.image_stats(STEEL[second % 30])
        change = watch.step(Figures(base.brightness, base.sharpness, distance), second * NS_PER_S)
        reported += [] if change is None else [(second, change.started)]
    assert [names for _, names in reported] == [("distance",)]
    assert reported[0][0] > 120
    assert watch.distance(_features(network, STEEL[0]), "cd" * 32) is None
