"""Pictures and videos on disk for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.camera.sources.contract import Picture, Source
from edge.errors import EndOfRecording

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
"""The real images, where they are on this machine."""


def steel(h: int = 60, w: int = 80, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (h, w), np.uint8), (0, 0), 2)


def write_video(path: Path, frames: int = 5, fps: float = 25.0, code: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (96, 64))
    for n in range(frames):
        writer.write(np.full((64, 96, 3), (20 + 30 * n) % 256, np.uint8))
    writer.release()
    return path


def read_all(source: Source) -> list[Picture]:
    pictures = []
    try:
        while True:
            pictures.append(source.read())
    except EndOfRecording:
        return pictures
    finally:
        source.close()
