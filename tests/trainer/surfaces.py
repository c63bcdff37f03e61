"""Generated textures, and folders of them, for the tests of the data."""

from __future__ import annotations

import shutil

import cv2
import numpy as np


def texture(seed, side=120):
    """Smooth noise, different for every seed."""
    noise = np.random.default_rng(seed).normal(0, 1, (side, side)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5) * 90 + noise * 10
    return np.clip(smooth + 120, 0, 255).astype(np.uint8)


def write(folder, names, first_seed=0, suffix=".png"):
    """One texture for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names):
        assert cv2.imwrite(str(folder / f"{name}{suffix}"), texture(first_seed + n))


def write_with_duplicates(root):
    """Two classes of 20 pictures, in which numbers 3 and 17, and 0, 1 and 2, are near duplicates."""
    for n, name in enumerate(("dent", "rust")):
        write(root / name, [f"{k}" for k in range(20)], 100 * n)
        place = texture(900 + n, 400)
        for k in (0, 1, 2):
            cv2.imwrite(str(root / name / f"{k}.png"), place[:200, 40 * k : 40 * k + 200])
        shutil.copy(root / name / "3.png", root / name / "17.png")
    return root


def groups(parts):
    """The groups of near duplicates in each part."""
    return [{p.group for p in part} for part in parts]
