"""Every number of a training run, in values that go into the model card."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


class TrainingError(Exception):
    """The data or the options do not allow training; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Settings of one run of `fit`, whatever it trains."""

    epochs: int = 120
    batch: int = 64
    """Tiles in a step, over all processes."""
    learning_rate: float = 4e-3
    """Peak of a one-cycle schedule."""
    warm_up: float = 0.15
    """Share of the steps until the peak."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.02
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
    patience: int = 0
    """Epochs without a lower held-out loss after which it ends with the best average; 0 never."""
    bf16: bool = False
    """Convolutions in bfloat16 where the processor or GPU has it; weights, sums and losses stay float32."""


@dataclass(frozen=True, slots=True)
class Recipe(Fit):
    """A student."""

    dropout: float = 0.1
    strip_seeds: int = 96
    """Number of generated strips, from seed 1000 on; seed 1 stays for the demonstration."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """alpha * CE(labels, student) + (1 - alpha) * tau^2 * KL(teacher^tau || student^tau) + features * (1 - cosine)."""

    alpha: float = 0.3
    tau: float = 3.0
    features: float = 0.0
    """Weight of the distance between the teacher's pooled features and a linear image of the student's; 0 is off."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the teacher's training with a schedule of its own."""

    name: str
    trained: str
    """head, last (the last blocks too) or all."""
    epochs: int
    learning_rate: float


PRETRAINED = (Stage("head", "head", 4, 4e-3), Stage("last", "last", 12, 1e-3), Stage("all", "all", 12, 4e-4))
SCRATCH = (Stage("scratch", "all", 90, 2e-3),)
"""Random features are worth nothing, so freezing them is: one long schedule for everything."""


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """EfficientNet-B0."""

    weights: str = "auto"
    """imagenet, none, a file, or auto: imagenet where it can be had, else none."""
    input_px: int = 100
    """Side that tiles are scaled to before the network."""
    dropout: float = 0.2
    last_blocks: int = 3
    """Of the nine parts of the backbone, those that stage `last` trains."""
    fit: Fit = field(default_factory=lambda: Fit(batch=32, weight_decay=0.05, label_smoothing=0.05, average=0.998))
    pretrained: tuple[Stage, ...] = PRETRAINED
    scratch: tuple[Stage, ...] = SCRATCH


def quick(recipe: Recipe) -> Recipe:
    """A run of seconds that shows whether everything works; its model is worth nothing."""
    return replace(recipe, epochs=min(recipe.epochs, 2), strip_seeds=min(recipe.strip_seeds, 3))
