"""Small folders of generated pictures, made once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from edge.camera.sources.simulator import Strip

torch.set_num_threads(1)  # a second thread does not speed up networks this small, and waits if the machine is busy

CLASSES = ("inclusion", "patches", "scratches")


def pictures(name, count, seed):
    """200x200 px pictures of generated defects of one class."""
    strip = Strip(width=400, height=320, seed=seed, speed_px=1, spacing_px=500, classes=(name,))
    made = []
    for track in range(1, count + 1):
        n = track * strip.spacing_px - 40
        shown = strip.truth(n)
        x, _, w, _ = shown[0][1] if shown else (100, 0, 200, 0)
        left = int(np.clip(x + w // 2 - 100, 0, strip.width - 200))
        made.append(strip.frame(n)[80:280, left : left + 200])
    return made


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory):
    """Class folders without splits, 12 pictures each."""
    root = tmp_path_factory.mktemp("pictures")
    for seed, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number, picture in enumerate(pictures(name, 12, seed)):
            cv2.imwrite(str(root / name / f"{name}_{number + 1}.png"), picture)
    return root


@pytest.fixture(scope="session")
def split_folder(tmp_path_factory):
    """train, valid and test with class folders and a `good` one."""
    root = tmp_path_factory.mktemp("splits")
    plain = Strip(width=400, height=320, seed=77, spacing_px=1_000_000)
    for split, count in (("train", 8), ("valid", 3), ("test", 3)):
        for seed, name in enumerate((*CLASSES, "good")):
            folder = root / split / name
            folder.mkdir(parents=True)
            many = [plain.frame(n)[:200, :200] for n in range(count)] if name == "good" else pictures(name, count, seed)
            for number, picture in enumerate(many):
                cv2.imwrite(str(folder / f"{name}_{number + 1}.png"), picture)
    return root


@pytest.fixture(scope="session")
def draw():
    """A function that draws pictures of generated defects: class, count, seed."""
    return pictures
