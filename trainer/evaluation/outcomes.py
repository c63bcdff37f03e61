"""Predictions of each variant of a model, clean and corrupted: pooled over folds, compared picture by picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from edge.frame import Float32s
from trainer.data.corruptions import CLEAN, STANDARD, SUITE, Corruption, group_of
from trainer.data.pictures import Picture, read
from trainer.evaluation import confidence
from trainer.evaluation.confidence import Calibration
from trainer.evaluation.predictors import Predictor
from trainer.evaluation.statistics import (
    Bin,
    Bools,
    ClassRates,
    Count,
    Labels,
    Paired,
    calibration_error,
    class_rates,
    confusion,
    paired,
    reliability,
)
from trainer.recipe import TrainingError
from trainer.run_folder import write

SCHEMA: Final = "defectd.outcomes/1"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The predictions of one variant for pictures of defects that it was not trained on.

    pictures: (N,) keys.  fold, truth: (N,) int64.  probabilities: condition -> (N, classes) float32; one condition is
    `clean`. With a `good` output a row sums to the probability of any defect.
    """

    variant: str
    split: str
    """The origin of the pictures, for example "5 folds by numbers" or "test"."""
    seed: int
    """Seed of the corruptions."""
    classes: tuple[str, ...]
    pictures: tuple[str, ...]
    fold: Labels
    truth: Labels
    probabilities: Mapping[str, Float32s] = field(repr=False)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def corruptions(self) -> tuple[str, ...]:
        return tuple(name for name in self.probabilities if name != CLEAN)

    def predicted(self, condition: str = CLEAN) -> Labels:
        """The likeliest class, `good` excluded: (N,)."""
        return np.asarray(self.probabilities[condition].argmax(1), np.int64)

    def right(self, condition: str = CLEAN) -> Bools:
        return np.asarray(self.predicted(condition) == self.truth)

    def count(self, condition: str = CLEAN) -> Count:
        return Count.exact(int(self.right(condition).sum()), len(self))

    @property
    def is_folded(self) -> bool:
        return len(self._folds()) > 1

    def sharpness(self) -> float:
        """That of the published confidence which fits these pictures (`trainer.evaluation.confidence`)."""
        return confidence.fit_sharpness(self.probabilities[CLEAN], self.truth)

    def summary(self, sharpness: float = 1.0) -> Summary:
        """The numbers for the report.

        sharpness: of the published confidence.  Over folds it is fitted anew for each, on the others.
        """
        decided, right = self.probabilities[CLEAN], self.right()
        if self.is_folded:
            shown, how = confidence.cross_fitted(decided, self.truth, self.fold), "fitted on the other folds"
            sharpness = self.sharpness()
        else:
            shown, how = confidence.published(decided, sharpness), "fitted on the folds" if sharpness != 1 else "none"
        clean = shown.astype(np.float64)
        matrix = confusion(self.truth, self.predicted(), len(self.classes))
        bins = reliability(clean.max(1), right)
        among = reliability(clean.max(1) / np.maximum(clean.sum(1), 1e-12), right)
        counts = {name: self.count(name) for name in self.corruptions}
        robust = {name: count for name, count in counts.items() if group_of(name) == STANDARD}
        shares = [count.share for count in robust.values()]
        return Summary(
            self.variant,
            self.split,
            self.seed,
            self.count(),
            tuple(Count.exact(int(right[self.fold == f].sum()), int((self.fold == f).sum())) for f in self._folds()),
            class_rates(matrix, self.classes),
            tuple(map(tuple, matrix.tolist())),
            round(calibration_error(bins), 5),
            round(calibration_error(among), 5),
            bins,
            robust,
            round(float(np.mean(shares)), 5) if shares else None,
            min(robust, key=lambda name: robust[name].share) if robust else None,
            {name: count for name, count in counts.items() if name not in robust},
            confidence.calibration(decided, shown, right, sharpness=sharpness, how=how) if len(self) else None,
        )

    def _folds(self) -> list[int]:
        return [int(f) for f in np.unique(self.fold)]

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        content = {
            "schema": SCHEMA,
            "variant": self.variant,
            "split": self.split,
            "seed": self.seed,
            "classes": self.classes,
            "pictures": self.pictures,
            "fold": self.fold.tolist(),
            "truth": self.truth.tolist(),
            "said": {name: self.predicted(name).tolist() for name in self.probabilities},
            "probabilities": {
                name: [
                    [float(f"{v:.9g}") for v in row] for row in values.tolist()
                ]  # 9 digits restore a float32 exactly
                for name, values in self.probabilities.items()
            },
        }
        write(path, json.dumps(content, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Raises TrainingError if the file does not hold outcomes."""
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            made = cls(
                content["variant"],
                content["split"],
                int(content["seed"]),
                tuple(content["classes"]),
                tuple(content["pictures"]),
                np.array(content["fold"], np.int64),
                np.array(content["truth"], np.int64),
                {name: np.array(rows, np.float32) for name, rows in content["probabilities"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path}: not a file of outcomes: {error}. Delete it, the next run measures again"
            ) from error
        shape = len(made), len(made.classes)
        if any(p.shape != shape for p in made.probabilities.values()) or len(made.truth) != len(made.fold) != len(made):
            raise TrainingError(
                f"{path}: numbers of outcomes and pictures differ. Delete it, the next run measures again"
            )
        return made


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of one variant on one split."""

    variant: str
    split: str
    seed: int
    right: Count
    folds: tuple[Count, ...]
    classes: tuple[ClassRates, ...]
    confusion: tuple[tuple[int, ...], ...]
    """[true][predicted], `good` excluded."""
    calibration_error: float
    """Expected calibration error of the confidence that the daemon publishes: one softmax with `good`, sharpened."""
    calibration_error_among_classes: float
    """Expected calibration error with `good` excluded from the softmax."""
    reliability: tuple[Bin, ...]
    robustness: dict[str, Count]
    """The standard group of corruptions."""
    robust_mean: float | None
    """Mean accuracy over the standard corruptions, without the clean pictures."""
    robust_worst: str | None
    """Of the standard group."""
    further: dict[str, Count] = field(default_factory=dict)
    """The second group: polarity, gamma, and noise and blur relative to the data; empty in older records."""
    calibration: Calibration | None = None
    """Before and after the confidence was sharpened; None in older records, whose errors are those before."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two variants on the pictures that both predicted.  Changes of accuracy: second minus first."""

    first: str
    second: str
    split: str
    clean: Paired
    change: float
    mean_change: float | None
    """Mean over the standard corruptions."""
    worst_change: float | None
    """The standard corruption with the lowest change."""
    worst: str | None


def predict_pictures(
    variant: str,
    predictor: Predictor,
    pictures: Sequence[Picture],
    classes: Sequence[str],
    *,
    split: str,
    fold: int = 0,
    seed: int = 0,
    corruptions: Sequence[Corruption] = SUITE,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcomes:
    """Predict every picture of a defect, clean and under each corruption.

    fold: recorded with each picture.  progress: called with the name of each finished condition.
    Pictures of defect-free surface (label beyond the classes) are skipped.  Raises TrainingError.
    """
    defects = [p for p in pictures if p.label < len(classes)]
    if not defects:
        raise TrainingError(f"{split}: no pictures of {', '.join(classes)}: nothing to evaluate")
    images, keys = [read(p.path) for p in defects], [picture_key(p) for p in defects]
    probabilities = {CLEAN: predictor(images)}
    progress(CLEAN)
    for corruption in corruptions:
        corrupted = [corruption(image, key, seed) for image, key in zip(images, keys, strict=True)]
        probabilities[corruption.name] = predictor(corrupted)
        progress(corruption.name)
    truth = np.array([p.label for p in defects], np.int64)
    folds = np.full(len(defects), fold, np.int64)
    return Outcomes(variant, split, seed, tuple(classes), tuple(keys), folds, truth, probabilities)


def picture_key(picture: Picture) -> str:
    """16 hex digits of class folder, file name and bytes: equal in every split and on every machine."""
    name = f"{picture.path.parent.name}/{picture.path.name}\0".encode()
    return sha256(name + picture.path.read_bytes()).hexdigest()[:16]


def pooled(parts: Sequence[Outcomes]) -> Outcomes:
    """Join the folds of one variant.  Raises TrainingError if they do not belong together."""
    first = parts[0]
    for other in parts[1:]:
        if (other.variant, other.split, other.seed, other.classes) != (
            first.variant,
            first.split,
            first.seed,
            first.classes,
        ) or set(other.probabilities) != set(first.probabilities):
            raise TrainingError(
                f"folds of {first.variant} ({first.split}) and {other.variant} ({other.split}) were measured in "
                "different ways. Delete the older ones, the next run measures them again"
            )
    pictures = tuple(key for part in parts for key in part.pictures)
    if len(set(pictures)) != len(pictures):
        raise TrainingError(f"{first.variant}: one picture is in two folds: these are not the folds of one split")
    return Outcomes(
        first.variant,
        first.split,
        first.seed,
        first.classes,
        pictures,
        np.concatenate([part.fold for part in parts]),
        np.concatenate([part.truth for part in parts]),
        {name: np.concatenate([part.probabilities[name] for part in parts]) for name in first.probabilities},
    )


def load_all(folder: Path) -> tuple[Outcomes, ...]:
    """Load all outcome files of a folder, pooled by variant and split, in the order of their names."""
    parts: dict[tuple[str, str], list[Outcomes]] = {}
    for path in sorted(folder.glob("*.json")):
        one = Outcomes.load(path)
        parts.setdefault((one.variant, one.split), []).append(one)
    return tuple(pooled(some) for some in parts.values())


def compare(first: Outcomes, second: Outcomes) -> Comparison:
    """Compare picture by picture, where both have the picture.  Raises TrainingError if they share none."""
    place = {key: i for i, key in enumerate(second.pictures)}
    both = [(i, place[key]) for i, key in enumerate(first.pictures) if key in place]
    if not both:
        raise TrainingError(f"{first.variant} and {second.variant} have no picture in common")
    one, other = (np.array(column) for column in zip(*both, strict=True))
    changes = {
        name: float(second.right(name)[other].mean() - first.right(name)[one].mean())
        for name in first.probabilities
        if name in second.probabilities and group_of(name) == STANDARD
    }
    clean = changes.pop(CLEAN)
    worst = min(changes, key=lambda name: changes[name]) if changes else None
    return Comparison(
        first.variant,
        second.variant,
        first.split,
        paired(first.right()[one], second.right()[other]),
        round(clean, 5),
        round(float(np.mean(list(changes.values()))), 5) if changes else None,
        round(changes[worst], 5) if worst else None,
        worst,
    )
