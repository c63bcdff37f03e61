"""What the shipped file gives, through the code that ships: the only source of published numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.camera.sources.simulator import Strip
from edge.config import Decision
from edge.frame import Float32s, Gray
from edge.model.bundle import FP32, INT8, Bundle
from edge.model.classifier import Classifier, Scores
from edge.vision.tiles import lay
from trainer.data.corruptions import SUITE, Corruption
from trainer.data.index import Picture, cut, read
from trainer.data.samples import Samples
from trainer.evaluation.outcomes import Judge, Outcomes, judge_pictures

CONFIDENCE, UNSURE = Decision().confidence, Decision().unsure
"""Where the daemon draws its lines as long as nothing is configured or calibrated."""
NETWORKS = {FP32: "fp32", INT8: "int8"}
"""Files of a bundle, and what they are called in a report."""


@dataclass(frozen=True, slots=True)
class Report:
    """Counts over pictures that all show a defect.

    right: by the likeliest class, "good" aside.  confusion: [true][said], likewise.
    The other four add up to the pictures and are what the daemon would say of a single frame: a defect of the
    right or of a wrong class, unsure, or nothing.
    """

    pictures: int
    right: int
    defect_right: int
    defect_wrong: int
    unsure: int
    missed: int
    confusion: tuple[tuple[int, ...], ...]

    def as_metrics(self) -> dict[str, Any]:
        return {
            "n": self.pictures,
            "right": self.right,
            "defect_right": self.defect_right,
            "defect_wrong": self.defect_wrong,
            "unsure": self.unsure,
            "missed": self.missed,
            "confusion_true_said": [list(row) for row in self.confusion],
        }


def score_pictures(classifier: Classifier, pictures: Sequence[Picture]) -> Scores:
    """One row for each picture: the mean over its tiles (a single one when it is square)."""
    return score_images(classifier, [read(p.path) for p in pictures])


def score_images(classifier: Classifier, images: Sequence[Gray]) -> Scores:
    """The same for (H, W) uint8 pictures of any size, at least one."""
    tiles = [cut(image, classifier.card.input_px) for image in images]
    scores = classifier.score(np.concatenate(tiles))
    counts = np.array([len(some) for some in tiles])
    if counts.max() == 1:
        return scores

    def means(rows: Float32s) -> Float32s:
        sums = np.add.reduceat(rows, np.concatenate([[0], counts.cumsum()[:-1]]))
        return np.asarray(sums / counts[:, None], np.float32)

    return Scores(means(scores.logits), means(scores.features), None if scores.good is None else means(scores.good))


def by_file(classifier: Classifier, temperature: float | None = None) -> Judge:
    """The shipped file as a judge of pictures.  temperature: that which the card gives this file when None."""
    temperature = classifier.temperature if temperature is None else temperature
    return lambda images: score_images(classifier, images).probabilities(temperature)


def evaluate(classifier: Classifier, pictures: Sequence[Picture], *, temperature: float) -> Report:
    """Verdicts on pictures of defects, by file through edge's preprocessing and classifier."""
    count = len(classifier.card.classes)
    pictures = [p for p in pictures if p.label < count]
    confusion = np.zeros((count, count), np.int64)
    if not pictures:
        return Report(0, 0, 0, 0, 0, 0, tuple(map(tuple, confusion.tolist())))
    labels = np.array([p.label for p in pictures])
    scores = score_pictures(classifier, pictures)
    said = scores.logits.argmax(1)
    np.add.at(confusion, (labels, said), 1)
    defect, unsure = verdicts(scores.probabilities(temperature))
    return Report(
        len(pictures),
        int((said == labels).sum()),
        int((defect & (said == labels)).sum()),
        int((defect & (said != labels)).sum()),
        int(unsure.sum()),
        int((~defect & ~unsure).sum()),
        tuple(map(tuple, confusion.tolist())),
    )


def verdicts(probabilities: Float32s) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """What the daemon makes of (N, classes) probabilities: which tiles are defects, and which unsure."""
    defect = probabilities.max(1) >= CONFIDENCE
    total = probabilities.sum(1)
    suspicion = total if (total < 1 - 1e-4).any() else probabilities.max(1)
    return defect, ~defect & (suspicion >= UNSURE)


def sound_tiles(classifier: Classifier, tiles: Gray, *, temperature: float) -> dict[str, int]:
    """Verdicts on (N, S, S) tiles of sound surface: how many are called defective or unsure."""
    if not len(tiles):
        return {"n": 0, "defect": 0, "unsure": 0}
    defect, unsure = verdicts(classifier.score(tiles).probabilities(temperature))
    return {"n": len(tiles), "defect": int(defect.sum()), "unsure": int(unsure.sum())}


def measure_strip(
    classifier: Classifier, strip: Strip, frames: range, *, temperature: float, overlap: float = 0.1
) -> dict[str, Any]:
    """The generated strip as the daemon sees it: false tiles, and how long each defect is seen for what it is.

    A tile is sound when it touches no box. A frame sees a defect when the surest of the tiles that meet its box
    names its class with at least CONFIDENCE.
    """
    card = classifier.card
    grid = lay((strip.height, strip.width), tile_px=card.tile_px, input_px=card.input_px, overlap=overlap)
    sound, false, unsure, highest = 0, 0, 0, 0.0
    whole: set[int] = set()
    runs: dict[int, tuple[int, int]] = {}
    wrong_frames = 0
    for n in frames:
        probabilities = classifier.score(grid.cut(strip.frame(n))).probabilities(temperature)
        shown = strip.truth(n)
        meets = {d.track: _meeting(grid.boxes, box) for d, box in shown}
        clean = ~np.any([*meets.values(), np.zeros(len(grid), bool)], axis=0)
        defective, doubtful = verdicts(probabilities)
        sound, false = sound + int(clean.sum()), false + int((defective & clean).sum())
        unsure += int((doubtful & clean).sum())
        highest = max(highest, float(probabilities[clean].sum(1).max(initial=0)))
        for defect, box in shown:
            near = probabilities[meets[defect.track]]
            best = near[near.max(1).argmax()]
            said = card.classes[int(best.argmax())]
            sure = float(best.max()) >= CONFIDENCE
            longest, run = runs.get(defect.track, (0, 0))
            run = run + 1 if sure and said == defect.class_name else 0
            runs[defect.track] = max(longest, run), run
            wrong_frames += int(sure and said != defect.class_name)
            if box[3] == defect.box[3]:
                whole.add(defect.track)
    complete = {track: runs[track][0] for track in whole}
    return {
        "frames": len(frames),
        "sound_tiles": sound,
        "sound_tiles_defect": false,
        "sound_tiles_unsure": unsure,
        "highest_defect_probability_on_sound": round(highest, 4),
        "defects": len(complete),
        "defects_right_3_frames_running": sum(run >= 3 for run in complete.values()),
        "shortest_run_frames": min(complete.values(), default=0),
        "frames_of_wrong_class": wrong_frames,
    }


def _meeting(boxes: npt.NDArray[np.int32], box: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    x, y, w, h = box
    left, top, right, bottom = boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    return np.asarray((left < x + w) & (x < right) & (top < y + h) & (y < bottom))


def as_scored(classifier: Classifier, samples: Samples) -> Scores:
    """Scores of samples as they are, without their JPEG variant."""
    return classifier.score(samples.tiles[:, 0].numpy())


def only(scores: Scores, use: npt.NDArray[np.bool_]) -> Scores:
    """The rows where `use`, (N,) bool, is true."""
    return Scores(scores.logits[use], scores.features[use], None if scores.good is None else scores.good[use])


def fit_temperature(scores: Sequence[Scores], labels: Sequence[npt.NDArray[np.int64]]) -> float:
    """The temperature with the least negative log-likelihood over all outputs, between 0.25 and 4."""
    joined = [s.logits if s.good is None else np.concatenate([s.logits, s.good], 1) for s in scores]
    logits, truth = np.concatenate(joined).astype(np.float64), np.concatenate(list(labels))
    candidates = np.exp(np.linspace(np.log(0.25), np.log(4.0), 97))

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        top = scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled - top).sum(1)) + top[:, 0] - scaled[np.arange(len(truth)), truth]).mean())

    return round(float(min(candidates, key=loss)), 3)


def judge_bundle(
    loaded: Bundle,
    pictures: Sequence[Picture],
    *,
    split: str,
    fold: int = 0,
    seed: int = 0,
    names: Mapping[str, str] = NETWORKS,
    corruptions: Sequence[Corruption] = SUITE,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Outcomes, ...]:
    """Outcomes of every network of a bundle.

    names: file to variant; a file that has none is left out.  progress: hears variant and condition.
    """
    return tuple(
        judge_pictures(
            variant,
            by_file(Classifier(loaded, network=file)),
            pictures,
            loaded.card.classes,
            split=split,
            fold=fold,
            seed=seed,
            corruptions=corruptions,
            progress=lambda condition, variant=variant: progress(f"{variant}, {condition}"),  # type: ignore[misc]
        )
        for file, variant in names.items()
        if file in loaded.networks
    )
