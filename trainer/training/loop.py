"""The training loop of every network: teacher, student and fine-tuning."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from trainer.augment import augment, invert_some
from trainer.data.samples import Samples, epoch_order, shares
from trainer.distributed import average_buffers, broadcast_weights, from_first, summed, world
from trainer.recipe import Fit, TrainingError
from trainer.training import checkpoint as files
from trainer.training.losses import DistillationLoss, LabelLoss, joined, weights_sha256

FORMAT = "defectd.checkpoint/1"
Network = TypeVar("Network", bound=nn.Module)
"""Tiles (B, 1, S, S) float32, 0 to 255 -> logits (B, C), features (B, F), good (B, 1) or None."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Results of an epoch.  right, of, held_out_loss: of the averaged weights on the held-out tiles."""

    number: int
    loss: float
    right: int
    of: int
    held_out_loss: float = math.nan


def fit(
    model: Network,
    sources: Sequence[Samples],
    held_out: Samples,
    recipe: Fit,
    *,
    seed: int,
    loss: LabelLoss | DistillationLoss | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Epoch], None] = lambda _: None,
) -> Network:
    """Train the parameters of `model` that require a gradient; returns the running average of its weights.

    sources: in the order of `samples.SOURCES`, some may be empty.  loss: None is cross-entropy with the labels.
    Training runs on the device of the model. The same seed gives the same weights on the same machine with the same
    number of threads and processes, interrupted or not.  checkpoint: written after each epoch; if the file exists,
    training resumes behind its last epoch and reports its epochs too. With several processes
    (`distributed.join_processes`) each takes a part of every batch, with its own BatchNorm statistics; the running
    statistics are averaged after the epoch.  Raises TrainingError.
    """
    if recipe.patience and not len(held_out):
        raise TrainingError("patience: early stopping needs held-out tiles. Set it to 0")
    place = world()
    loss = loss or LabelLoss(recipe.label_smoothing)
    device = next(model.parameters()).device
    torch.manual_seed(seed)
    loss.to(device)
    broadcast_weights(model)
    broadcast_weights(loss)
    run = _State(model, loss, recipe, _steps_per_epoch(sources, recipe))
    name = _identity(model, sources, loss, recipe, seed) if checkpoint else ""
    epochs = run.resume(checkpoint, name) if checkpoint else []
    for epoch in epochs if place.first else ():
        report(epoch)
    step = _Step(run.model, run.loss, bf16=recipe.bf16)
    trained = DistributedDataParallel(step, forward_sync_buffers=False) if place.size > 1 else step
    while not _finished(epochs, recipe):
        number = len(epochs) + 1
        mean = _epoch(trained, run, sources, recipe, seed, number)
        epochs.append(from_first(_evaluated(run.averaged, held_out, number, mean)))
        run.keep_best(epochs)
        if place.first and checkpoint:
            files.write(checkpoint, run.state(name, epochs))
        if place.first:
            report(epochs[-1])
    return run.best if recipe.patience else run.averaged


def _epoch(trained: nn.Module, run: _State, sources: Sequence[Samples], recipe: Fit, seed: int, number: int) -> float:
    """Train one epoch; returns the mean loss.

    The random numbers depend on the seed and the number of the epoch only, so a checkpoint needs no generator states.
    """
    place, device = world(), next(run.model.parameters()).device
    order = epoch_order([len(s) for s in sources], shares(recipe), _generator(seed, number))
    draws, changes = _generator(seed, number, place.rank), _generator(seed, number, place.rank, 1, device=device)
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=draws)))  # for dropout
    run.model.train()
    total = torch.zeros((), device=device)
    for batch in _batches(order, run.steps_per_epoch):
        own = batch[place.rank :: place.size]
        tiles, labels = _draw(sources, own, draws)
        how = recipe.changes(late=run.step >= recipe.light_from * run.steps)
        x = augment(tiles.to(device), how, changes)  # (B, 1, S, S)
        seen = invert_some(x, recipe.inverted, changes)
        loss = trained(seen, x, labels.to(device)) * (len(own) * place.size / len(batch))  # DDP averages the gradients
        run.advance(loss)
        total += loss.detach() * len(batch) / place.size
    average_buffers(run.model)
    average_buffers(run.averaged)
    mean = float(summed(total)) / len(order)
    if not math.isfinite(mean):
        raise TrainingError(
            f"the loss is not finite after epoch {number}: lower learning_rate ({recipe.learning_rate})"
        )
    return mean


def predict(model: nn.Module, samples: Samples) -> Tensor:
    """The likeliest output for each tile, without augmentation: (N,) int64."""
    return _outputs(model, samples).argmax(1)


class _State:
    """Everything that changes during training."""

    def __init__(self, model: Any, loss: nn.Module, recipe: Fit, steps_per_epoch: int) -> None:
        self.model, self.loss = model, loss
        self.average = recipe.average
        self.averaged = copy.deepcopy(model).eval()
        self.best = copy.deepcopy(self.averaged)
        self.steps_per_epoch, self.steps, self.step = steps_per_epoch, recipe.epochs * steps_per_epoch, 0
        trainable = [p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trainable, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        warm_up = min(
            max(recipe.warm_up, 1.5 / self.steps), 0.99
        )  # OneCycleLR divides by zero for a warm-up of one step
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.learning_rate, total_steps=self.steps, pct_start=warm_up
        )

    def advance(self, loss: Tensor) -> None:
        """One optimizer step, then one step of the running average."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        keep = min(self.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)

    def keep_best(self, epochs: Sequence[Epoch]) -> None:
        if _best(epochs) == len(epochs):
            self.best.load_state_dict(self.averaged.state_dict())

    def state(self, name: str, epochs: Sequence[Epoch]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "identity": name,
            "step": self.step,
            "epochs": [asdict(epoch) for epoch in epochs],
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def resume(self, path: Path, name: str) -> list[Epoch]:
        """Load the checkpoint if it exists; returns its epochs."""
        found = from_first(files.read(path) if world().first and path.exists() else None)
        if found is None:
            return []
        if found.get("format") != FORMAT or found["identity"] != name:
            raise TrainingError(
                f"{path} is from a run with other data, another recipe or another seed. Delete it to start over, or "
                "use another run folder"
            )
        for part in ("model", "averaged", "best", "loss", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(found[part])
        self.step = found["step"]
        return [Epoch(**epoch) for epoch in found["epochs"]]


class _Step(nn.Module):
    """From tiles to loss. DDP wraps this module, so that it also synchronises a loss that has weights."""

    def __init__(self, model: nn.Module, loss: nn.Module, *, bf16: bool) -> None:
        super().__init__()
        self.model, self.loss, self.bf16 = model, loss, bf16

    def forward(self, x: Tensor, upright: Tensor, labels: Tensor) -> Tensor:
        """upright: the tiles that teachers see.  They know one polarity only, and know that one best."""
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            value: Tensor = self.loss(self.model(x), labels, upright)
        return value


def _finished(epochs: Sequence[Epoch], recipe: Fit) -> bool:
    return len(epochs) >= recipe.epochs or 0 < recipe.patience <= len(epochs) - _best(epochs)


def _best(epochs: Sequence[Epoch]) -> int:
    """The number of the epoch with the lowest held-out loss, 0 before the first."""
    return min(epochs, key=lambda e: e.held_out_loss).number if epochs else 0


def _evaluated(model: nn.Module, held_out: Samples, number: int, loss: float) -> Epoch:
    if not len(held_out) or not world().first:
        return Epoch(number, loss, 0, 0)
    outputs = _outputs(model, held_out)
    right = int((outputs.argmax(1) == held_out.labels).sum())
    return Epoch(number, loss, right, len(held_out), float(cross_entropy(outputs, held_out.labels)))


def _outputs(model: nn.Module, samples: Samples, batch: int = 256) -> Tensor:
    """All outputs for each tile, without augmentation: (N, C) or (N, C + 1) float32, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    with torch.inference_mode():
        for tiles in samples.tiles[:, :1].split(batch):
            logits, _, good = model(tiles.to(device).float())
            found.append(joined(logits, good).cpu())
    return torch.cat(found)


def enough_epochs(sources: Sequence[Samples], recipe: Fit) -> int:
    """The epochs of the recipe, or as many as its `min_steps` need."""
    return max(recipe.epochs, math.ceil(recipe.min_steps / _steps_per_epoch(sources, recipe)))


def _steps_per_epoch(sources: Sequence[Samples], recipe: Fit) -> int:
    tiles = len(epoch_order([len(s) for s in sources], shares(recipe), torch.Generator()))
    steps = -(-tiles // recipe.batch)
    if tiles // max(steps, 1) < world().size:
        raise TrainingError(f"{tiles} tiles in batches of {recipe.batch} are too few for {world().size} processes")
    return steps


def _batches(order: Sequence[tuple[int, int]], steps: int) -> list[Sequence[tuple[int, int]]]:
    """Parts of equal size, to one tile: a small last batch would distort the BatchNorm statistics."""
    edges = [len(order) * step // steps for step in range(steps + 1)]
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def _draw(
    sources: Sequence[Samples], picked: Sequence[tuple[int, int]], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a variant of each tile: tiles (B, S, S) uint8 and labels (B,) int64."""
    variant = torch.randint(0, 4, (len(picked),), generator=generator).tolist()
    # A quarter of the tiles comes from JPEG: enough to become robust against it.
    tiles = torch.stack([sources[s].tiles[i, int(v == 0)] for (s, i), v in zip(picked, variant, strict=True)])
    return tiles, torch.stack([sources[s].labels[i] for s, i in picked])


def _generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on these numbers only."""
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0]))


def _identity(
    model: nn.Module, sources: Sequence[Samples], loss: LabelLoss | DistillationLoss, recipe: Fit, seed: int
) -> str:
    """Hash of everything that decides how training continues."""
    digest = hashlib.sha256(json.dumps([asdict(recipe), seed, world().size, loss.identity], sort_keys=True).encode())
    digest.update(weights_sha256(model).encode())
    digest.update(repr([name for name, p in model.named_parameters() if p.requires_grad]).encode())
    for samples in sources:
        digest.update(samples.tiles.numpy().tobytes() + samples.labels.numpy().tobytes())
    return digest.hexdigest()
