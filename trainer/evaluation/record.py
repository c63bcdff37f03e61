"""The record of a run: all results in one value. The report, the model card and card.json are made from it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from trainer.evaluation.latency import Latency, ratios
from trainer.evaluation.outcomes import Comparison, Summary
from trainer.evaluation.statistics import Count, Ranking
from trainer.recipe import TrainingError
from trainer.run_folder import write
from trainer.training.loop import Epoch


@dataclass(frozen=True, slots=True)
class Point:
    """One epoch.  held_out: accuracy on the held-out tiles; held_out_loss: cross-entropy there, None if unknown."""

    epoch: int
    loss: float
    held_out: float | None
    held_out_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """The training curve of one stage.  seconds: its duration, None if unknown.  held_out: number of tiles, or 0."""

    stage: str
    points: tuple[Point, ...]
    seconds: float | None = None
    held_out: int = 0

    @classmethod
    def of(cls, stage: str, epochs: Sequence[Epoch], seconds: float | None = None) -> Curve:
        """From the epochs that `fit` reports."""
        points = (Point(e.number, round(e.loss, 5), e.right / e.of if e.of else None, _known(e)) for e in epochs)
        held_out = max((e.of for e in epochs), default=0)
        return cls(stage, tuple(p for p in points if math.isfinite(p.loss)), seconds, held_out)


def _known(epoch: Epoch) -> float | None:
    return round(epoch.held_out_loss, 5) if math.isfinite(epoch.held_out_loss) else None


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture in the report, and what the network predicted for it.  name: class folder and file.

    confidence: of that class, `good` included in the softmax.  png: base64, gray, small.
    """

    name: str
    truth: str
    predicted: str
    confidence: float
    png: str


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """One file of the bundle."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class GoodSurface:
    """How well defect-free surface is separated from defects.  how: the origin of the crops."""

    variant: str
    side_px: int
    how: str
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class UnknownClass:
    """How well a class that was excluded from training is detected as unknown.  score: energy or max-softmax."""

    name: str
    score: str
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class PruningPoint:
    """One network of the trade-off between accuracy and cost.  median_us: of a call with one tile."""

    name: str
    macs: int
    bytes: int
    median_us: float | None
    right: Count
    split: str


@dataclass(frozen=True, slots=True)
class Record:
    """What the run made, from what, how, and how well it performs.  A part that was not measured is empty."""

    name: str
    version: str
    made: str
    """Time of the run, UTC."""
    seed: int
    machine: str
    classes: tuple[str, ...]
    tile_px: int
    input_px: int
    outputs: dict[str, str]
    temperature: float
    data: str
    """Origin, owner and licence of the pictures, as far as known."""
    data_sha256: str
    pictures: dict[str, int]
    """Number of pictures by split."""
    files: tuple[ShippedFile, ...]
    recipe: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    """Commit of the code; None outside a checkout."""
    command: str | None = None
    """The command that repeats the run."""
    shipped: tuple[str, ...] = ("fp32", "int8")
    """Variants that are shipped files, or were made in the same way for the folds; fp32 first."""
    final: bool = False
    """The shipped files are trained on every picture: all figures are of networks made in the same way."""
    shown: tuple[Shown, ...] = ()
    """One picture of each class, and misclassified ones, the most confident first."""
    wrong: int = 0
    """Misclassified pictures in all."""
    summaries: tuple[Summary, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    curves: tuple[Curve, ...] = ()
    good: tuple[GoodSurface, ...] = ()
    unknown: tuple[UnknownClass, ...] = ()
    pruning: tuple[PruningPoint, ...] = ()
    latency: Latency | None = None
    notes: tuple[str, ...] = ()
    """What a reader must know to interpret the figures, one sentence or more each."""

    def of_shipped(self) -> tuple[Summary, ...]:
        return tuple(s for s in self.summaries if s.variant in self.shipped)

    def headline(self) -> Summary | None:
        """The first shipped variant on the split with the most pictures."""
        own = self.of_shipped()
        most = max((s.right.of for s in own), default=0)
        rank = {name: place for place, name in enumerate(self.shipped)}
        return min((s for s in own if s.right.of == most), key=lambda s: rank[s.variant], default=None)

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write(path, RECORDS.dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Record:
        """Raises TrainingError if the file is not a record."""
        try:
            return RECORDS.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            first = str(error).splitlines()[:3]
            raise TrainingError(
                f"{path}: not the record of a run: {' '.join(first)}. Run the same command again"
            ) from error

    def metrics(self) -> dict[str, Any]:
        """The figures for `card.json`, each with its n."""
        found: dict[str, Any] = {"machine": self.machine, "seed": self.seed}
        for s in self.of_shipped():
            found.setdefault("accuracy", {}).setdefault(s.split, {})[s.variant] = {
                "n": s.right.of,
                "right": s.right.right,
                "interval_95": [s.right.low, s.right.high],
                "f1": {rates.name: rates.f1 for rates in s.classes},
                "confusion_true_said": [list(row) for row in s.confusion],
                "calibration_error": s.calibration_error,
                "calibration_error_among_classes": s.calibration_error_among_classes,
            }
            if s.robustness:
                found.setdefault("robustness", {}).setdefault(s.split, {})[s.variant] = {
                    "n_each": s.right.of,
                    "mean": s.robust_mean,
                    "worst": s.robust_worst,
                    "right": {name: count.right for name, count in s.robustness.items()},
                }
        if self.good:
            found["good_surface"] = [
                {"variant": g.variant, "crop_px": g.side_px, **_ranked(g.ranking)} for g in self.good
            ]
        if self.unknown:
            found["unknown_class"] = [
                {"left_out": u.name, "score": u.score, **_ranked(u.ranking)} for u in self.unknown
            ]
        if self.latency is not None:
            found["latency"] = {
                "machine": self.latency.machine,
                "onnxruntime": self.latency.onnxruntime,
                "median_us": {f"{t.network} {t.what}": t.median_us for t in self.latency.paths},
                "p99_us": {f"{t.network} {t.what}": t.p99_us for t in self.latency.paths},
                "n": max((t.n for t in self.latency.paths), default=0),
                "times_the_reference": ratios(self.latency),
                "waited": self.latency.waited,
            }
        return found


def _ranked(ranking: Ranking) -> dict[str, Any]:
    return {
        "auroc": ranking.auroc,
        "interval_95": [ranking.low, ranking.high],
        "n_positive": ranking.positives,
        "n_negative": ranking.negatives,
    }


RECORDS: Final = TypeAdapter(Record)
