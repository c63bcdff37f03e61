"""Losses: cross-entropy with the labels, and distillation."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainer.recipe import Distillation, TrainingError

Outputs = tuple[Tensor, Tensor, Tensor | None]
"""Outputs of every network of the trainer: logits (B, C), features (B, F), good (B, 1) or None."""


def joined(logits: Tensor, good: Tensor | None) -> Tensor:
    """The logits of one softmax over classes and `good`: (B, C) or (B, C + 1)."""
    return logits if good is None else torch.cat([logits, good], 1)


class LabelLoss(nn.Module):
    """Cross-entropy with the labels."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    @property
    def identity(self) -> str:
        """A checkpoint is only resumed with a loss of the same identity."""
        return f"labels {self.smoothing}"

    def forward(self, outputs: Outputs, labels: Tensor, tiles: Tensor) -> Tensor:
        """labels: (B,) int64.  tiles: (B, 1, S, S), the input of the network.  Returns the mean, a scalar."""
        del tiles
        logits, _, good = outputs
        return cross_entropy(joined(logits, good).float(), labels, label_smoothing=self.smoothing)


class DistillationLoss(nn.Module):
    """Distillation from one or several teachers, which see the same augmented tiles as the student.

    The target is the mean of the teachers' softened probabilities. The teachers are copied and never trained; the
    linear projections of the student's features are trained.  student_features: needed if `recipe.features` is not 0.
    """

    def __init__(
        self, teachers: Sequence[nn.Module], recipe: Distillation, *, smoothing: float = 0.0, student_features: int = 0
    ) -> None:
        super().__init__()
        if not teachers:
            raise TrainingError("distillation needs at least one teacher")
        self.recipe = recipe
        self.labels = LabelLoss(smoothing)
        self.teachers = tuple(folded(teacher) for teacher in teachers)
        widths = [int(teacher.classes.in_features) for teacher in self.teachers] if recipe.features else []
        self.images = nn.ModuleList(nn.Linear(student_features, width) for width in widths)

    @property
    def identity(self) -> str:
        return f"{self.labels.identity} {asdict(self.recipe)} {' '.join(weights_sha256(t) for t in self.teachers)}"

    def forward(self, outputs: Outputs, labels: Tensor, tiles: Tensor) -> Tensor:
        logits, features, good = outputs
        with torch.no_grad():
            outputs_of_teachers: list[Outputs] = [teacher(tiles) for teacher in self.teachers]
        soft = self._soft(outputs_of_teachers)
        tau, alpha = self.recipe.tau, self.recipe.alpha
        mine = log_softmax(joined(logits, good).float() / tau, 1)
        if mine.shape != soft.shape:
            raise TrainingError(
                f"the teacher has {soft.shape[1]} outputs, the student {mine.shape[1]}: train a new one"
            )
        loss = alpha * self.labels(outputs, labels, tiles)
        loss = loss + (1 - alpha) * tau**2 * kl_div(mine, soft, reduction="batchmean")
        for projection, (_, target, _) in zip(self.images, outputs_of_teachers, strict=False):
            near = cosine_similarity(projection(features).float(), target.float(), dim=1).mean()
            loss = loss + self.recipe.features / len(self.images) * (1 - near)
        return loss

    def _soft(self, outputs: Sequence[Outputs]) -> Tensor:
        each = [(joined(logits, good).float() / self.recipe.tau).softmax(1) for logits, _, good in outputs]
        return torch.stack(each).mean(0)  # (B, C) or (B, C + 1)


def folded(network: nn.Module) -> nn.Module:
    """A frozen copy that is a fifth faster: BatchNorm is folded into the convolution before it in a Sequential."""
    copied = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    for part in [m for m in copied.modules() if isinstance(m, nn.Sequential)]:
        for place, (conv, norm) in enumerate(itertools.pairwise(list(part))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[place], part[place + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return copied


def weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
