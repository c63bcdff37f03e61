"""The probabilities from which a tile is a defect or unsure, in the class order of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge import config
from edge.errors import ConfigError, Problem
from edge.frame import Float32s
from edge.host.suggestion import did_you_mean


@dataclass(frozen=True, slots=True)
class Thresholds:
    """per_class: (classes,) float32, a tile is a defect from this probability on.  unsure: unsure from here on.

    No class's threshold is below `unsure`: the configuration ensures it.
    """

    classes: tuple[str, ...]
    per_class: Float32s
    unsure: float

    @classmethod
    def of(
        cls,
        decision: config.Decision,
        classes: Sequence[str],
        camera: str,
        calibrated_thresholds: config.CalibratedThresholds | None = None,
    ) -> Thresholds:
        """The thresholds in the model's class order.  Raises ConfigError for a class the model does not know.

        A class that `decision.classes` names has that threshold; then come calibrated_thresholds, then
        `decision.confidence`.
        """
        calibrated = {} if calibrated_thresholds is None else calibrated_thresholds.classes
        named = {f"decision.classes.{name}": name for name in decision.classes}
        named |= {f"calibrated_thresholds.classes.{name}": name for name in calibrated}
        unknown = {key: name for key, name in named.items() if name not in classes}
        if unknown:
            remedy = f"The model knows: {', '.join(classes)}"
            problems = [
                Problem(
                    f"{key} of camera {camera}", name, "not a class of the model", did_you_mean(name, classes) + remedy
                )
                for key, name in unknown.items()
            ]
            raise ConfigError("configuration", tuple(problems))
        general = {name: max(calibrated.get(name, decision.confidence), decision.unsure) for name in classes}
        per_class = [decision.classes.get(name, general[name]) for name in classes]
        return cls(tuple(classes), np.array(per_class, np.float32), decision.unsure)
