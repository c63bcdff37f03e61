"""Open-set detection: train without a class, then measure how well its pictures are detected as unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge.model.classifier import Classifier
from trainer.data.hashes import hash_of
from trainer.data.index import Index
from trainer.data.pictures import Picture
from trainer.evaluation.evaluate import score_pictures
from trainer.evaluation.record import UnknownClass
from trainer.evaluation.statistics import ranking, unknown_scores
from trainer.recipe import TrainingError


def without(index: Index, name: str) -> tuple[Index, tuple[Picture, ...]]:
    """(the index without the class, the pictures of the class).  Raises TrainingError."""
    if name not in index.classes:
        raise TrainingError(f"{name}: no such class to exclude. The classes are {', '.join(index.classes)}")
    if len(index.classes) < 3:
        raise TrainingError(f"{name}: without it {len(index.classes) - 1} class remains, at least 2 are needed")
    gone = index.classes.index(name)
    every = [p for pictures in index.splits.values() for p in pictures]
    kept = {
        split: tuple(replace(p, label=p.label - (p.label > gone)) for p in pictures if p.label != gone)
        for split, pictures in index.splits.items()
    }
    classes = tuple(c for c in index.classes if c != name)
    rest = replace(index, classes=classes, splits=kept, sha256=hash_of(f"{index.sha256} without {name}"))
    return rest, tuple(p for p in every if p.label == gone)


def rankings(
    classifier: Classifier, name: str, unknown: Sequence[Picture], known: Sequence[Picture], *, seed: int = 0
) -> tuple[UnknownClass, ...]:
    """AUROC of pictures of the excluded class against pictures of the trained classes, one for each kind of score.

    known: pictures of the trained classes that the network was not trained on.
    """
    excluded = unknown_scores(score_pictures(classifier, unknown))
    trained = unknown_scores(score_pictures(classifier, [p for p in known if p.label < len(classifier.card.classes)]))
    found = {kind: ranking(excluded[kind], trained[kind], seed=seed) for kind in excluded}
    return tuple(UnknownClass(name, kind, one) for kind, one in found.items() if one is not None)
