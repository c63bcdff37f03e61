"""Cross-validation: each fold is a training of its own, in a folder of its own, evaluated on its held-out pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainer.data import folds as data_folds
from trainer.data.corruptions import FURTHER_NAMES
from trainer.data.pictures import Picture
from trainer.distributed import in_parallel
from trainer.evaluation import outcomes
from trainer.job import Job, Progress, Results, Work
from trainer.recipe import TrainingError
from trainer.stages.measurement import contrast, corruptions, predictors, write_crop_scores


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold.  job: trains on the other folds.  held_out: pictures for the evaluation.  draft: for the results.

    contrast: of the pictures of all folds, gray levels.
    """

    job: Job
    held_out: tuple[Picture, ...]
    split: str
    number: int
    draft: Path
    contrast: float

    def make(self) -> dict[str, list[int]]:
        """Train, evaluate, and write the results into `draft`; returns variant and fold -> [correct, pictures]."""
        job, notes = self.job, {}
        job.make("quantize" if job.task.plan.quantize else "export")
        for variant, predictor in predictors(job):
            found = outcomes.predict_pictures(
                variant, predictor, self.held_out, job.index.classes, split=self.split, fold=self.number,
                seed=job.task.seed, corruptions=corruptions(job, variant, self.contrast),
                progress=lambda what: job.progress.step(0, 0, what),
            )  # fmt: skip
            found.write(self.draft / "folds-outcomes" / f"{variant}-{self.number}.json")
            notes[f"{variant} {self.number}"] = [int(found.right().sum()), len(found)]
        write_crop_scores(job, job.bundle(), self.held_out, self.draft / "folds-good", self.number)
        return notes


def cross_validate(job: Job, _results: Results) -> Work:
    """Train and evaluate every fold; finished folds are not trained again."""
    task, plan, folds = job.task, job.task.plan, job.task.plan.folds
    assert folds is not None
    if task.teachers:
        raise TrainingError("a given teacher has seen the pictures that a fold holds out. Remove --teacher or --folds")

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        split, unit = f"{folds.count} folds by {folds.by}", contrast(job.index)
        inner = replace(task, plan=replace(plan, folds=None, final=False), jobs=1)
        every = [
            Fold(
                job.nested(
                    inner, f"folds/{number}", data_folds.training_index(job.index, rest, f"{split} {number}"),
                    f"fold {number} of {folds.count}: ",
                ),
                held_out, split, number, draft, unit,
            )
            for number, (rest, held_out) in enumerate(
                data_folds.folds(job.index.pictures, folds.count, by=folds.by, seed=task.seed), 1
            )
        ]  # fmt: skip
        notes: dict[str, list[int]] = {}
        if task.jobs == 1:
            for fold in every:
                notes |= fold.make()
                job.announce()
        else:
            # Callbacks stay in this process: the others send lines of text.
            quiet = [replace(fold, job=replace(fold.job, progress=Progress())) for fold in every]
            finished = in_parallel(_make, quiet, task.jobs, lambda line: job.progress.step(0, 0, line))
            for count, found in enumerate(finished, 1):
                notes |= found
                job.progress.step(count, folds.count, "folds")
        return {"right_of": notes, "by": folds.by}

    settings = {
        "folds": asdict(folds), "plan": asdict(replace(plan, folds=None, final=False)), "seed": task.seed,
        "further": FURTHER_NAMES,
    }  # fmt: skip
    return Work(settings, make)


def _make(fold: Fold, report: Callable[[str], None]) -> dict[str, list[int]]:
    """Make one fold in a process of its own; progress goes to `report`."""
    current = [""]

    def started(stage: str, _number: int, _of: int) -> None:
        current[0] = stage

    def step(done: int, of: int, what: str) -> None:
        report(f"{current[0]} {f'{done} of {of} ' if of else ''}{what}")

    return replace(fold, job=replace(fold.job, progress=Progress(started, step))).make()
