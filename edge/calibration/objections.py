"""What speaks against an anomaly model: a person who has looked at the footage may overrule it, by name."""

from __future__ import annotations

from typing import Final

from edge.calibration.anomaly import Collector, Fit

MAX_CALLED_DEFECTIVE: Final = 0.2
"""Share of the frames. The shipped model calls defective: of good tiles 0 % (generated strip), 3 % (237, cold-rolled)
and 10 % (51, hot-rolled); of defective frames 53 % (generated strip), 73 % (210, cold-rolled) and 89 % (18,
hot-rolled)."""
MAX_NAMED: Final = 3
"""Frames that the message names."""


def objections(collector: Collector, found: Fit) -> tuple[str, ...]:
    """Each reason not to accept the model, with its figures.

    Only frames that the model is made of count: those that were left out do no harm.
    """
    reasons = []
    called = [frame for frame in found.kept if collector.called_defective[frame]]
    share = len(called) / max(1, len(found.kept))
    if share > MAX_CALLED_DEFECTIVE:
        named = ", ".join(collector.labels[frame][:100] for frame in called[:MAX_NAMED])
        reasons.append(
            f"the classes of the model call {len(called)} of {len(found.kept)} frames ({share:.0%}) defective, for "
            f"example {named}: after this calibration such frames are good"
        )
    if found.supported_rate is not None:
        times = found.promise.threshold / float(found.maxima.max())
        reasons.append(
            f"the threshold for {found.allowed_text} is {times:.1f} times the largest score of this footage: small "
            f"defects will be missed. This footage supports about {found.supported_rate:.2g} {found.unit}: allow that, "
            "or give more footage"
        )
    return tuple(reasons)
