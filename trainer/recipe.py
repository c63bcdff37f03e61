"""Every number of a training run, in one value that goes into the model card."""

from __future__ import annotations

from dataclasses import dataclass, replace


class TrainingError(Exception):
    """The data or the options do not allow training; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one run of `fit`."""

    epochs: int = 120
    batch: int = 64
    learning_rate: float = 4e-3
    """Peak of a one-cycle schedule."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.02
    dropout: float = 0.1
    average: float = 0.995
    """Share that the running average of the weights keeps at each step."""
    warped_share: float = 0.5
    """Of a batch. The rest stays sharp: with every picture warped the student under-fits."""
    light_from: float = 0.6
    """Share of the steps after which augmentation is lightened."""
    light_strength: float = 0.35
    share_defects: float = 0.5
    """Shares of an epoch by source; what is missing is made up by the others."""
    share_good: float = 0.16
    share_strip_good: float = 0.14
    share_strip_defects: float = 0.16
    strip_seeds: int = 96
    """Number of generated strips, from seed 1000 on; seed 1 stays for the demonstration."""


def quick(recipe: Recipe) -> Recipe:
    """A run of seconds that shows whether everything works; its model is worth nothing."""
    return replace(recipe, epochs=min(recipe.epochs, 2), strip_seeds=min(recipe.strip_seeds, 3))
