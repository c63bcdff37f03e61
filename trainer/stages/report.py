"""The last stage: the record of the run, the report, and the bundle with a complete card."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
from pydantic import TypeAdapter

from edge.host.clock import stamp
from trainer.compression import export_onnx
from trainer.data import pictures
from trainer.data.corruptions import CLEAN
from trainer.evaluation import latency, outcomes
from trainer.evaluation.confidence import published
from trainer.evaluation.good_surface import good_surface
from trainer.evaluation.latency import NETWORKS
from trainer.evaluation.record import Curve, GoodSurface, Record, ShippedFile, Shown
from trainer.job import Job, Results, Work
from trainer.reporting import report
from trainer.run_folder import commit
from trainer.stages import upper_bound
from trainer.stages.measurement import PRUNING, UNKNOWN
from trainer.stages.release import FINAL, SPLITS
from trainer.stages.versions import versions
from trainer.training.loop import Epoch

MAX_SAMPLES, MAX_WRONG = 12, 18
"""Pictures in the report: recognised ones, one of each class, and misclassified ones."""
SHOWN_PX: Final = 96
LATENCY: Final = TypeAdapter(latency.Latency)


def write_report(job: Job, results: Results) -> Work:
    """Write record.json, the report and the bundle."""

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        record = _record(job, results)
        report.write(record, draft)
        bundle = export_onnx.with_card(job.shipped(), sharpness=record.sharpness)
        known = json.loads(job.run.path("metrics.json").read_text("utf-8"))
        metrics = {**bundle.card.metrics, **known, **record.metrics()}
        export_onnx.write_bundle(export_onnx.with_card(bundle, metrics=metrics), draft / "bundle")
        return {}

    return Work({"stages": [result.key for result in results.values()]}, make)


def _record(job: Job, results: Results) -> Record:
    bundle, index = job.shipped(), job.index
    card = bundle.card
    measured = outcomes.load_all(job.run.path("outcomes"))
    if "folds" in results:
        measured = (*outcomes.load_all(job.run.path("folds-outcomes")), *measured)
    bounds = upper_bound.load(job, results)
    measured = (*measured, *bounds)
    shipped = tuple(variant for file, variant in NETWORKS.items() if file in bundle.networks)
    pairs = [
        (one, other) for one in measured for other in measured
        if one.split == other.split and one.variant == shipped[0] and other.variant != shipped[0]
    ]  # fmt: skip
    folded = [one for one in measured if one.is_folded and one.variant == shipped[0]]
    sharpness = folded[0].sharpness() if folded else card.sharpness
    shown, wrong = _shown(job, measured, shipped[0], sharpness)
    unknown = UNKNOWN.validate_json(job.run.path("unknown.json").read_bytes()) if "unknown" in results else ()
    return Record(
        name=card.name,
        version=card.version,
        made=stamp(job.run.clock.wall_ns()),
        seed=job.task.seed,
        machine=latency.machine(),
        classes=card.classes,
        tile_px=card.tile_px,
        input_px=card.input_px,
        outputs=card.outputs,
        temperature=card.temperature,
        data=index.source,
        data_sha256=index.sha256,
        pictures={split: len(pictures) for split, pictures in index.splits.items()},
        files=tuple(ShippedFile(name, len(net), bundle.sha256(name)) for name, net in bundle.networks.items()),
        recipe=asdict(job.task.plan),
        versions=versions(),
        commit=commit(),
        command=job.run.command or None,
        shipped=shipped,
        bound=bounds[0].variant if bounds else None,
        final="final" in results,
        shown=shown,
        wrong=wrong,
        summaries=tuple(one.summary(sharpness if one.variant in shipped else 1.0) for one in measured),
        comparisons=tuple(outcomes.compare(one, other) for one, other in pairs),
        curves=tuple(
            Curve.of(name, [Epoch(**epoch) for epoch in result.notes["epochs"]], result.seconds)
            for name, result in results.items()
            if result.notes.get("epochs")
        ),
        good=_good(job, results, shipped),
        unknown=unknown,
        pruning=PRUNING.validate_json(job.run.path("pruning.json").read_bytes()),
        latency=LATENCY.validate_json(job.run.path("latency.json").read_bytes()),
        sharpness=sharpness,
        contrast=results["evaluate"].notes["contrast"],
        notes=(SPLITS, *index.notes, *_notes(job, results)),
    )


def _shown(
    job: Job, measured: Sequence[outcomes.Outcomes], variant: str, sharpness: float
) -> tuple[tuple[Shown, ...], int]:
    """(a picture of each class that is recognised and misclassified ones, number of misclassified ones)."""
    own = [(one, published(one.probabilities[CLEAN], sharpness)) for one in measured if one.variant == variant]
    paths = {outcomes.picture_key(picture): picture.path for picture in job.index.pictures}
    rows = {
        key: (one.classes[truth], one.classes[said], float(confidences[place, said]))
        for one, confidences in own
        for place, (key, truth, said) in enumerate(zip(one.pictures, one.truth, one.predicted(), strict=True))
        if key in paths
    }
    wrong = sorted((key for key, (truth, said, _) in rows.items() if truth != said), key=lambda key: -rows[key][2])
    right = {rows[key][0]: key for key in rows if rows[key][0] == rows[key][1]}
    chosen = [*dict(sorted(right.items())).values()][:MAX_SAMPLES] + wrong[:MAX_WRONG]
    return tuple(Shown(_short(paths[key]), *rows[key], _png(paths[key])) for key in chosen), len(wrong)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _png(path: Path) -> str:
    small = cv2.resize(pictures.read(path), (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode(".png", small)[1].tobytes()).decode()


def _good(job: Job, results: Results, shipped: Sequence[str]) -> tuple[GoodSurface, ...]:
    """Over the folds if there are any, else on the few pictures that training did not see."""
    folder, origin = ("folds-good", "the folds' held-out") if "folds" in results else ("good", "held-out and valid")
    if folder == "good" and job.task.plan.measure.test:
        origin = "held-out, valid and test"
    how = f"{origin} pictures, mirror-padded to a whole tile"
    return tuple(
        one for variant in shipped for one in good_surface(variant, job.run.path(folder).glob(f"{variant}-*.json"), how)
    )


def _notes(job: Job, results: Results) -> list[str]:
    notes = []
    if job.task.plan.most_per_class:
        notes.append(
            f"A trial on at most {job.task.plan.most_per_class} pictures of a class: its figures do not measure "
            "the recipe."
        )
    if "teacher" in results:
        notes.append(f"First weights of the teacher: {results['teacher'].notes['origin']}.")
    if "upper_bound" in results and not results["upper_bound"].notes["origin"]:
        notes.append(upper_bound.NOT_MEASURED)
    if "quantize" in results and not results["quantize"].notes["kept"]:
        notes.append(f"int8 is not kept: {'; '.join(results['quantize'].notes['refusals'])}.")
    if "final" in results:
        notes.append(FINAL.format(results["final"].notes["pictures"]))
    if "quantize" in results:
        notes.append(results["quantize"].notes["measured"]["guarantee"])
    return notes
