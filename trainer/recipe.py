"""Every number of a training run, in values that go into the model card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from trainer.augment import Changes

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Ranges are checked where a recipe is read from a file."""


class TrainingError(Exception):
    """The data or the options do not allow training; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Settings of one run of `fit`, whatever it trains."""

    epochs: Count = 120
    batch: Count = 64
    """Tiles in a step, over all processes."""
    learning_rate: Rate = 4e-3
    """Peak of a one-cycle schedule."""
    warm_up: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the steps until the peak."""
    weight_decay: Weight = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.02
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Share that the running average of the weights keeps at each step."""
    warped_share: Share = 0.5
    """Of a batch. The rest stays sharp: with every picture warped the student under-fits."""
    plain_share: Share = 0.4
    """Of a batch. Without noise and blur, and with little change of light: where every tile is changed much, faint
    defects are not learned, and where few are, noise is not."""
    noise: Weight = 20.0
    """Largest standard deviation, in gray levels at the size of the network's input."""
    light_from: Share = 0.75
    """Share of the steps after which tiles are warped less. Light and noise change as before: lightened with the rest,
    they cost 5 points under noise."""
    light_strength: Share = 0.35
    share_defects: Rate = 0.5
    """Shares of an epoch by source; what is missing is made up by the others."""
    share_good: Weight = 0.16
    share_strip_good: Weight = 0.14
    share_strip_defects: Weight = 0.16
    share_crops: Weight = 0.16
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a lower held-out loss after which it ends with the best average; 0 never."""
    bf16: bool = False
    """Convolutions in bfloat16 where the processor or GPU has it; weights, sums and losses stay float32."""

    def changes(self, *, late: bool = False) -> Changes:
        """How tiles are changed.  late: after `light_from`."""
        return Changes(
            warped=self.warped_share,
            plain=self.plain_share,
            warp=self.light_strength if late else 1.0,
            noise=self.noise,
        )


@dataclass(frozen=True, slots=True)
class Recipe(Fit):
    """A student."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    strip_seeds: Annotated[int, Field(ge=0)] = 96
    """Number of generated strips, from seed 1000 on; seed 1 stays for the demonstration."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """alpha * CE(labels, student) + (1 - alpha) * tau^2 * KL(teacher^tau || student^tau) + features * (1 - cosine)."""

    alpha: Share = 0.3
    tau: Rate = 3.0
    features: Weight = 0.0
    """Weight of the distance between the teacher's pooled features and a linear image of the student's; 0 is off."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the teacher's training with a schedule of its own."""

    name: str
    trained: Literal["head", "last", "all"]
    """head, last (the last blocks too) or all."""
    epochs: Count
    learning_rate: Rate


Stages = Annotated[tuple[Stage, ...], Field(min_length=1)]

PRETRAINED = (Stage("head", "head", 4, 4e-3), Stage("last", "last", 12, 1e-3), Stage("all", "all", 12, 4e-4))
SCRATCH = (Stage("scratch", "all", 90, 2e-3),)
"""Random features are worth nothing, so freezing them is: one long schedule for everything."""


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """EfficientNet-B0."""

    weights: str = "auto"
    """imagenet, none, a file, or auto: imagenet where it can be had, else none."""
    input_px: Annotated[int, Field(ge=32)] = 100
    """Side that tiles are scaled to before the network."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    last_blocks: Annotated[int, Field(ge=1, le=9)] = 3
    """Of the nine parts of the backbone, those that stage `last` trains."""
    fit: Fit = field(default_factory=lambda: Fit(batch=32, weight_decay=0.05, label_smoothing=0.05, average=0.998))
    pretrained: Stages = PRETRAINED
    scratch: Stages = SCRATCH
