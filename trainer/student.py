"""How the student comes about, from a folder of pictures to a bundle: reads top to bottom."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

import edge
from edge.bundle import Bundle
from edge.camera.strip import CLASSES as STRIP_CLASSES
from edge.camera.strip import Strip
from edge.vision.classifier import Classifier
from trainer import data, evaluate, export, samples
from trainer.models import I100_S4, Student
from trainer.recipe import Recipe, TrainingError
from trainer.train import Epoch, fit

NOTE = "Train on pictures of your own surface before relying on the verdicts."
NEU_SOURCE = (
    "NEU-CLS by K. Song and Y. Yan, Northeastern University (China), Applied Surface Science 285 (2013) 858-864; "
    "published for research with a request to cite, no licence of the images is stated. "
    "Boxes: NEU-DET by Y. He, K. Song, Q. Meng and Y. Yan, IEEE Trans. Instrum. Meas. 69 (2020) 1493-1504"
)
NEU_SHA256 = "fa19b8a4a5865c71c9d4c057e4e4c2a035a2a53e55962ec709c0c6f103cfcdc1"
"""`Index.sha256` of NEU-CLS in its common split by file number, as PNG."""
SPLITS = (
    "held_out is a run of neighbouring file numbers of each class, taken out of train; "
    "test had no part in training, temperature or the choice of the recipe"
)
STRIP_CHECK_SEEDS = (900, 901)
"""Strips that nothing was trained on."""


def make(
    folder: Path,
    recipe: Recipe,
    *,
    seed: int,
    boxes: Path | None = None,
    with_test: bool = False,
    sound: Sequence[Path] = (),
    frames: int = 400,
    report: Callable[[Epoch], None] = lambda _: None,
) -> Bundle:
    """Train, export and measure.  with_test: also on the test split, once, for a model that is released.

    sound: folders of sound surface that are measured and not trained on.  frames: of each generated strip that is
    measured.  Raises TrainingError.
    """
    architecture = I100_S4
    side = architecture.input_px
    index = data.index(folder)
    train, held_out = index.splits["train"], index.splits["held_out"]

    # The samples. Sound surface comes from around the defects, from the user's own folder and from the strip.
    boxes_by_stem = data.read_boxes(boxes) if boxes else {}
    shown = samples.tiles(train, side, seed)
    own_good = shown.only(index.good)
    crops = samples.free_crops(train, boxes_by_stem, index.classes, side, seed)
    known = set(index.classes) <= set(STRIP_CLASSES)
    seeds = range(samples.STRIP_SEED, samples.STRIP_SEED + recipe.strip_seeds)
    strip_good, strip_defects = samples.strip_samples(index.classes, seeds if known else (), side)
    sources = [shown.without(index.good), own_good.joined(crops), strip_good, strip_defects]
    has_good = any(len(s) for s in sources[1:3])
    kept = samples.tiles(held_out, side, seed)
    kept_crops = samples.free_crops(held_out, boxes_by_stem, index.classes, side, seed)

    torch.manual_seed(seed)
    student = Student(architecture, len(index.classes), good=has_good, dropout=recipe.dropout)
    student = fit(student, sources, kept, recipe, seed=seed, report=report)

    made = export.bundle(
        student,
        classes=index.classes,
        tile_px=data.tile_px(train),
        version=edge.__version__,
        training={
            "data_sha256": index.sha256,
            "data": NEU_SOURCE if index.sha256 == NEU_SHA256 else "pictures of the user",
            "pictures": {split: len(pictures) for split, pictures in index.splits.items()},
            "tiles": dict(zip(("defects", "good", "strip_good", "strip_defects"), map(len, sources), strict=True)),
            "architecture": architecture.name,
            "recipe": asdict(recipe),
            "seed": seed,
            "from_scratch": True,
            "splits": SPLITS,
            "versions": versions(),
            "note": NOTE,
        },
    )

    # From here on only the exported file speaks, through the code that ships.
    classifier = Classifier(made)
    temperature = _temperature(classifier, index, kept.joined(kept_crops))
    metrics: dict[str, Any] = {
        "thresholds": {"defect": evaluate.CONFIDENCE, "unsure": evaluate.UNSURE},
        "held_out": evaluate.evaluate(classifier, held_out, temperature=temperature).as_metrics(),
        "valid": evaluate.evaluate(classifier, index.splits["valid"], temperature=temperature).as_metrics(),
    }
    if with_test:
        metrics["test"] = evaluate.evaluate(classifier, index.splits["test"], temperature=temperature).as_metrics()
    if has_good:
        metrics["sound"] = _sound(classifier, index, kept_crops, sound, temperature)
    if known and frames:
        metrics["strip"] = {
            f"seed {s}": evaluate.measure_strip(classifier, Strip(seed=s), range(frames), temperature=temperature)
            for s in (1, *STRIP_CHECK_SEEDS)
        }
    return export.with_card(made, temperature=temperature, metrics=metrics)


def _temperature(classifier: Classifier, index: data.Index, kept: samples.Samples) -> float:
    """Fitted on pictures that training did not see: the valid split, and the held-out slice with its crops."""
    valid = index.splits["valid"]
    scores = [evaluate.score_pictures(classifier, valid)]
    labels = [np.array([p.label for p in valid], np.int64)]
    if len(kept):
        scores.append(evaluate.as_scored(classifier, kept))
        labels.append(kept.labels.numpy())
    outputs = len(index.classes) + int(classifier.card.has_good)
    usable = [truth < outputs for truth in labels]
    scores = [evaluate.only(s, use) for s, use in zip(scores, usable, strict=True)]
    return evaluate.fit_temperature(scores, [truth[use] for truth, use in zip(labels, usable, strict=True)])


def _sound(
    classifier: Classifier, index: data.Index, crops: samples.Samples, folders: Sequence[Path], temperature: float
) -> dict[str, dict[str, int]]:
    """False tiles on sound surface that training did not see."""
    side = classifier.card.input_px
    own = [p for split in ("held_out", "valid") for p in index.splits[split] if p.label == index.good]
    sets = {"crops around held-out defects": crops, "own pictures, held out and valid": samples.tiles(own, side, 0)}
    for folder in folders:
        pictures = [data.Picture(path, index.good) for path in data.files(folder)]
        if not pictures:
            raise TrainingError(f"{folder}: no pictures of sound surface")
        sets[f"{folder.absolute().parent.name}/{folder.name}"] = samples.tiles(pictures, side, 0)
    return {
        name: evaluate.sound_tiles(classifier, some.tiles[:, 0].numpy(), temperature=temperature)
        for name, some in sets.items()
        if len(some)
    }


def versions() -> dict[str, str]:
    """What the run was made with."""
    return {
        "defectd": edge.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def find_boxes(folder: Path) -> Path | None:
    """boxes.json in the data folder, or where NEU-DET lies beside NEU-CLS."""
    for path in (folder / "boxes.json", folder.parent / "neu-det" / "boxes.json"):
        if path.is_file():
            return path
    return None
