"""A class that training never saw: data without it, and how well its pictures are told from those of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from edge.model.classifier import Classifier
from trainer.data.index import Index, Picture
from trainer.evaluation.evaluate import score_pictures
from trainer.evaluation.record import UnknownClass
from trainer.evaluation.statistics import ranking, strangeness
from trainer.recipe import TrainingError


def without(index: Index, name: str) -> tuple[Index, tuple[Picture, ...]]:
    """The data as if the class did not exist, and the pictures of that class.  Raises TrainingError."""
    if name not in index.classes:
        raise TrainingError(f"{name}: no such class to be left out. There are {', '.join(index.classes)}")
    if len(index.classes) < 3:
        raise TrainingError(f"{name}: with it left out {len(index.classes) - 1} class remains, at least 2 are needed")
    gone = index.classes.index(name)
    every = [p for pictures in index.splits.values() for p in pictures]
    kept = {
        split: tuple(replace(p, label=p.label - (p.label > gone)) for p in pictures if p.label != gone)
        for split, pictures in index.splits.items()
    }
    classes = tuple(c for c in index.classes if c != name)
    rest = replace(index, classes=classes, splits=kept, sha256=_hash_of(index.sha256, name))
    return rest, tuple(p for p in every if p.label == gone)


def _hash_of(sha256: str, name: str) -> str:
    return hashlib.sha256(f"{sha256} without {name}".encode()).hexdigest()


def rankings(
    classifier: Classifier, name: str, unknown: Sequence[Picture], known: Sequence[Picture], *, seed: int = 0
) -> tuple[UnknownClass, ...]:
    """AUROC of pictures of the class that the file never saw against pictures of its own classes, by kind of score.

    known: pictures of its own classes that it was not trained on either.
    """
    strange = strangeness(score_pictures(classifier, unknown))
    usual = strangeness(score_pictures(classifier, [p for p in known if p.label < len(classifier.card.classes)]))
    found = {kind: ranking(strange[kind], usual[kind], seed=seed) for kind in strange}
    return tuple(UnknownClass(name, kind, one) for kind, one in found.items() if one is not None)
