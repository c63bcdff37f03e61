"""The teacher: EfficientNet-B0 with the outputs of a student, for distillation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trainer.data.samples import Samples
from trainer.networks.torchvision_backbone import EfficientNet_B0_Weights, efficientnet_b0
from trainer.recipe import TeacherRecipe, TeacherStage, TrainingError
from trainer.training.checkpoint import read, write
from trainer.training.loop import Epoch, fit

FORMAT = "defectd.teacher/1"
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of ImageNet, which the pretrained weights expect, for values 0 to 1."""
IMAGENET, NONE, AUTO = "imagenet", "none", "auto"

Weights = Mapping[str, Tensor]


class Teacher(nn.Module):
    """torchvision's backbone with the outputs of a student: class logits, pooled features and, optionally, `good`."""

    mean: Tensor
    spread: Tensor

    def __init__(self, classes: int, *, good: bool, input_px: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.input_px = input_px
        self.features = efficientnet_b0(num_classes=classes).features
        width = 1280
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(width, classes)
        self.good = nn.Linear(width, 1) if good else None
        for head in (self.classes, self.good):
            if head is not None:
                nn.init.normal_(head.weight, 0, 0.01)
                nn.init.zeros_(head.bias)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None], persistent=False)
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

    folder: for the checkpoints, one for each stage; finished stages are not trained again.  Raises TrainingError.
    """
    torch.manual_seed(seed)
    teacher = Teacher(classes, good=good, input_px=recipe.input_px, dropout=recipe.dropout)
    origin = start(teacher, recipe.weights)
    teacher.to(device)
    for number, stage in enumerate(stages(recipe, origin), 1):
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
    return teacher, origin


def stages(recipe: TeacherRecipe, origin: str) -> tuple[TeacherStage, ...]:
    """The schedules for these first weights."""
    return recipe.scratch if origin == NONE else recipe.pretrained


def start(teacher: Teacher, weights: str) -> str:
    """Load the first weights into the backbone; returns their origin, for the record."""
    if weights == NONE:
        return NONE
    if weights in (IMAGENET, AUTO):
        try:
            found = EfficientNet_B0_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            if weights == AUTO:
                return NONE
            raise TrainingError(
                f"the ImageNet weights cannot be downloaded ({error}). Give a file by --weights FILE, or train from "
                "scratch by --weights none"
            ) from error
        _load_backbone(teacher, found, IMAGENET)
        return EfficientNet_B0_Weights.IMAGENET1K_V1.name
    path = Path(weights)
    content = read(path)
    _load_backbone(teacher, content["weights"] if content.get("format") == FORMAT else content, str(path))
    return f"file with sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def has_imagenet_weights() -> bool:
    """Whether the ImageNet weights of the teacher lie on this machine.  Asks no network."""
    name = EfficientNet_B0_Weights.IMAGENET1K_V1.url.rsplit("/", maxsplit=1)[-1]
    return (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()


def _load_backbone(teacher: Teacher, weights: Weights, name: str) -> None:
    """Load `features.*` from weights of torchvision's efficientnet_b0 or of a teacher; the head stays unchanged."""
    own = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
    try:
        teacher.features.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise TrainingError(f"{name}: not the weights of an EfficientNet-B0: {first}") from error


def save(
    teacher: Teacher, path: Path, *, classes: Sequence[str], recipe: TeacherRecipe, origin: str, **record: Any
) -> None:
    """Write a trained teacher, atomically."""
    content = {
        "format": FORMAT,
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
    if content.get("format") != FORMAT:
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
    teacher = Teacher(len(classes), good=content["good"], input_px=content["input_px"])
    teacher.load_state_dict(content["weights"])
    return teacher.eval()
