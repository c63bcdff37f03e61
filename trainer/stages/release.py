"""The stages that make the files that ship: ONNX export and int8 quantization."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import edge
from edge.model import bundle
from edge.model.bundle import FP32
from edge.model.classifier import Classifier
from trainer.compression import export_onnx, quantize
from trainer.compression.int8_gate import Gate
from trainer.data.pictures import tile_px
from trainer.evaluation.temperature import temperature
from trainer.evaluation.training_surface import with_surface
from trainer.job import Job, Results, Work
from trainer.networks import student
from trainer.run_folder import commit
from trainer.stages.versions import versions

NOTE: Final = "Train on pictures of your own surface before relying on the verdicts."
FINAL: Final = (
    "The network in this bundle is trained on all {} pictures, so none is left to measure it with. The figures are of "
    "networks that were made in the same way without the pictures that they are measured on."
)
LENIENT: Final = {"accuracy_drop": 1.0, "mean_drop": 1.0, "corruption_drop": 1.0, "largest_drop": 1.0, "agreement": 0.9}
"""The gate of the network that is trained on everything: accuracy on pictures that it has seen decides nothing."""
SPLITS: Final = (
    "held_out is a run of neighbouring file numbers of each class, taken out of train; "
    "test had no part in training, temperature or the choice of the recipe"
)


def export(job: Job, results: Results) -> Work:
    """Write the student as ONNX, compare it with torch, fit its temperature, and describe the training surface."""

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        made = export_onnx.bundle(
            student.load(job.student_file(results)),
            classes=job.index.classes,
            tile_px=tile_px(job.index.splits["train"]),
            version=edge.__version__,
            training=_training(job),
        )
        fitted = temperature(Classifier(made), job.index, job.training_set.held_out_all)
        finished = with_surface(export_onnx.with_card(made, temperature=fitted), job.training_set)
        export_onnx.write_bundle(finished, draft / "fp32")
        return {"bytes": len(made.networks[FP32]), "temperature": fitted}

    return Work({"seed": job.task.seed, "version": edge.__version__, "plan": asdict(job.task.plan)}, make)


def quantize_student(job: Job, _results: Results) -> Work:
    """Add an int8 network, if it passes the gate."""
    gate = job.task.plan.quantize
    assert gate is not None

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        outcome = quantize.quantize(
            bundle.load(job.run.path("fp32")), job.index, gate=gate, seed=job.task.seed, clock=job.run.clock,
            report=lambda line: job.progress.step(0, 0, line),
        )  # fmt: skip
        export_onnx.write_bundle(outcome.bundle, draft / "int8")
        return {"kept": outcome.kept, "refusals": outcome.refusals, "measured": outcome.measured}

    return Work({"gate": asdict(gate), "seed": job.task.seed}, make)


def train_on_everything(job: Job, results: Results) -> Work:
    """Train the network that ships once more, in the same way, on every picture: nothing is left to measure it with.

    Temperature, and the decision on int8, are those of the network that was measured.
    """
    plan, task = job.task.plan, job.task
    inner_plan = replace(plan, quantize=None, folds=None, final=False, measure=replace(plan.measure, unknown=()))
    kept = "quantize" in results and results["quantize"].notes["kept"]

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        whole = replace(job.index, splits={**job.index.splits, "train": job.index.pictures, "test": ()})
        teachers = tuple(sorted(job.run.folder.glob("teacher-*.pt"))) if plan.teacher else ()
        inner = job.nested(replace(task, plan=inner_plan, teachers=teachers), "final-training", whole, "final: ")
        inner.make("export")
        job.announce()
        made, count = inner.bundle(), len(job.index.pictures)
        training = {**made.card.training, "pictures": {"train": count}, "final": FINAL.format(count)}
        made = export_onnx.with_card(made, temperature=job.bundle().card.temperature, training=training)
        if kept:
            gate = replace(plan.quantize or Gate(), **LENIENT)
            report = partial(job.progress.step, 0, 0)
            made = quantize.quantize(
                made, job.index, gate=gate, seed=task.seed, clock=job.run.clock, report=report
            ).bundle
        export_onnx.write_bundle(made, draft / "final")
        return {"pictures": count, "int8": kept}

    settings = {"plan": asdict(inner_plan), "gate": asdict(plan.quantize) if plan.quantize else None, "seed": task.seed}
    return Work(settings, make)


def _training(job: Job) -> dict[str, Any]:
    """The section `training` of card.json."""
    plan, index = job.task.plan, job.index
    return {
        "data_sha256": index.sha256,
        "data": index.source,
        "pictures": {split: len(pictures) for split, pictures in index.splits.items()},
        "tiles": job.training_set.counts,
        "stages": [name for name in plan.stages if name not in ("data", "upper_bound", "evaluate", "report")],
        "architecture": plan.architecture.name,
        "recipe": asdict(plan),
        "seed": job.task.seed,
        "from_scratch": plan.teacher is None,
        "splits": SPLITS,
        "versions": versions(),
        "commit": commit(),
        "note": NOTE,
    }
