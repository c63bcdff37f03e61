"""Generated pictures of steel with the six classes of defects, and of defect-free steel: a data set for trials.

As a program it writes the data set, with a test split: `python tests/trainer/steel_textures.py FOLDER`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.camera.sources.simulator import CLASSES, Strip

GOOD = "good"
SIDE = 200
"""Of a picture, px: that of a NEU picture."""
TRAIN, TEST = 28, 12
"""Pictures of each class: together what a quick trial uses."""
FIRST_SEED = 20_000
"""Far from the seeds of the strips that training itself generates."""
DEFECTS_PER_STRIP = 10
STRIP_PX, SPACING_PX = 480, 520
"""Width of a strip and height of its frames; distance between two defects."""


def pictures(name: str, count: int, first_seed: int = FIRST_SEED) -> Iterator[np.ndarray]:
    """Pictures of one class, or of defect-free steel: (SIDE, SIDE) uint8; the defect is whole, or fills the picture."""
    rng = np.random.default_rng([first_seed, *name.encode()])
    for number in range(count):
        seed, place = divmod(number, DEFECTS_PER_STRIP)
        if place == 0:
            has_defects = name != GOOD
            strip = Strip(
                width=STRIP_PX, height=STRIP_PX, seed=first_seed + seed, speed_px=1, spacing_px=SPACING_PX,
                noise=float(rng.uniform(1, 4)), classes=(name,) if has_defects else CLASSES, defects=int(has_defects),
            )  # fmt: skip
        if name == GOOD:
            frame, (x, y) = strip.frame(int(rng.integers(0, 2048))), rng.integers(0, STRIP_PX - SIDE, 2)
        else:
            track = place + 1
            (box,) = (d.box for d in strip.defects(track * SPACING_PX, (track + 2) * SPACING_PX) if d.track == track)
            frame = strip.view(box[1] + box[3] // 2 - STRIP_PX // 2, number)
            middle = np.array([box[0] + box[2] / 2, STRIP_PX / 2]) + rng.uniform(-25, 25, 2)
            x, y = np.clip(middle - SIDE / 2, 0, STRIP_PX - SIDE).astype(int)
        yield np.ascontiguousarray(frame[y : y + SIDE, x : x + SIDE])


def write(root: Path | str, train: int = TRAIN, test: int = TEST) -> Path:
    """`train` and `test` with a folder for each class."""
    for name in (*CLASSES, GOOD):
        for number, picture in enumerate(pictures(name, train + test), 1):
            folder = Path(root) / ("train" if number <= train else "test") / name
            folder.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / f"{name}_{number}.png"), picture)
    return Path(root)


if __name__ == "__main__":
    write(sys.argv[1])
