"""Which network of a bundle this machine runs: fp32, or int8 where it is correct and faster here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from edge import config
from edge.errors import BundleError
from edge.host.clock import NS_PER_MS, Clock
from edge.host.interleaved_timer import interleaved, lower_quartile_ns
from edge.model.bundle import FP32, INT8, Bundle, selftest_tiles
from edge.model.classifier import Classifier

log = logging.getLogger(__name__)

NETWORKS: Final = {FP32: "fp32", INT8: "int8"}
"""Names of the networks of a bundle, by file."""
THREADS: Final = 1
BATCH: Final = 32
"""Defaults where neither the configuration nor a calibration sets them."""
TILES: Final = 8
"""Tiles in each timed call: about half a line-scan frame."""
TIMING_NS: Final = 100 * NS_PER_MS
"""Limit of the timing, which delays every start."""
MIN_ROUNDS, MAX_ROUNDS = 3, 41
GAIN: Final = 0.95
"""Choose int8 only at 95 % of fp32's time or less: on a tie, take fp32, the network that was trained."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A classifier that passed its self-test, and why it was chosen.  gain: time of fp32 over that of int8."""

    classifier: Classifier
    why: str
    gain: float | None = None


def choose(bundle: Bundle, model: config.Model, clock: Clock) -> Choice:
    """Choose the network that `model.precision` names, and test it on this processor.

    `auto` is int8 if the bundle holds it, it passes its self-test and is faster here; otherwise fp32.
    Raises BundleError when the configured network is not in the bundle or fails its self-test.
    """
    if model.precision == "int8" and INT8 not in bundle.networks:
        raise BundleError(
            f"{bundle.origin}: has no {INT8}, which `model.precision: int8` needs. "
            "Set it to auto or fp32, or make one with `defectd-train quantize`"
        )
    if model.precision != "auto":
        return Choice(_tested(bundle, model, INT8 if model.precision == "int8" else FP32), "as configured")
    fp32 = _tested(bundle, model, FP32)
    choice = _faster(bundle, model, fp32, clock)
    log.info("%s %s runs as %s: %s", bundle.card.name, bundle.card.version, choice.classifier.network, choice.why)
    return choice


def _faster(bundle: Bundle, model: config.Model, fp32: Classifier, clock: Clock) -> Choice:
    if INT8 not in bundle.networks:
        return Choice(fp32, "the bundle has no int8")
    try:
        int8 = _tested(bundle, model, INT8)
    except BundleError as error:
        return Choice(fp32, f"int8 is wrong on this processor: {error}")
    gain = gain_of(fp32, int8, clock)
    why = f"int8 takes {1 / gain:.2f} of the time of fp32"
    return Choice(int8 if gain * GAIN >= 1 else fp32, why, gain)


def _tested(bundle: Bundle, model: config.Model, network: str) -> Classifier:
    classifier = Classifier(bundle, threads=model.threads or THREADS, batch=model.batch or BATCH, network=network)
    classifier.selftest()
    return classifier


def gain_of(fp32: Classifier, int8: Classifier, clock: Clock) -> float:
    """Time of fp32 over that of int8.  Measured in turns, so that both see the same load on the machine."""
    tiles = selftest_tiles(1, TILES, fp32.card.input_px)
    calls = [lambda network=network: network.score(tiles) for network in (fp32, int8)]
    times = interleaved(calls, MAX_ROUNDS, clock, warm_up=1, limit_ns=TIMING_NS, min_rounds=MIN_ROUNDS)
    fast = [lower_quartile_ns(spent) for spent in times]
    return (fast[0] + 1) / (fast[1] + 1)  # + 1 ns: a coarse clock sees a tie
