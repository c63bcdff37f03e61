"""A complete record with invented figures, for the tests of the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainer.data.corruptions import CLEAN, FURTHER_NAMES, SUITE
from trainer.evaluation.latency import Latency, Timed, Work
from trainer.evaluation.outcomes import Outcomes, compare
from trainer.evaluation.record import Curve, GoodSurface, PruningPoint, Record, ShippedFile, UnknownClass
from trainer.evaluation.statistics import Count, Ranking
from trainer.training.loop import Epoch

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")


def outcomes(variant, wrong, *, count=600, split="grouped 5-fold", seed=0):
    """wrong: share of wrong predictions on clean pictures; it grows from corruption to corruption."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % len(CLASSES)
    probabilities = {}
    for place, name in enumerate((CLEAN, *(c.name for c in SUITE), *FURTHER_NAMES)):
        predicted = np.where(rng.random(count) < wrong * (1 + place / 5), (truth + 1) % len(CLASSES), truth)
        confidence = np.clip(1 - rng.exponential(0.04, count), 0.3, 0.999)
        rows = np.repeat(((1 - confidence) / len(CLASSES))[:, None], len(CLASSES), 1)
        rows[np.arange(count), predicted] = confidence
        probabilities[name] = rows.astype(np.float32)
    keys = tuple(f"{i:016x}" for i in range(count))
    fold = np.arange(count) // 6 % (1 if split == "test" else 5)
    return Outcomes(variant, split, 0, CLASSES, keys, fold, truth, probabilities)


def latency():
    """Times of a realistic size."""
    us = {
        "fp32": {"call": 91, "batch": 2800, "picture": 104},
        "int8": {"call": 50, "batch": 910, "picture": 62},
        "reference": {"call": 2200, "picture": 4000, "picture cv2": 2500},
    }
    paths = tuple(
        Timed(network, what, 32 if what == "batch" else 1, float(t), t * 1.6, 1000)
        for network, ways in us.items()
        for what, t in ways.items()
    )
    work = (Work("fp32", 467_080, 116_407, 4_533_664, 84.0), Work("int8", 130_100, 116_407, 4_533_664, 25.2))
    return Latency("Invented 3000, 2 cores, Linux", "1.32.0", 200, paths, work, {"fp32": 108.0, "int8": 360.0}, 0.01)


def record(**changes):
    """A record in which everything is measured.  changes: fields that differ."""
    folds = {name: outcomes(name, wrong, seed=n) for n, (name, wrong) in enumerate(VARIANTS.items())}
    tests = [outcomes(name, 0.02, count=72, split="test") for name in ("fp32", "int8")]
    epochs = [Epoch(n, 1.5 / n, 120 - 60 // n, 132) for n in range(1, 61)]
    made = Record(
        name="student-invented",
        version="0.0.1",
        made="2026-11-22",
        seed=7,
        machine="Invented 3000, 2 cores, Linux",
        classes=CLASSES,
        tile_px=200,
        input_px=100,
        outputs={"logits": "one for each class", "features": "pooled", "good": "logit of defect-free surface"},
        temperature=0.97,
        data="Invented pictures by a fictional author; no licence is stated",
        data_sha256="ab" * 32,
        pictures={"train": 1656, "valid": 72, "test": 72},
        files=(ShippedFile("student.onnx", 467_080, "cd" * 32), ShippedFile("student.int8.onnx", 130_100, "ef" * 32)),
        recipe={"student": {"epochs": 120, "batch": 64}, "distillation": {"alpha": 0.5, "tau": 4}},
        versions={"torch": "2.13.0", "onnxruntime": "1.32.0"},
        commit="0123abc",
        command="defectd-train all --data PICTURES --seed 7",
        shipped=("fp32", "int8", "pruned", "int8 in folds"),
        summaries=tuple(o.summary() for o in (*folds.values(), *tests)),
        comparisons=tuple(compare(folds["scratch"], folds[name]) for name in ("distilled", "pruned", "int8 in folds")),
        curves=(Curve.of("teacher", epochs, 5400.0), Curve.of("student", epochs[:40], 240.0)),
        good=tuple(
            GoodSurface(
                "pruned", side, "crops of the folds' held-out pictures", Ranking(a, a - 0.01, a + 0.01, 700, 400)
            )
            for side, a in ((100, 0.976), (64, 0.961))
        ),
        unknown=tuple(
            UnknownClass(name, score, Ranking(a, a - 0.02, a + 0.02, 300, 300))
            for name, score, a in (
                ("inclusion", "energy", 0.945),
                ("inclusion", "max-softmax", 0.92),
                ("pitted_surface", "energy", 0.906),
                ("pitted_surface", "max-softmax", 0.88),
            )
        ),
        pruning=tuple(
            PruningPoint(f"{macs / 1e6:.1f} M", macs, macs // 10, macs / 5e4, Count.exact(right, 300), "fold 0 of 5")
            for macs, right in (
                (9_000_000, 297),
                (6_500_000, 297),
                (4_500_000, 296),
                (3_000_000, 292),
                (2_000_000, 285),
            )
        ),
        latency=latency(),
        contrast=22.3,
        notes=("The figures of this record are invented.",),
    )
    return replace(made, **changes)


VARIANTS = {"teacher": 0.008, "scratch": 0.02, "distilled": 0.014, "pruned": 0.013, "int8 in folds": 0.0135}
