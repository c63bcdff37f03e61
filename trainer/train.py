"""The one loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainer.augment import augment
from trainer.models import Student
from trainer.recipe import Recipe
from trainer.samples import Samples, epoch_order, shares


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after an epoch.  right, of: on the pictures kept from training."""

    number: int
    loss: float
    right: int
    of: int


def joined(logits: Tensor, good: Tensor | None) -> Tensor:
    """The outputs in one softmax: (B, C) or (B, C + 1)."""
    return logits if good is None else torch.cat([logits, good], 1)


def fit(
    student: Student,
    sources: Sequence[Samples],
    held_out: Samples,
    recipe: Recipe,
    *,
    seed: int,
    report: Callable[[Epoch], None] = lambda _: None,
) -> Student:
    """Train `student` and return the running average of its weights, ready for export.

    sources: in the order of `samples.shares`, some may be empty.  The same seed gives the same weights on the same
    machine with the same number of threads.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    student.train()
    averaged = copy.deepcopy(student).eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    sizes = [len(s) for s in sources]
    steps_per_epoch = -(-len(epoch_order(sizes, shares(recipe), torch.Generator())) // recipe.batch)
    steps = recipe.epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.15)
    step = 0
    for number in range(1, recipe.epochs + 1):
        order = epoch_order(sizes, shares(recipe), generator)
        total = 0.0
        for start in range(0, len(order), recipe.batch):
            tiles, labels = _batch(sources, order[start : start + recipe.batch], generator)
            strength = 1.0 if step < recipe.light_from * steps else recipe.light_strength
            x = augment(tiles, strength, recipe.warped_share, generator)  # (B, 1, S, S)
            logits, _, good = student(x)
            loss = cross_entropy(joined(logits, good), labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
            _average(averaged, student, min(recipe.average, (1 + step) / (10 + step)))
            total += loss.item() * len(labels)
        right = int((predict(averaged, held_out) == held_out.labels).sum()) if len(held_out) else 0
        report(Epoch(number, total / len(order), right, len(held_out)))
    return averaged


def predict(student: Student, samples: Samples) -> Tensor:
    """The likeliest output for each tile as it is: (N,) int64."""
    student.eval()
    with torch.inference_mode():
        logits, _, good = student(samples.tiles[:, :1].float())
        return joined(logits, good).argmax(1)


def _batch(
    sources: Sequence[Samples], picked: Sequence[tuple[int, int]], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a variant of each tile: tiles (B, S, S) uint8 and labels (B,) int64."""
    variant = torch.randint(0, 4, (len(picked),), generator=generator).tolist()
    # A quarter is compressed: enough to get used to it.
    tiles = torch.stack([sources[s].tiles[i, int(v == 0)] for (s, i), v in zip(picked, variant, strict=True)])
    return tiles, torch.stack([sources[s].labels[i] for s, i in picked])


@torch.no_grad()
def _average(averaged: Student, student: Student, keep: float) -> None:
    for mean, now in zip(averaged.state_dict().values(), student.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)
