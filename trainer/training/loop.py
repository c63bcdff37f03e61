"""The one loop."""

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

from trainer.augment import augment
from trainer.data.samples import Samples, epoch_order, shares
from trainer.distributed import from_first, share_buffers, start_alike, summed, world
from trainer.recipe import Fit, TrainingError
from trainer.training import checkpoint as files
from trainer.training.losses import DistillationLoss, LabelLoss, joined, weights_sha256

__all__ = ["Epoch", "fit", "joined", "predict"]

FORMAT = "defectd.checkpoint/1"
Network = TypeVar("Network", bound=nn.Module)
"""tiles (B, 1, S, S) float32, 0 to 255, to logits (B, C), features (B, F), good (B, 1) or None."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after an epoch.  right, of, held_out_loss: of the average on the tiles kept from training."""

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
    """Train what is free in `model` and return the running average of its weights, ready for export.

    sources: in the order of `samples.SOURCES`, some may be empty. loss: cross-entropy with the labels if None. It
    runs where the model is. The same seed gives the same weights on the same machine with the same number of
    threads and processes, interrupted or not. checkpoint: written after each epoch; a run that finds its own goes
    on behind it, and reports the epochs it finds there too. In several processes (`processes.together`) each takes
    its part of every batch with BatchNorm statistics of its own; their running means are averaged after the epoch.
    Raises TrainingError.
    """
    if recipe.patience and not len(held_out):
        raise TrainingError("patience: stopping early needs tiles that are held out. Set it to 0")
    place = world()
    loss = loss or LabelLoss(recipe.label_smoothing)
    device = next(model.parameters()).device
    torch.manual_seed(seed)
    loss.to(device)
    start_alike(model)
    start_alike(loss)
    run = _Run(model, loss, recipe, _steps_per_epoch(sources, recipe))
    name = _identity(model, sources, loss, recipe, seed) if checkpoint else ""
    epochs = run.resume(checkpoint, name) if checkpoint else []
    for epoch in epochs if place.first else ():
        report(epoch)
    step = _Step(run.model, run.loss, bf16=recipe.bf16)
    trained = DistributedDataParallel(step, forward_sync_buffers=False) if place.size > 1 else step
    while not _finished(epochs, recipe):
        number = len(epochs) + 1
        mean = _epoch(trained, run, sources, recipe, seed, number)
        epochs.append(from_first(_measured(run.averaged, held_out, number, mean)))
        run.keep_best(epochs)
        if place.first and checkpoint:
            files.write(checkpoint, run.state(name, epochs))
        if place.first:
            report(epochs[-1])
    return run.best if recipe.patience else run.averaged


def _epoch(trained: nn.Module, run: _Run, sources: Sequence[Samples], recipe: Fit, seed: int, number: int) -> float:
    """Go through the sources once: the mean loss.

    Numbers are drawn anew for each epoch: nothing but its number is needed to go on from there.
    """
    place, device = world(), next(run.model.parameters()).device
    order = epoch_order([len(s) for s in sources], shares(recipe), _generator(seed, number))
    draws, changes = _generator(seed, number, place.rank), _generator(seed, number, place.rank, 1, device=device)
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=draws)))  # of dropout
    run.model.train()
    total = torch.zeros((), device=device)
    for batch in _batches(order, run.steps_per_epoch):
        own = batch[place.rank :: place.size]
        tiles, labels = _drawn(sources, own, draws)
        how = recipe.changes(late=run.step >= recipe.light_from * run.steps)
        x = augment(tiles.to(device), how, changes)  # (B, 1, S, S)
        loss = trained(x, labels.to(device)) * (len(own) * place.size / len(batch))  # DDP takes the mean of gradients
        run.advance(loss)
        total += loss.detach() * len(batch) / place.size
    share_buffers(run.model)
    share_buffers(run.averaged)
    mean = float(summed(total)) / len(order)
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is no number after epoch {number}: lower learning_rate ({recipe.learning_rate})")
    return mean


def predict(model: nn.Module, samples: Samples) -> Tensor:
    """The likeliest output for each tile as it is: (N,) int64."""
    return _outputs(model, samples).argmax(1)


class _Run:
    """Everything that changes while training."""

    def __init__(self, model: Any, loss: nn.Module, recipe: Fit, steps_per_epoch: int) -> None:
        self.model, self.loss = model, loss
        self.average = recipe.average
        self.averaged = copy.deepcopy(model).eval()
        self.best = copy.deepcopy(self.averaged)
        self.steps_per_epoch, self.steps, self.step = steps_per_epoch, recipe.epochs * steps_per_epoch, 0
        free = [p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.AdamW(free, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        warm_up = min(max(recipe.warm_up, 1.5 / self.steps), 0.99)  # OneCycleLR divides by zero where it is one step
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.learning_rate, total_steps=self.steps, pct_start=warm_up
        )

    def advance(self, loss: Tensor) -> None:
        """One step downhill, and one of the average behind it."""
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
        """Go back to where a checkpoint stands, if there is one: the epochs behind it."""
        found = from_first(files.read(path) if world().first and path.exists() else None)
        if found is None:
            return []
        if found.get("format") != FORMAT or found["identity"] != name:
            raise TrainingError(
                f"{path} is from a run with other data, another recipe or another seed. Delete it to start anew, or "
                "give the run another folder"
            )
        for part in ("model", "averaged", "best", "loss", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(found[part])
        self.step = found["step"]
        return [Epoch(**epoch) for epoch in found["epochs"]]


class _Step(nn.Module):
    """From tiles to loss: what DDP wraps, so that a loss with weights of its own is shared too."""

    def __init__(self, model: nn.Module, loss: nn.Module, *, bf16: bool) -> None:
        super().__init__()
        self.model, self.loss, self.bf16 = model, loss, bf16

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            value: Tensor = self.loss(self.model(x), labels, x)
        return value


def _finished(epochs: Sequence[Epoch], recipe: Fit) -> bool:
    return len(epochs) >= recipe.epochs or 0 < recipe.patience <= len(epochs) - _best(epochs)


def _best(epochs: Sequence[Epoch]) -> int:
    """The number of the epoch with the lowest held-out loss, 0 before the first."""
    return min(epochs, key=lambda e: e.held_out_loss).number if epochs else 0


def _measured(model: nn.Module, held_out: Samples, number: int, loss: float) -> Epoch:
    if not len(held_out) or not world().first:
        return Epoch(number, loss, 0, 0)
    outputs = _outputs(model, held_out)
    right = int((outputs.argmax(1) == held_out.labels).sum())
    return Epoch(number, loss, right, len(held_out), float(cross_entropy(outputs, held_out.labels)))


def _outputs(model: nn.Module, samples: Samples, batch: int = 256) -> Tensor:
    """All outputs for each tile as it is: (N, C) or (N, C + 1) float32, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    with torch.inference_mode():
        for tiles in samples.tiles[:, :1].split(batch):
            logits, _, good = model(tiles.to(device).float())
            found.append(joined(logits, good).cpu())
    return torch.cat(found)


def _steps_per_epoch(sources: Sequence[Samples], recipe: Fit) -> int:
    tiles = len(epoch_order([len(s) for s in sources], shares(recipe), torch.Generator()))
    steps = -(-tiles // recipe.batch)
    if tiles // max(steps, 1) < world().size:
        raise TrainingError(f"{tiles} tiles in batches of {recipe.batch} are too few for {world().size} processes")
    return steps


def _batches(order: Sequence[tuple[int, int]], steps: int) -> list[Sequence[tuple[int, int]]]:
    """Equal parts, to one tile: no small rest with BatchNorm statistics of its own."""
    edges = [len(order) * step // steps for step in range(steps + 1)]
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def _drawn(
    sources: Sequence[Samples], picked: Sequence[tuple[int, int]], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a variant of each tile: tiles (B, S, S) uint8 and labels (B,) int64."""
    variant = torch.randint(0, 4, (len(picked),), generator=generator).tolist()
    # A quarter is compressed: enough to get used to it.
    tiles = torch.stack([sources[s].tiles[i, int(v == 0)] for (s, i), v in zip(picked, variant, strict=True)])
    return tiles, torch.stack([sources[s].labels[i] for s, i in picked])


def _generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers that depend on nothing but these."""
    return torch.Generator(device).manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0]))


def _identity(
    model: nn.Module, sources: Sequence[Samples], loss: LabelLoss | DistillationLoss, recipe: Fit, seed: int
) -> str:
    """Hash of all that decides how a run goes on."""
    digest = hashlib.sha256(json.dumps([asdict(recipe), seed, world().size, loss.identity], sort_keys=True).encode())
    digest.update(weights_sha256(model).encode())
    digest.update(repr([name for name, p in model.named_parameters() if p.requires_grad]).encode())
    for samples in sources:
        digest.update(samples.tiles.numpy().tobytes() + samples.labels.numpy().tobytes())
    return digest.hexdigest()
