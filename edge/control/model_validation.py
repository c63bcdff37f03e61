"""What a bundle has to show before this box lets it decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge import config
from edge.errors import BundleError, ConfigError
from edge.host.clock import NS_PER_MS, NS_PER_S, Clock
from edge.host.interleaved_timer import interleaved, lower_quartile_ns
from edge.model import bundle, signature
from edge.model.bundle import Bundle, selftest_tiles
from edge.model.classifier import Classifier
from edge.model.variant import choose
from edge.vision import anomaly
from edge.vision.thresholds import Thresholds

TILES: Final = 16
"""About a line-scan frame."""
MIN_ROUNDS, MAX_ROUNDS = 3, 15
LONGEST_NS: Final = NS_PER_S
"""For the timing of one that is slow."""


@dataclass(frozen=True, slots=True)
class ValidatedModel:
    """A bundle that may be used here.  frame_ms: what its network takes for TILES tiles on this box."""

    bundle: Bundle
    classifier: Classifier
    frame_ms: float

    @property
    def identity(self) -> dict[str, str]:
        return identity(self.bundle, self.classifier)


def identity(loaded: Bundle, classifier: Classifier) -> dict[str, str]:
    """What events say of the model that decided them."""
    card = loaded.card
    return {"name": card.name, "version": card.version, "sha256": classifier.sha256, "bundle": loaded.digest}


def signed(loaded: Bundle, model: config.Model, *, allow_unsigned: bool = False) -> str | None:
    """The trusted key that vouches for it, None where nobody needs to.  Raises BundleError."""
    if (allow_unsigned or model.allow_unsigned) and (loaded.signature is None or not model.trusted_keys):
        return None
    return signature.verify(loaded.origin, loaded.card_bytes, loaded.signature, model.trusted_keys)


def validate(loaded: Bundle, model: config.Model, cameras: Iterable[config.Camera], clock: Clock) -> ValidatedModel:
    """Run the self-test, hold its classes against the thresholds and its time against the budgets.

    The session is warm when it returns.  Raises BundleError.
    """
    cameras = tuple(cameras)
    classifier = choose(loaded, model, clock).classifier
    for camera in cameras:
        try:
            Thresholds.of(camera.decision, loaded.card.classes, camera.name)
        except ConfigError as error:
            raise BundleError(f"{loaded.origin}: does not fit the thresholds: {error.problems[0]}") from None
        try:
            anomaly.of_camera(camera, loaded.card)
        except ConfigError as error:
            raise BundleError(f"{loaded.origin}: does not fit the calibration: {error.problems[0]}") from None
    classifier.score(selftest_tiles(1, classifier.batch, loaded.card.input_px))  # the largest call allocates
    frame_ms = _frame_ms(classifier, clock)
    tightest = min(cameras, key=lambda camera: camera.budget_ms)
    if frame_ms > tightest.budget_ms:
        raise BundleError(
            f"{loaded.origin}: too slow for this box: {TILES} tiles take {frame_ms:.1f} ms, "
            f"camera {tightest.name} has budget_ms {tightest.budget_ms:g}"
        )
    return ValidatedModel(loaded, classifier, frame_ms)


def _frame_ms(classifier: Classifier, clock: Clock) -> float:
    tiles = selftest_tiles(1, TILES, classifier.card.input_px)
    (spent,) = interleaved(
        [lambda: classifier.score(tiles)], MAX_ROUNDS, clock, warm_up=0, limit_ns=LONGEST_NS, min_rounds=MIN_ROUNDS
    )
    return lower_quartile_ns(spent) / NS_PER_MS


def load(where: str, model: config.Model, *, allow_unsigned: bool = False) -> tuple[Bundle, str | None]:
    """Read a bundle that is to be installed, and who signed it.  Raises BundleError."""
    loaded = bundle.load(where)
    return loaded, signed(loaded, model, allow_unsigned=allow_unsigned)
