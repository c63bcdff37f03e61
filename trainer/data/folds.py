"""Cross-validation: which pictures each fold trains on, and which it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.data.hashes import hash_of
from trainer.data.index import Index
from trainer.data.pictures import Picture, order
from trainer.data.splits import HELD_OUT, duplicate_blocks, take_run
from trainer.recipe import TrainingError

Grouping = Literal["numbers", "twins"]
"""What a fold leaves out.  numbers: runs of neighbouring file numbers.  twins: random groups of near duplicates.
Both keep near duplicates together."""


def folds(
    pictures: Sequence[Picture], count: int, *, by: Grouping = "numbers", seed: int = 0
) -> list[tuple[tuple[Picture, ...], tuple[Picture, ...]]]:
    """(training pictures, held-out pictures) for each fold; each picture is held out exactly once.

    Every class is spread evenly.  by="numbers" holds out neighbouring places of a coil, which is the harder and more
    honest test.  Raises TrainingError.
    """
    fold_of: dict[Path, int] = {}
    of_group: dict[int, int] = {}
    rng = np.random.default_rng([seed, 7])
    for label in sorted({p.label for p in pictures}):
        own = [p for p in pictures if p.label == label]
        blocks = duplicate_blocks(own)
        grouped = any(len(block) > 1 for block in blocks) or len({p.group for p in own}) > 1
        if len(blocks) < count:
            raise TrainingError(f"{count} folds need {count} independent pictures of each class; one has {len(blocks)}")
        total, passed = sum(map(len, blocks)), 0
        sizes = [0] * count
        if by == "twins":
            shuffled = [blocks[i] for i in rng.permutation(len(blocks))]
            blocks = sorted(shuffled, key=len, reverse=True)
        for block in blocks:
            running = min(count - 1, int((passed + len(block) / 2) * count / total))
            fold = running if by == "numbers" else sizes.index(min(sizes))
            if grouped and block[0].group >= 0:  # a near duplicate in another class may have its fold already
                fold = of_group.setdefault(block[0].group, fold)
            fold_of |= {p.path: fold for p in block}
            sizes[fold] += len(block)
            passed += len(block)
    ordered = sorted(pictures, key=order)
    return [
        (tuple(p for p in ordered if fold_of[p.path] != n), tuple(p for p in ordered if fold_of[p.path] == n))
        for n in range(count)
    ]


def training_index(index: Index, pictures: Sequence[Picture], name: str) -> Index:
    """The index that one fold trains on: only these pictures, and no test split.  name: makes the hash unique."""
    ordered = tuple(sorted(pictures, key=order))
    rest, valid = take_run(ordered, 0.0, HELD_OUT)  # smaller than OWN_SPLIT: the pictures of a fold are scarce
    train, held_out = take_run(rest, 0.5, HELD_OUT)
    return Index(
        index.classes,
        {"train": train, "held_out": held_out, "valid": valid, "test": ()},
        hash_of(index.sha256, name, *(p.sha256 for p in ordered)),
        source=index.source,
    )
