"""The teacher: a pretrained backbone with the outputs of a student, for distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trainer.data.samples import Samples, epoch_order, shares
from trainer.networks import backbones
from trainer.networks.backbones import B0, BACKBONES, FEATURES, NONE, TEACHER_FORMAT, Backbone
from trainer.recipe import Fit, TeacherRecipe, TeacherStage, TrainingError
from trainer.training import linear_head
from trainer.training.checkpoint import read, write
from trainer.training.loop import Epoch, fit


class Teacher(nn.Module):
    """A backbone with the outputs of a student: class logits, pooled features and, optionally, `good`.

    features: the blocks of the backbone; None builds them with random weights.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        classes: int,
        *,
        good: bool,
        input_px: int,
        dropout: float = 0.2,
        backbone: Backbone = B0,
        features: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        self.input_px, self.backbone = input_px, backbone
        self.features = features or backbone.build()
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(FEATURES, classes)
        self.good = nn.Linear(FEATURES, 1) if good else None
        for head in (self.classes, self.good):
            if head is not None:
                nn.init.normal_(head.weight, 0, 0.01)
                nn.init.zeros_(head.bias)
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(backbone.spread)[:, None, None], persistent=False)
        self._frozen: list[nn.Module] = []
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """tiles: (B, 1, S, S) float32, 0 to 255, any S.  Returns logits (B, C), features (B, 1280), good or None."""
        if tiles.shape[-1] != self.input_px:
            tiles = interpolate(tiles, size=(self.input_px, self.input_px), mode="bilinear", antialias=True)
        x = (tiles / 255 - self.mean) / self.spread  # (B, 3, S, S): the same gray plane three times
        x = self.features(x.contiguous(memory_format=torch.channels_last))  # (B, 1280, S / 32, S / 32)
        features = x.mean((-1, -2))
        kept = self.dropout(features)
        return self.classes(kept), features, None if self.good is None else self.good(kept)

    def unfreeze(self, trained: str, last_blocks: int = 3) -> None:
        """Train only the head, the last blocks too, or all.  Frozen blocks keep their BatchNorm statistics as well."""
        if trained not in ("head", "last", "all"):
            raise TrainingError(f"trained: {trained}: use head, last or all")
        blocks = list(self.features)
        open_blocks = {"head": 0, "last": last_blocks, "all": len(blocks)}[trained]
        self._frozen = blocks[: len(blocks) - open_blocks]
        for block in blocks:
            block.requires_grad_(block not in self._frozen)

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode)
        for block in self._frozen:
            block.eval()
        return self


def train_teacher(
    sources: Sequence[Samples],
    held_out: Samples,
    recipe: TeacherRecipe,
    *,
    classes: int,
    good: bool,
    seed: int,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    report: Callable[[TeacherStage, Epoch], None] = lambda _stage, _epoch: None,
) -> tuple[Teacher, str]:
    """Train a teacher, stage by stage: (the teacher, the origin of its first weights).

    With `recipe.frozen` the backbone stays as it is, and a linear layer is fitted to its features.
    folder: for the checkpoints, one for each stage; finished stages are not trained again.  Raises TrainingError.
    """
    torch.manual_seed(seed)
    start = backbones.start(recipe.backbone, recipe.weights)
    teacher = Teacher(
        classes, good=good, input_px=recipe.input_px or start.backbone.input_px, dropout=recipe.dropout,
        backbone=start.backbone, features=start.network,
    ).to(device)  # fmt: skip
    if recipe.frozen:
        if start.origin == NONE:
            raise TrainingError(
                f"teacher.frozen: needs ImageNet weights: {backbones.HOW_TO_GET}, --weights FILE reads a file"
            )
        return fit_head(teacher, sources, recipe.fit), start.origin
    for number, stage in enumerate(stages(recipe, start.origin), 1):
        teacher.unfreeze(stage.trained, recipe.last_blocks)
        teacher = fit(
            teacher,
            sources,
            held_out,
            replace(recipe.fit, epochs=stage.epochs, learning_rate=stage.learning_rate),
            seed=seed + 1000 * number,
            checkpoint=folder / f"teacher-{number}-{stage.name}.pt" if folder else None,
            report=lambda epoch, stage=stage: report(stage, epoch),  # type: ignore[misc]
        )
    return teacher, start.origin


def fit_head(teacher: Teacher, sources: Sequence[Samples], mix: Fit) -> Teacher:
    """Fit only the linear outputs, to the tiles of one epoch, mirrored and turned too.  Changes the teacher.

    mix: has the shares of the sources.
    """
    order = epoch_order([len(source) for source in sources], shares(mix), torch.Generator().manual_seed(0))
    tiles = torch.stack([sources[source].tiles[place, 0] for source, place in order])
    labels = torch.stack([sources[source].labels[place] for source, place in order])
    features = linear_head.features(teacher, tiles)
    classes = teacher.classes.out_features
    weight, bias = linear_head.fitted(features, labels, classes + (teacher.good is not None))
    with torch.no_grad():
        teacher.classes.weight.copy_(weight[:classes])
        teacher.classes.bias.copy_(bias[:classes])
        if teacher.good is not None:
            teacher.good.weight.copy_(weight[classes:])
            teacher.good.bias.copy_(bias[classes:])
    return teacher.eval()


def stages(recipe: TeacherRecipe, origin: str) -> tuple[TeacherStage, ...]:
    """The schedules for these first weights."""
    return recipe.scratch if origin == NONE else recipe.pretrained


def save(
    teacher: Teacher, path: Path, *, classes: Sequence[str], recipe: TeacherRecipe, origin: str, **record: Any
) -> None:
    """Write a trained teacher, atomically."""
    content = {
        "format": TEACHER_FORMAT,
        "backbone": teacher.backbone.name,
        "classes": list(classes),
        "good": teacher.good is not None,
        "input_px": teacher.input_px,
        "recipe": asdict(recipe),
        "origin": origin,
        "record": record,
        "weights": {name: value.cpu() for name, value in teacher.state_dict().items()},
    }
    write(path, content)


def load(path: Path, *, classes: Sequence[str], good: bool | None = None) -> Teacher:
    """Read a trained teacher.  good: whether it must have that output.  Raises TrainingError if it does not match."""
    content = read(path)
    if content.get("format") != TEACHER_FORMAT:
        raise TrainingError(f"{path}: not a teacher. Train one with `defectd-train teacher`")
    if list(content["classes"]) != list(classes):
        raise TrainingError(
            f"{path} is a teacher for {', '.join(content['classes'])}; the data has {', '.join(classes)}. "
            "Train one on this data"
        )
    if good is not None and content["good"] != good:
        has = "an output" if content["good"] else "no output"
        raise TrainingError(
            f"{path} has {has} for defect-free surface, unlike the student. Train a teacher on this data"
        )
    backbone = BACKBONES[content.get("backbone", B0.name)]  # teachers of older versions are EfficientNet-B0
    teacher = Teacher(len(classes), good=content["good"], input_px=content["input_px"], backbone=backbone)
    teacher.load_state_dict(content["weights"])
    return teacher.eval()
