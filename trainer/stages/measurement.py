"""The stages that measure the finished files: evaluation and the open-set test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

import edge
from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from edge.camera.sources.simulator import Strip
from edge.model.bundle import FP32, Bundle
from edge.model.classifier import Classifier
from trainer.compression import export_onnx
from trainer.data.boxes import read_boxes
from trainer.data.corruptions import FURTHER_NAMES, SUITE, Corruption, contrast_of, further
from trainer.data.hashes import file_sha256
from trainer.data.index import Index
from trainer.data.pictures import Picture, read
from trainer.evaluation import evaluate, good_surface, latency, open_set, outcomes
from trainer.evaluation.false_alarms import false_alarms
from trainer.evaluation.latency import NETWORKS
from trainer.evaluation.predictors import Predictor, file_predictor, network_predictor
from trainer.evaluation.record import PruningPoint, UnknownClass
from trainer.evaluation.simulated_strip import measure_strip
from trainer.job import Job, Results, Work
from trainer.networks import student, teacher
from trainer.run_folder import write

UNKNOWN: Final = TypeAdapter(tuple[UnknownClass, ...])
PRUNING: Final = TypeAdapter(tuple[PruningPoint, ...])
UNSEEN: Final = ("held_out", "valid", "test")
"""Splits that no weights were fitted to."""
MAX_UNPRUNED_BYTES: Final = 32 << 20
"""Of a network before pruning, which is measured but does not ship."""
STRIP_CHECK_SEEDS: Final = (1, 900, 901)
"""Seeds of strips that no network was trained on."""


def evaluate_files(job: Job, results: Results) -> Work:
    """Evaluate the finished files on pictures that training did not see, and time them on this machine."""
    task, plan = job.task, job.task.plan
    splits = ("valid", "test") if plan.measure.test else ("valid",)

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        bundle, unit = job.bundle(), contrast(job.index)
        for split in splits:
            for variant, predictor in predictors(job):
                found = outcomes.predict_pictures(
                    variant, predictor, job.index.splits[split], job.index.classes, split=split, seed=task.seed,
                    corruptions=corruptions(job, variant, unit),
                    progress=lambda what, split=split: job.progress.step(0, 0, f"{split}, {what}"),  # type: ignore[misc]
                )  # fmt: skip
                found.write(draft / "outcomes" / f"{variant}-{split}.json")
        metrics = _metrics(job, bundle, splits)
        write(draft / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        unseen = [p for split in UNSEEN if split in ("held_out", *splits) for p in job.index.splits[split]]
        write_crop_scores(job, bundle, unseen, draft / "good", 0)
        (draft / "pruning.json").write_bytes(PRUNING.dump_json(_pruning(job, results)))
        timed = latency.measure(
            bundle, reference=task.reference, rounds=plan.measure.latency_rounds, clock=job.run.clock
        )
        write(draft / "latency.json", json.dumps(asdict(timed), indent=1) + "\n")
        return {"metrics": metrics, "contrast": unit}

    settings = {
        "measure": asdict(plan.measure),
        "sound": [str(folder) for folder in task.good_folders],
        "reference": file_sha256(task.reference) if task.reference else None,
        "seed": task.seed,
        "further": FURTHER_NAMES,
    }
    return Work(settings, make)


def detect_unknown_classes(job: Job, _results: Results) -> Work:
    """For each class that the plan names, train a student without it, and test whether its pictures stand out."""
    plan = job.task.plan
    bare = replace(
        plan, teacher=None, distillation=None, quantize=None, folds=None, final=False,
        measure=replace(plan.measure, unknown=()),
    )  # fmt: skip

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        found: list[UnknownClass] = []
        for name in plan.measure.unknown:
            rest, excluded = open_set.without(job.index, name)
            inner = job.nested(replace(job.task, plan=bare, teachers=()), f"unknown/{name}", rest, f"without {name}: ")
            inner.make("export")
            job.announce()
            known = [p for split in UNSEEN for p in rest.splits[split]]
            found += open_set.rankings(Classifier(inner.bundle()), name, excluded, known, seed=job.task.seed)
        (draft / "unknown.json").write_bytes(UNKNOWN.dump_json(tuple(found)))
        return {}

    return Work({"unknown": plan.measure.unknown, "plan": asdict(bare), "seed": job.task.seed}, make)


def predictors(job: Job) -> list[tuple[str, Predictor]]:
    """(variant, predictor) for the shipped files, the unpruned student and the teachers."""
    bundle, plan = job.bundle(), job.task.plan
    found = [
        (variant, file_predictor(Classifier(bundle, network=file)))
        for file, variant in NETWORKS.items()
        if file in bundle.networks
    ]
    side, classes = plan.architecture.input_px, job.index.classes
    if plan.prune:
        found.append(("unpruned", network_predictor(student.load(job.run.path("student.pt")), side)))
    if plan.teacher:
        files = sorted(job.run.folder.glob("teacher-*.pt"))
        found += [(path.stem, network_predictor(teacher.load(path, classes=classes), side)) for path in files]
    return found


def corruptions(job: Job, variant: str, contrast: float) -> tuple[Corruption, ...]:
    """Both groups of the robustness suite, for the shipped files only.  contrast: of the data, gray levels."""
    if not job.task.plan.measure.robustness or variant not in NETWORKS.values():
        return ()
    return (*SUITE, *further(contrast, job.task.plan.architecture.input_px))


def contrast(index: Index) -> float:
    """The contrast of the pictures of defects of all splits, gray levels: the unit of the second group's noise."""
    return contrast_of(read(p.path) for p in index.pictures if p.label < len(index.classes))


def write_crop_scores(job: Job, bundle: Bundle, pictures: Sequence[Picture], folder: Path, fold: int) -> None:
    """Score crops with and without a defect: one file for each network and crop size."""
    folder.mkdir(parents=True, exist_ok=True)
    if job.task.boxes is None or not bundle.card.has_good:
        return
    boxes, classes = read_boxes(job.task.boxes), bundle.card.classes
    for side in good_surface.SIDES_PX:
        crops = good_surface.cut_crops(
            pictures, boxes, classes, side, tile_px=bundle.card.tile_px, seed=job.task.seed
        )  # fmt: skip
        for file, variant in NETWORKS.items():
            if file in bundle.networks:
                scores = good_surface.score_crops(Classifier(bundle, network=file), crops)
                scores.write(folder / f"{variant}-{side}-{fold}.json")


def _pruning(job: Job, results: Results) -> tuple[PruningPoint, ...]:
    """Accuracy and cost before pruning, after each fine-tuned round, and of the shipped network."""
    if "prune" not in results:
        return ()
    rounds = sorted((f for f in results["prune"].outputs if f.startswith("round-")), key=lambda f: int(f[6:-3]))
    files = [job.run.path(name) for name in ("student.pt", *rounds)]
    networks = [student.load(file) for file in (*files, job.student_file(results))]
    bundles = [
        export_onnx.bundle(
            network, classes=job.index.classes, tile_px=job.bundle().card.tile_px, version=edge.__version__,
            max_bytes=MAX_UNPRUNED_BYTES,
        )
        for network in networks
    ]  # fmt: skip
    pictures = (*job.index.splits["held_out"], *job.index.splits["valid"])
    split = "held_out and valid"
    times = latency.call_us(bundles, rounds=job.task.plan.measure.latency_rounds, clock=job.run.clock)
    points = []
    for network, bundle, us in zip(networks, bundles, times, strict=True):
        predictor = file_predictor(Classifier(bundle))
        found = outcomes.predict_pictures(
            "fp32", predictor, pictures, job.index.classes, split=split, corruptions=()
        )  # fmt: skip
        widths = "-".join(str(conv.channels) for conv in network.architecture.convs)
        size = len(bundle.networks[FP32])
        points.append(PruningPoint(widths, network.architecture.macs, size, us, found.count(), split))
    return tuple(points)


def _metrics(job: Job, bundle: Bundle, splits: Sequence[str]) -> dict[str, Any]:
    """Counts of the verdicts of fp32 at the daemon's default thresholds, with the keys of card.json."""
    classifier, card = Classifier(bundle), bundle.card
    found: dict[str, Any] = {"thresholds": {"defect": evaluate.CONFIDENCE, "unsure": evaluate.UNSURE}}
    for split in ("held_out", *splits):
        counts = evaluate.evaluate(classifier, job.index.splits[split], temperature=card.temperature)
        found[split] = counts.as_metrics()
    if card.has_good:
        found["sound"] = false_alarms(classifier, job.index, job.training_set.held_out_good, job.task.good_folders)
    frames = job.task.plan.measure.strip_frames
    if frames and card.has_good and set(card.classes) <= set(STRIP_CLASSES):
        found["strip"] = {
            f"seed {seed}": measure_strip(classifier, Strip(seed=seed), range(frames), temperature=card.temperature)
            for seed in STRIP_CHECK_SEEDS
        }
    return found
