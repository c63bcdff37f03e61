"""The stages that train: index the pictures, teacher, student, pruning, fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from trainer.augment import augment
from trainer.compression import prune
from trainer.data import hashes
from trainer.data.index import index_folder
from trainer.data.subset import subset
from trainer.distributed import world
from trainer.evaluation import open_set
from trainer.job import Job, Results, Work
from trainer.networks import student, teacher
from trainer.networks.architecture import Student
from trainer.recipe import Fit, TeacherStage
from trainer.run_folder import write
from trainer.training.loop import Epoch, enough_epochs, fit
from trainer.training.losses import DistillationLoss

BETWEEN_ROUNDS: Final = 4
"""Between two rounds of pruning, fine-tuning takes the epochs of the stage `finetune` divided by this."""
IMPORTANCE_BATCHES: Final = 8
"""Batches from which pruning estimates the importance of channels."""


def index_pictures(job: Job, _results: Results) -> Work:
    """Find the pictures, their near duplicates, and the splits."""
    task = job.task

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        index = job.own_index or index_folder(task.folder, report=lambda n, of: job.progress.step(n, of, "pictures"))
        if task.plan.most_per_class and not job.own_index:
            index = subset(index, task.plan.most_per_class)
        for name in () if job.own_index else task.plan.measure.unknown:
            open_set.without(index, name)  # a misspelt class is an error now, not after hours of training
        write(draft / "data.json", json.dumps(index.as_json(task.folder), indent=1) + "\n")
        return {"classes": index.classes, "pictures": index.counts(), "notes": index.notes}

    source = job.own_index.sha256 if job.own_index else hashes.fingerprint(task.folder)
    boxes = hashes.file_sha256(task.boxes) if task.boxes else None
    return Work({"given": source, "boxes": boxes, "most_per_class": task.plan.most_per_class}, make)


def train_teacher(job: Job, _results: Results) -> Work:
    """The teacher: trained here, or copied from given files."""
    task, recipe = job.task, job.task.plan.teacher
    assert recipe is not None

    def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
        classes, good = job.index.classes, job.training_set.has_good
        for number, path in enumerate(task.teachers, 1):
            teacher.load(path, classes=classes, good=good)
            (draft / f"teacher-{number}.pt").write_bytes(path.read_bytes())
        if task.teachers:
            return {"origin": "given", "epochs": []}
        epochs: list[Epoch] = []

        def report(stage: TeacherStage, epoch: Epoch) -> None:
            schedule = recipe.scratch if stage in recipe.scratch else recipe.pretrained
            _report(job, epochs, sum(s.epochs for s in schedule))(epoch)

        made, origin = teacher.train_teacher(
            job.training_set.sources, job.training_set.held_out, recipe,
            classes=len(classes), good=good, seed=task.seed, device=_device(), folder=checkpoints, report=report,
        )  # fmt: skip
        if world().first:
            teacher.save(made, draft / "teacher-1.pt", classes=classes, recipe=recipe, origin=origin)
        return {"origin": origin, "epochs": _curve(epochs)}

    given = [hashes.file_sha256(path) for path in task.teachers]
    return Work({"recipe": asdict(recipe), "given": given, **_data_settings(job)}, make)


def train_student(job: Job, _results: Results) -> Work:
    """The student: trained on the labels, or distilled from the teacher."""
    task, plan = job.task, job.task.plan

    def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
        torch.manual_seed(task.seed)
        fresh = Student(
            plan.architecture, len(job.index.classes), good=job.training_set.has_good, dropout=plan.student.dropout
        )
        return _train(job, fresh, plan.student, draft / "student.pt", checkpoints)

    distillation = plan.teacher and plan.distillation
    settings = {
        "architecture": asdict(plan.architecture), "recipe": asdict(plan.student),
        "distillation": distillation and asdict(distillation), **_data_settings(job),
    }  # fmt: skip
    return Work(settings, make)


def prune_student(job: Job, _results: Results) -> Work:
    """Remove channels round by round; fine-tune between the rounds."""
    recipe, tune = job.task.plan.prune, job.task.plan.finetune
    assert recipe is not None
    assert tune is not None

    def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
        now = student.load(job.run.path("student.pt"))
        rounds = []
        targets = recipe.targets(now.architecture.macs)
        for number, macs in enumerate(targets, 1):
            importance = prune.importance(now, _importance_batches(job), recipe.criterion)
            weights = prune.MAX_WEIGHTS if number == len(targets) else None
            now = prune.shrink(now, prune.plan(now.architecture, importance, macs, recipe.multiple, weights))
            rounds.append({"channels": [c.channels for c in now.architecture.convs], "macs": now.architecture.macs})
            if number < len(targets):
                between = replace(
                    tune, epochs=max(1, tune.epochs // BETWEEN_ROUNDS), min_steps=tune.min_steps // BETWEEN_ROUNDS
                )
                now, _ = _fit(job, now, between, checkpoints / f"round-{number}.pt", pruned=True)
                student.save(now, draft / f"round-{number}.pt")
        student.save(now, draft / "pruned.pt")
        return {"rounds": rounds}

    settings = {"recipe": asdict(recipe), "between": asdict(tune), "parts": BETWEEN_ROUNDS}
    return Work({**settings, **_distillation_settings(job)}, make)


def finetune_student(job: Job, results: Results) -> Work:
    """The last training of the student, with a low learning rate."""
    recipe = job.task.plan.finetune
    assert recipe is not None

    def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
        now = student.load(job.student_file(results))
        return _train(job, now, recipe, draft / "finetuned.pt", checkpoints, pruned="prune" in results)

    return Work({"recipe": asdict(recipe), **_distillation_settings(job)}, make)


def _data_settings(job: Job) -> dict[str, Any]:
    """What decides the training tiles, besides the pictures."""
    plan = job.task.plan
    return {
        "input_px": plan.architecture.input_px, "strip_seeds": plan.student.strip_seeds, "seed": job.task.seed,
    }  # fmt: skip


def _distillation_settings(job: Job) -> dict[str, Any]:
    distillation = job.task.plan.distillation
    return {"distillation": distillation and asdict(distillation), **_data_settings(job)}


def _train(
    job: Job, model: Student, recipe: Fit, out: Path, checkpoints: Path, *, pruned: bool = False
) -> dict[str, Any]:
    """Train and save a student; returns the notes of the stage."""
    made, epochs = _fit(job, model, recipe, checkpoints / "fit.pt", pruned=pruned)
    if world().first:
        student.save(made, out)
    return {"epochs": _curve(epochs), "tiles": job.training_set.counts, "macs": made.architecture.macs}


def _fit(job: Job, model: Student, recipe: Fit, checkpoint: Path, *, pruned: bool) -> tuple[Student, list[Epoch]]:
    """Train on the labels and, if there are teachers, by distillation."""
    plan, device = job.task.plan, _device()
    recipe = replace(recipe, epochs=enough_epochs(job.training_set.sources, recipe))
    teachers = [found.to(device) for found in _teachers(job, pruned=pruned)]
    loss = None
    if plan.distillation and teachers:
        loss = DistillationLoss(
            teachers, plan.distillation, smoothing=recipe.label_smoothing,
            student_features=model.architecture.features,
        )  # fmt: skip
    epochs: list[Epoch] = []
    made = fit(
        model.to(device), job.training_set.sources, job.training_set.held_out, recipe, seed=job.task.seed, loss=loss,
        checkpoint=checkpoint, report=_report(job, epochs, recipe.epochs),
    )  # fmt: skip
    return made.cpu().eval(), epochs


def _teachers(job: Job, *, pruned: bool) -> list[nn.Module]:
    """The EfficientNets, if the plan has a teacher; for a pruned student also the unpruned student."""
    files = sorted(job.run.folder.glob("teacher-*.pt")) if job.task.plan.teacher else []
    found: list[nn.Module] = [teacher.load(path, classes=job.index.classes) for path in files]
    return [*found, student.load(job.run.path("student.pt"))] if pruned else found


def _report(job: Job, seen: list[Epoch], of: int) -> Callable[[Epoch], None]:
    def report(epoch: Epoch) -> None:
        seen.append(epoch)
        job.progress.step(len(seen), of, f"loss {epoch.loss:.3f}, held-out accuracy {epoch.right}/{epoch.of}")

    return report


def _importance_batches(job: Job) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Some augmented batches of the training tiles."""
    generator = torch.Generator().manual_seed(job.task.seed)
    tiles = torch.cat([source.tiles[:, 0] for source in job.training_set.sources])
    labels = torch.cat([source.labels for source in job.training_set.sources])
    size = job.task.plan.student.batch
    picked = torch.randperm(len(labels), generator=generator)[: IMPORTANCE_BATCHES * size]
    changes = job.task.plan.student.changes()
    return [(augment(tiles[some], changes, generator), labels[some]) for some in picked.split(size)]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _curve(epochs: Sequence[Epoch]) -> list[dict[str, Any]]:
    return [{**asdict(epoch), "held_out_loss": epoch.held_out_loss if epoch.of else 0.0} for epoch in epochs]
