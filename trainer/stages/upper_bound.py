"""The stage that measures what a frozen ImageNet network reaches on the same pictures: the user's upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from edge.frame import Gray
from trainer.data import folds as data_folds
from trainer.data.corruptions import CLEAN
from trainer.data.pictures import Picture, cut, read
from trainer.evaluation import outcomes
from trainer.evaluation.outcomes import Outcomes, picture_key
from trainer.job import Job, Results, Work
from trainer.networks import backbones
from trainer.networks.teacher import Teacher
from trainer.training import linear_head

FOLDER: Final = "upper-bound"
MAX_TILES: Final = 2000
"""With more tiles each is seen once, not in several views: 2,000 tiles in four views take a minute or two."""
NOT_MEASURED: Final = (
    f"The upper bound is not measured, because no ImageNet weights are on this machine: {backbones.HOW_TO_GET}."
)


def measure_upper_bound(job: Job, _results: Results) -> Work:
    """Fit a linear layer to the features of a frozen ImageNet network, and evaluate it where the student is evaluated.

    The features are computed once; each fold, and each split, fits a layer to the pictures that its student trains on.
    """
    task, plan = job.task, job.task.plan
    found = backbones.on_this_machine()
    splits = ("valid", "test") if plan.measure.test else ("valid",)

    def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
        if found is None:
            return {"origin": None}
        index, start = job.index, backbones.imagenet(found)
        defects = [p for p in index.pictures if p.label < len(index.classes)]
        known = _Features(defects, Teacher(
            len(index.classes), good=False, input_px=found.input_px, backbone=found, features=start.network
        ).eval(), job)  # fmt: skip
        notes: dict[str, list[int]] = {}

        def measure(train: Sequence[Picture], judged: Sequence[Picture], split: str, fold: int = 0) -> None:
            made = known.predicted(variant(found), train, judged, index.classes, split=split, fold=fold, seed=task.seed)
            made.write(draft / FOLDER / f"{len(notes)}.json")
            notes[f"{split} {fold}"] = [int(made.right().sum()), len(made)]

        for split in splits:
            measure(index.splits["train"], index.splits[split], split)
        if plan.folds:
            name = f"{plan.folds.count} folds by {plan.folds.by}"
            for number, (rest, held_out) in enumerate(
                data_folds.folds(index.pictures, plan.folds.count, by=plan.folds.by, seed=task.seed), 1
            ):
                train = data_folds.training_index(index, rest, name).splits["train"]
                measure(train, held_out, name, number)
        return {"origin": start.origin, "right_of": notes}

    settings = {
        "backbone": found and found.name, "splits": splits, "folds": plan.folds and [plan.folds.count, plan.folds.by],
        "seed": task.seed,
    }  # fmt: skip
    return Work(settings, make)


def load(job: Job, results: Results) -> tuple[Outcomes, ...]:
    """The outcomes of the upper bound; none if it was not measured."""
    measured = "upper_bound" in results and results["upper_bound"].notes["origin"]
    return outcomes.load_all(job.run.path(FOLDER)) if measured else ()


def variant(backbone: backbones.Backbone) -> str:
    """The name of the upper bound among the variants of a report."""
    return f"frozen {backbone.title}"


class _Features:
    """The features of all pictures, cut as the daemon cuts them."""

    def __init__(self, pictures: Sequence[Picture], network: Teacher, job: Job) -> None:
        tiles: list[Gray] = [cut(read(p.path), network.input_px) for p in pictures]
        ends = np.cumsum([0, *map(len, tiles)])
        self._rows = {p.path: range(a, b) for p, a, b in zip(pictures, ends, ends[1:], strict=False)}
        views = len(linear_head.VIEWS) if ends[-1] <= MAX_TILES else 1
        self._values = linear_head.features(
            network, torch.from_numpy(np.concatenate(tiles)), views=views,
            report=lambda done, of: job.progress.step(done, of, "tiles"),
        )  # fmt: skip

    def predicted(
        self, name: str, train: Sequence[Picture], judged: Sequence[Picture], classes: Sequence[str], *, split: str,
        fold: int, seed: int,
    ) -> Outcomes:  # fmt: skip
        """Fit to the pictures of `train`, predict those of `judged`; defect-free surface is skipped in both."""
        train, judged = ([p for p in some if p.path in self._rows] for some in (train, judged))
        rows = [row for p in train for row in self._rows[p.path]]
        labels = torch.tensor([p.label for p in train for _ in self._rows[p.path]])
        weight, bias = linear_head.fitted(self._values[rows], labels, len(classes))
        probabilities = torch.stack([self._mean(p, weight, bias) for p in judged]).softmax(1).numpy()
        return Outcomes(
            name, split, seed, tuple(classes), tuple(map(picture_key, judged)), np.full(len(judged), fold, np.int64),
            np.array([p.label for p in judged], np.int64), {CLEAN: probabilities},
        )  # fmt: skip

    def _mean(self, picture: Picture, weight: Tensor, bias: Tensor) -> Tensor:
        """The logits of a picture, the mean over its tiles as they are: (C,)."""
        rows = self._rows[picture.path]
        return (self._values[rows.start : rows.stop, 0] @ weight.T + bias).mean(0)
