"""Started by test_distributed.py under torchrun: one training in several processes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from trainer.data.samples import Samples
from trainer.distributed import join_processes
from trainer.networks.architecture import Architecture, Conv, Student
from trainer.recipe import Distillation, Fit
from trainer.training.loop import fit
from trainer.training.losses import DistillationLoss

TINY = Architecture("tiny", 20, (Conv(4, 4, 4), Conv(8, 3, 2)))
RECIPE = Fit(epochs=6, batch=8, average=0.8, learning_rate=0.02, plain_share=0.9)


def shades(count: int, seed: int) -> Samples:
    """Three classes of different brightness, with noise."""
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 2, 20, 20), generator=torch.Generator().manual_seed(seed))
    return Samples((noise + 70 * labels[:, None, None, None]).byte(), labels)


def train(seed: int, checkpoint: Path, report=lambda _: None) -> Student:
    none = Samples(torch.empty((0, 2, 20, 20), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    torch.manual_seed(9)
    teacher = Student(TINY, 3, good=False)
    torch.manual_seed(seed)
    student = Student(TINY, 3, good=False, dropout=0.2)
    loss = DistillationLoss([teacher], Distillation(alpha=0.9, features=0.1), student_features=8)
    sources = [shades(61, 0), none, none, none, none]
    return fit(student, sources, shades(30, 1), RECIPE, seed=3, loss=loss, checkpoint=checkpoint, report=report)


def main(folder: Path) -> None:
    seen = []
    with join_processes() as world:

        def report(epoch) -> None:
            seen.append(epoch)
            if epoch.number == 2:
                shutil.copy(folder / "run.pt", folder / "half.pt")

        # The seeds differ between the processes: training must start from the weights of the first process.
        whole = train(world.rank, folder / "run.pt", report)
        resumed = train(world.rank, folder / "half.pt")
        result = {"size": world.size, "whole": whole.state_dict(), "resumed": resumed.state_dict()}
        result["right"] = [(e.right, e.of) for e in seen]
    result["threads"] = sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
    torch.save(result, folder / f"result-{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
