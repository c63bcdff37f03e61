"""What a bundle has to prove before this node lets it decide: signature, classes, calibrations, speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge import config
from edge.control.loaded_model import LoadedModel
from edge.errors import BundleError, ConfigError
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock
from edge.host.interleaved_timer import interleaved, lower_quartile_ns
from edge.model import bundle, signature
from edge.model.bundle import Bundle, selftest_tiles
from edge.model.classifier import Classifier
from edge.vision import anomaly
from edge.vision.taught_classes import classes_of
from edge.vision.thresholds import Thresholds

TIMED_TILES: Final = 16
"""About as many as a line-scan frame has."""
MIN_ROUNDS, MAX_ROUNDS = 3, 15
MAX_TIMING_NS: Final = NS_PER_S
"""Timing ends after this time, and MIN_ROUNDS."""


def load(where: str, model: config.Model, *, allow_unsigned: bool = False) -> tuple[Bundle, str | None]:
    """Read a bundle that is to be installed, and check its signature.  Returns it with the key that signed it.

    Raises BundleError.
    """
    loaded = bundle.load(where)
    return loaded, check_signature(loaded, model, allow_unsigned=allow_unsigned)


def check_signature(loaded: Bundle, model: config.Model, *, allow_unsigned: bool = False) -> str | None:
    """The trusted key that signed the bundle; None where the configuration demands none.  Raises BundleError."""
    if (allow_unsigned or model.allow_unsigned) and (loaded.signature is None or not model.trusted_keys):
        return None
    return signature.verify(loaded.origin, loaded.card_bytes, loaded.signature, model.trusted_keys)


def validate(model: LoadedModel, cameras: Sequence[config.Camera], clock: Clock) -> float:
    """Compare its classes with the cameras' thresholds, and its speed with their budgets.

    Returns the milliseconds that its network takes for TIMED_TILES tiles on this machine; the network is warm then.
    Raises BundleError.
    """
    origin, card = model.bundle.origin, model.bundle.card
    for camera in cameras:
        try:
            Thresholds.of(camera.decision, classes_of(camera, card), camera.name)
        except ConfigError as error:
            raise BundleError(f"{origin}: does not fit the thresholds: {error.problems[0]}") from None
        try:
            anomaly.of_camera(camera, card)
        except ConfigError as error:
            raise BundleError(f"{origin}: does not fit the calibration: {error.problems[0]}") from None
    classifier = model.classifier
    classifier.score(selftest_tiles(1, classifier.batch, card.input_px))  # the largest call allocates
    frame_ms = _frame_ms(classifier, clock)
    tightest = min(cameras, key=lambda camera: camera.budget_ms)
    if frame_ms > tightest.budget_ms:
        raise BundleError(
            f"{origin}: too slow for this machine: {TIMED_TILES} tiles take {frame_ms:.1f} ms, "
            f"camera {tightest.name} has budget_ms {tightest.budget_ms:g}"
        )
    return frame_ms


def _frame_ms(classifier: Classifier, clock: Clock) -> float:
    tiles = selftest_tiles(1, TIMED_TILES, classifier.card.input_px)
    (spent,) = interleaved(
        [lambda: classifier.score(tiles)], MAX_ROUNDS, clock, warm_up=0, limit_ns=MAX_TIMING_NS, min_rounds=MIN_ROUNDS
    )
    return lower_quartile_ns(spent) / NS_PER_MS
