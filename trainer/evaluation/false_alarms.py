"""False alarms: how many defect-free tiles the daemon would report as a defect or as unsure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.frame import Gray
from edge.model.classifier import Classifier
from trainer.data import samples
from trainer.data.index import Index
from trainer.data.pictures import Picture, files
from trainer.data.samples import Samples
from trainer.evaluation.evaluate import verdicts
from trainer.recipe import TrainingError


def false_alarms(
    classifier: Classifier, index: Index, held_out_good: Samples, folders: Sequence[Path]
) -> dict[str, dict[str, int]]:
    """Name of a set of defect-free tiles that training did not see -> the counts of its verdicts.

    folders: further pictures of defect-free surface.  Raises TrainingError if one is empty.
    """
    side = classifier.card.input_px
    own = [p for split in ("held_out", "valid") for p in index.splits[split] if p.label == index.good]
    sets = {
        "crops around held-out defects": held_out_good,
        "own pictures, held out and valid": samples.tiles(own, side, 0),
    }
    for folder in folders:
        pictures = [Picture(path, index.good) for path in files(folder)]
        if not pictures:
            raise TrainingError(f"{folder}: no pictures of defect-free surface")
        sets[f"{folder.absolute().parent.name}/{folder.name}"] = samples.tiles(pictures, side, 0)
    return {name: count_verdicts(classifier, some.tiles[:, 0].numpy()) for name, some in sets.items() if len(some)}


def count_verdicts(classifier: Classifier, tiles: Gray) -> dict[str, int]:
    """tiles: (N, S, S) uint8, defect-free, N > 0."""
    defect, unsure = verdicts(classifier.score(tiles).probabilities(classifier.temperature))
    return {"n": len(tiles), "defect": int(defect.sum()), "unsure": int(unsure.sum())}
