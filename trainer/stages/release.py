"""The stages that make the files that ship: ONNX export and int8 quantization."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import edge
from edge.model import bundle
from edge.model.bundle import FP32
from edge.model.classifier import Classifier
from trainer.compression import export_onnx, quantize
from trainer.data.pictures import tile_px
from trainer.evaluation.temperature import temperature
from trainer.evaluation.training_surface import with_surface
from trainer.job import Job, Results, Work
from trainer.networks import student
from trainer.run_folder import commit
from trainer.stages.versions import versions

NOTE: Final = "Train on pictures of your own surface before relying on the verdicts."
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


def _training(job: Job) -> dict[str, Any]:
    """The section `training` of card.json."""
    plan, index = job.task.plan, job.index
    return {
        "data_sha256": index.sha256,
        "data": index.source,
        "pictures": {split: len(pictures) for split, pictures in index.splits.items()},
        "tiles": job.training_set.counts,
        "stages": [name for name in plan.stages if name not in ("data", "evaluate", "report")],
        "architecture": plan.architecture.name,
        "recipe": asdict(plan),
        "seed": job.task.seed,
        "from_scratch": plan.teacher is None,
        "splits": SPLITS,
        "versions": versions(),
        "commit": commit(),
        "note": NOTE,
    }
