"""The hyperparameters of a training run, as values that go into the model card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from trainer.augment import Changes

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""pydantic checks these ranges when a recipe is read from a file."""


class TrainingError(Exception):
    """The data or the options do not allow training; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Settings of one call of `fit`, for any network."""

    epochs: Count = 120
    min_steps: Annotated[int, Field(ge=0)] = 0
    """With few pictures an epoch has few steps: as many more epochs as this number of steps needs."""
    batch: Count = 64
    """Tiles of a step, over all processes."""
    learning_rate: Rate = 4e-3
    """Maximum of a one-cycle schedule."""
    warm_up: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the steps until the maximum."""
    weight_decay: Weight = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.02
    average: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the running average of the weights at each step."""
    warped_share: Share = 0.5
    """Share of a batch that is warped. The rest stays sharp: with every tile warped the student underfits."""
    plain_share: Share = 0.4
    """Share of a batch without noise and blur, and with little change of light. With too few plain tiles the network
    does not learn faint defects, with too many it does not learn to tolerate noise."""
    noise: Weight = 20.0
    """Maximum standard deviation, gray levels at the size of the network's input."""
    light_from: Share = 0.75
    """Share of the steps after which tiles are warped less. Light and noise keep their strength: weakening them too
    cost 5 points of accuracy under noise."""
    light_strength: Share = 0.35
    """Strength of the warp after `light_from`."""
    inverted: Share = 0.0
    """Share of a batch whose polarity is inverted: another mill's scratches may be dark where these are bright."""
    faint: Annotated[float, Field(gt=0, le=1)] = 0.6065
    """The least contrast, as a share of the picture's own."""
    share_defects: Rate = 0.5
    """Shares of an epoch by source; if a source is empty, the others fill its share."""
    share_good: Weight = 0.16
    share_strip_good: Weight = 0.14
    share_strip_defects: Weight = 0.16
    share_crops: Weight = 0.16
    patience: Annotated[int, Field(ge=0)] = 0
    """Early stopping after this many epochs without a lower held-out loss, with the best average; 0: never."""
    bf16: bool = False
    """Convolutions in bfloat16; weights, sums and losses stay float32."""

    def changes(self, *, late: bool = False) -> Changes:
        """The augmentation.  late: after `light_from`."""
        return Changes(
            warped=self.warped_share,
            plain=self.plain_share,
            warp=self.light_strength if late else 1.0,
            noise=self.noise,
            faint=self.faint,
        )


@dataclass(frozen=True, slots=True)
class Recipe(Fit):
    """Settings of the student."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    strip_seeds: Annotated[int, Field(ge=0)] = 96
    """Number of generated strips, from seed 1000 on."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """alpha * CE(labels, student) + (1 - alpha) * tau^2 * KL(teacher^tau || student^tau) + features * (1 - cosine)."""

    alpha: Share = 0.3
    tau: Rate = 3.0
    features: Weight = 0.0
    """Weight of the distance between the teacher's pooled features and a linear projection of the student's; 0: off."""


@dataclass(frozen=True, slots=True)
class TeacherStage:
    """One stage of the teacher's training, with its own schedule."""

    name: str
    trained: Literal["head", "last", "all"]
    """What is trained: the head, the head and the last blocks, or everything."""
    epochs: Count
    learning_rate: Rate


TeacherStages = Annotated[tuple[TeacherStage, ...], Field(min_length=1)]

PRETRAINED = (
    TeacherStage("head", "head", 4, 4e-3),
    TeacherStage("last", "last", 12, 1e-3),
    TeacherStage("all", "all", 12, 4e-4),
)
SCRATCH = (TeacherStage("scratch", "all", 90, 2e-3),)
"""One long schedule for everything: freezing random features would gain nothing."""


@dataclass(frozen=True, slots=True)
class TeacherRecipe:
    """Settings of the teacher."""

    backbone: Literal["efficientnet_b0", "efficientnet_lite0", "auto"] = "auto"
    """auto: the one whose ImageNet weights lie on this machine, EfficientNet-B0 first."""
    weights: str = "auto"
    """imagenet, none, a file, or auto: imagenet if they are on this machine or can be downloaded, else none."""
    frozen: bool = False
    """Leave the backbone as ImageNet made it, and fit a linear layer to its features: minutes instead of hours."""
    input_px: Annotated[int, Field(ge=32)] | None = None
    """Tiles are scaled to this side.  None: what suits the backbone, 100 for B0 and 160 for Lite0."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    last_blocks: Annotated[int, Field(ge=1, le=9)] = 3
    """Number of the nine blocks of the backbone that stage `last` trains."""
    fit: Fit = field(default_factory=lambda: Fit(batch=32, weight_decay=0.05, label_smoothing=0.05, average=0.998))
    pretrained: TeacherStages = PRETRAINED
    scratch: TeacherStages = SCRATCH
