"""All tiles that a network trains on, and the tiles that are held out."""

from __future__ import annotations

from dataclasses import dataclass

from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from trainer.data import samples
from trainer.data.boxes import Boxes
from trainer.data.index import Index
from trainer.data.samples import Samples


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """sources: in the order of `samples.SOURCES`.  held_out, held_out_good: never trained on; `good` is defect-free."""

    sources: tuple[Samples, ...]
    held_out: Samples
    held_out_good: Samples

    @property
    def has_good(self) -> bool:
        """Whether there is defect-free surface to learn from."""
        return any(len(source) for source in self.sources[1:3])

    @property
    def counts(self) -> dict[str, int]:
        return dict(zip(samples.SOURCES, map(len, self.sources), strict=True))

    @property
    def held_out_all(self) -> Samples:
        """For the temperature: with the defect-free crops if the networks have a `good` output."""
        return self.held_out.joined(self.held_out_good) if self.has_good else self.held_out


def training_set(index: Index, boxes: Boxes, *, strip_seeds: int, input_px: int, seed: int) -> TrainingSet:
    """Defect-free surface comes from around the defects, from the user's `good` folder and from generated strips.

    strip_seeds: number of generated strips.  They are used only if the simulator can draw every class.
    """
    train, held_out = index.splits["train"], index.splits["held_out"]
    tiles = samples.tiles(train, input_px, seed)
    good_crops, defect_crops = samples.box_crops(train, boxes, index.classes, input_px, seed)
    known = set(index.classes) <= set(STRIP_CLASSES)
    seeds = range(samples.STRIP_SEED, samples.STRIP_SEED + strip_seeds)
    strip_good, strip_defects = samples.strip_samples(index.classes, seeds if known else (), input_px)
    made = TrainingSet(
        (
            samples.balanced(tiles.without(index.good)),
            tiles.only(index.good).joined(good_crops),
            strip_good,
            strip_defects,
            defect_crops,
        ),
        samples.tiles(held_out, input_px, seed),
        samples.box_crops(held_out, boxes, index.classes, input_px, seed)[0],
    )
    if made.has_good:
        return made
    # Without defect-free surface in the training tiles there is no `good` output to evaluate it with.
    return TrainingSet(made.sources, made.held_out.without(index.good), made.held_out_good)
