"""A generated data set: woven cloth with faults, so with other classes than steel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES = ("hole", "loose_thread", "oil_drop")
GOOD = "good"
SIDE = 160


def picture(name, seed, side=SIDE):
    """A picture of the cloth with one fault of a class, or none: (side, side) uint8."""
    rng = np.random.default_rng([seed, *name.encode()])
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle, pitch = rng.uniform(-0.15, 0.15), rng.uniform(5.0, 6.0)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    cloth = 118 + 16 * np.sin(2 * np.pi * along / pitch) + 16 * np.sin(2 * np.pi * across / pitch)
    cloth += cv2.GaussianBlur(rng.normal(0, 60, (side, side)).astype(np.float32), (0, 0), 6)
    place = rng.uniform(0.25, 0.75, 2) * side
    away = np.hypot(x - place[0], y - place[1])
    if name == "hole":
        cloth = np.where(away < rng.uniform(9, 20), 20, cloth)
    elif name == "oil_drop":
        cloth *= 1 - 0.65 * np.exp(-((away / rng.uniform(18, 34)) ** 4))
    elif name == "loose_thread":
        turn = rng.uniform(0, np.pi)
        u, v = (x - place[0]) * np.cos(turn) + (y - place[1]) * np.sin(turn), None
        v = (y - place[1]) * np.cos(turn) - (x - place[0]) * np.sin(turn)
        bow = v - rng.uniform(8, 16) * np.sin(u / rng.uniform(14, 24))
        cloth = np.where((np.abs(bow) < 2.2) & (np.abs(u) < 60), 235, cloth)
    cloth += rng.normal(0, 5, (side, side))
    return np.clip(cloth, 0, 255).astype(np.uint8)


def write(root, count, classes=(*CLASSES, GOOD), suffix=".png"):
    """Class folders with `count` pictures each."""
    for name in classes:
        folder = Path(root) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            assert cv2.imwrite(str(folder / f"{name}_{number}{suffix}"), picture(name, number))
    return Path(root)
