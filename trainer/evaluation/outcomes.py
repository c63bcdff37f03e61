"""What each variant of a model said of each picture, clean and corrupted: pooled over folds, compared in pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from edge.frame import Float32s, Gray
from trainer.data.corruptions import CLEAN, SUITE, Corruption
from trainer.data.index import Picture, read
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

Judge = Callable[[Sequence[Gray]], Float32s]
"""Pictures of any size, (H, W) uint8 each, to calibrated probabilities (N, classes); rows may sum to less than 1."""

SCHEMA: Final = "defectd.outcomes/1"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One variant on pictures that show a defect each and that it was not trained on.

    pictures: (N,) keys.  fold, truth: (N,) int64.  probabilities: condition to (N, classes) float32, `clean` among
    them.  With a `good` output a row sums to the probability of any defect.
    """

    variant: str
    split: str
    """Where the pictures come from: "grouped 5-fold", "test"."""
    seed: int
    """Of the corruptions."""
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

    def said(self, condition: str = CLEAN) -> Labels:
        """The likeliest class, `good` aside: (N,)."""
        return np.asarray(self.probabilities[condition].argmax(1), np.int64)

    def right(self, condition: str = CLEAN) -> Bools:
        return np.asarray(self.said(condition) == self.truth)

    def count(self, condition: str = CLEAN) -> Count:
        return Count.exact(int(self.right(condition).sum()), len(self))

    def summary(self) -> Summary:
        """What a report says of it."""
        clean, right = self.probabilities[CLEAN].astype(np.float64), self.right()
        matrix = confusion(self.truth, self.said(), len(self.classes))
        bins = reliability(clean.max(1), right)
        among = reliability(clean.max(1) / np.maximum(clean.sum(1), 1e-12), right)
        robust = {name: self.count(name) for name in self.corruptions}
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
        )

    def _folds(self) -> list[int]:
        return [int(f) for f in np.unique(self.fold)]

    def write(self, path: Path) -> None:
        """As JSON; appears whole or not at all."""
        content = {
            "schema": SCHEMA,
            "variant": self.variant,
            "split": self.split,
            "seed": self.seed,
            "classes": self.classes,
            "pictures": self.pictures,
            "fold": self.fold.tolist(),
            "truth": self.truth.tolist(),
            "said": {name: self.said(name).tolist() for name in self.probabilities},
            "probabilities": {
                name: [[float(f"{v:.9g}") for v in row] for row in values.tolist()]  # float32, exactly
                for name, values in self.probabilities.items()
            },
        }
        write(path, json.dumps(content, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Raises TrainingError for a file that is none."""
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
            raise TrainingError(f"{path}: no outcomes of a fold: {error}. Delete it: it is measured again") from error
        shape = len(made), len(made.classes)
        if any(p.shape != shape for p in made.probabilities.values()) or len(made.truth) != len(made.fold) != len(made):
            raise TrainingError(f"{path}: not as many outcomes as pictures. Delete it: it is measured again")
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
    """[true][said], `good` aside."""
    calibration_error: float
    """ECE of the confidence that the daemon publishes: of the likeliest class, in one softmax with `good`."""
    calibration_error_among_classes: float
    """ECE with `good` left out of the softmax."""
    reliability: tuple[Bin, ...]
    robustness: dict[str, Count]
    robust_mean: float | None
    """Mean share over the corruptions, without the clean pictures."""
    robust_worst: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two variants on the pictures that both have seen.  mean_change: of the corruptions' shares, second less first."""

    first: str
    second: str
    split: str
    clean: Paired
    change: float
    mean_change: float | None
    worst_change: float | None
    """The corruption that lost most, or gained least."""
    worst: str | None


def judge_pictures(
    variant: str,
    judge: Judge,
    pictures: Sequence[Picture],
    classes: Sequence[str],
    *,
    split: str,
    fold: int = 0,
    seed: int = 0,
    corruptions: Sequence[Corruption] = SUITE,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcomes:
    """Every picture of a defect, clean and under each corruption.

    fold: the number to be written beside each.  progress: hears each condition when it is done.
    Pictures of sound surface (label beyond the classes) are left out.  Raises TrainingError.
    """
    shown = [p for p in pictures if p.label < len(classes)]
    if not shown:
        raise TrainingError(f"{split}: no pictures of {', '.join(classes)}: nothing to be measured")
    images, keys = [read(p.path) for p in shown], [picture_key(p) for p in shown]
    probabilities = {CLEAN: judge(images)}
    progress(CLEAN)
    for corruption in corruptions:
        changed = [corruption(image, key, seed) for image, key in zip(images, keys, strict=True)]
        probabilities[corruption.name] = judge(changed)
        progress(corruption.name)
    truth = np.array([p.label for p in shown], np.int64)
    whole = np.full(len(shown), fold, np.int64)
    return Outcomes(variant, split, seed, tuple(classes), tuple(keys), whole, truth, probabilities)


def picture_key(picture: Picture) -> str:
    """16 hex digits of class folder, file name and bytes: the same in every split, and no place of this machine."""
    name = f"{picture.path.parent.name}/{picture.path.name}\0".encode()
    return sha256(name + picture.path.read_bytes()).hexdigest()[:16]


def pooled(parts: Sequence[Outcomes]) -> Outcomes:
    """The folds of one variant as one.  Raises TrainingError when they do not belong together."""
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
                "different ways: delete the older ones, they are measured again"
            )
    pictures = tuple(key for part in parts for key in part.pictures)
    if len(set(pictures)) != len(pictures):
        raise TrainingError(f"{first.variant}: a picture stands in two folds: these are no folds of one split")
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
    """All files of outcomes in a folder, pooled by variant and split, in the order of their names."""
    parts: dict[tuple[str, str], list[Outcomes]] = {}
    for path in sorted(folder.glob("*.json")):
        one = Outcomes.load(path)
        parts.setdefault((one.variant, one.split), []).append(one)
    return tuple(pooled(some) for some in parts.values())


def compare(first: Outcomes, second: Outcomes) -> Comparison:
    """Picture by picture, on those that both have.  Raises TrainingError when they have none in common."""
    place = {key: i for i, key in enumerate(second.pictures)}
    both = [(i, place[key]) for i, key in enumerate(first.pictures) if key in place]
    if not both:
        raise TrainingError(f"{first.variant} and {second.variant} have no picture in common")
    one, other = (np.array(column) for column in zip(*both, strict=True))
    changes = {
        name: float(second.right(name)[other].mean() - first.right(name)[one].mean())
        for name in first.probabilities
        if name in second.probabilities
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
