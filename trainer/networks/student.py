"""The student between the stages: what it is trained on, and how its weights are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from edge.model.classifier import Classifier
from trainer.data import index as data
from trainer.data import samples
from trainer.data.samples import Samples
from trainer.evaluation import evaluate
from trainer.networks.architecture import Architecture, Conv, Student
from trainer.recipe import Recipe, TrainingError
from trainer.training import checkpoint

FORMAT = "defectd.student/1"


@dataclass(frozen=True, slots=True)
class Lessons:
    """Tiles in memory.  sources: in the order of `samples.SOURCES`.  held_out, held_out_sound: kept from training."""

    sources: tuple[Samples, ...]
    held_out: Samples
    held_out_sound: Samples

    @property
    def has_good(self) -> bool:
        """Whether there is sound surface to learn from."""
        return any(len(source) for source in self.sources[1:3])

    @property
    def counts(self) -> dict[str, int]:
        return dict(zip(samples.SOURCES, map(len, self.sources), strict=True))


def lessons(index: data.Index, boxes: data.Boxes, recipe: Recipe, *, input_px: int, seed: int) -> Lessons:
    """Sound surface comes from around the defects, from the user's own folder and from the generated strip."""
    train, held_out = index.splits["train"], index.splits["held_out"]
    shown = samples.tiles(train, input_px, seed)
    sound, parts = samples.box_crops(train, boxes, index.classes, input_px, seed)
    known = set(index.classes) <= set(STRIP_CLASSES)
    seeds = range(samples.STRIP_SEED, samples.STRIP_SEED + recipe.strip_seeds)
    strip_good, strip_defects = samples.strip_samples(index.classes, seeds if known else (), input_px)
    made = Lessons(
        (
            samples.balanced(shown.without(index.good)),
            shown.only(index.good).joined(sound),
            strip_good,
            strip_defects,
            parts,
        ),
        samples.tiles(held_out, input_px, seed),
        samples.box_crops(held_out, boxes, index.classes, input_px, seed)[0],
    )
    if made.has_good:
        return made
    outputs = made.held_out.labels < index.good  # nothing is taught that sound surface could be told by
    return Lessons(
        made.sources, Samples(made.held_out.tiles[outputs], made.held_out.labels[outputs]), made.held_out_sound
    )


def save(student: Student, path: Path) -> None:
    """Write the weights and what they belong to, whole or not at all."""
    content = {
        "format": FORMAT,
        "architecture": asdict(student.architecture),
        "classes": student.classes.out_features,
        "good": student.good is not None,
        "dropout": student.dropout.p,
        "weights": {name: value.cpu() for name, value in student.state_dict().items()},
    }
    checkpoint.write(path, content)


def load(path: Path) -> Student:
    """Read what `save` wrote.  Raises TrainingError."""
    content = checkpoint.read(path)
    if content.get("format") != FORMAT:
        raise TrainingError(f"{path}: not a student. Delete it: it is made again")
    shape = content["architecture"]
    convs = tuple(Conv(**conv) for conv in shape["convs"])
    architecture = Architecture(**{**shape, "convs": convs})
    student = Student(architecture, content["classes"], good=content["good"], dropout=content["dropout"])
    student.load_state_dict(content["weights"])
    return student.eval()


def temperature(classifier: Classifier, index: data.Index, kept: Samples) -> float:
    """Fitted on pictures that training did not see: the valid split, and the held-out slice with its sound crops."""
    outputs = len(index.classes) + int(classifier.card.has_good)
    valid = [p for p in index.splits["valid"] if p.label < outputs]
    scores, labels = [], []
    if valid:
        scores.append(evaluate.score_pictures(classifier, valid))
        labels.append(np.array([p.label for p in valid], np.int64))
    usable = kept.labels.numpy() < outputs
    if usable.any():
        scores.append(evaluate.only(evaluate.as_scored(classifier, kept), usable))
        labels.append(kept.labels.numpy()[usable])
    return evaluate.fit_temperature(scores, labels) if scores else 1.0


def sound_verdicts(
    classifier: Classifier, index: data.Index, crops: Samples, folders: Sequence[Path]
) -> dict[str, dict[str, int]]:
    """False tiles on sound surface that training did not see.  folders: more of it, only measured."""
    side, temperature_ = classifier.card.input_px, classifier.temperature
    own = [p for split in ("held_out", "valid") for p in index.splits[split] if p.label == index.good]
    sets = {"crops around held-out defects": crops, "own pictures, held out and valid": samples.tiles(own, side, 0)}
    for folder in folders:
        pictures = [data.Picture(path, index.good) for path in data.files(folder)]
        if not pictures:
            raise TrainingError(f"{folder}: no pictures of sound surface")
        sets[f"{folder.absolute().parent.name}/{folder.name}"] = samples.tiles(pictures, side, 0)
    found: dict[str, Any] = {}
    for name, some in sets.items():
        if len(some):
            found[name] = evaluate.sound_tiles(classifier, some.tiles[:, 0].numpy(), temperature=temperature_)
    return found
