"""The robustness suite: reproducible corruptions of a picture, as cameras, lamps and links cause them.

Each corruption is applied to the native picture, before tiles are cut. The random numbers depend only on the seed, the
corruption and the key of the picture, not on folds, order or other pictures. So variants can be compared in pairs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import cv2
import numpy as np

from edge.frame import Float32s, Gray

Draw = np.random.Generator

CLEAN: Final = "clean"
DIRECTIONS: Final = 36
"""Of motion blur, over 180 degrees."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """name: as in every report.  change: (H, W) uint8 and a random generator -> (H, W) uint8."""

    name: str
    change: Callable[[Gray, Draw], Gray]

    def __call__(self, image: Gray, key: str, seed: int) -> Gray:
        """image: (H, W) uint8, stays unchanged.  key: identifies the picture.  Returns (H, W) uint8."""
        words = [seed, zlib.crc32(self.name.encode()), zlib.crc32(key.encode())]
        return self.change(image, np.random.Generator(np.random.SFC64(words)))


def _gray(values: Float32s) -> Gray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _noise(image: Gray, draw: Draw, *, sigma: float) -> Gray:
    """Additive Gaussian noise.  sigma: gray levels."""
    return _gray(image + np.float32(sigma) * draw.standard_normal(image.shape, np.float32))


def _snr(image: Gray, draw: Draw, *, decibels: float) -> Gray:
    """Noise at this signal-to-noise ratio to the total power of the picture."""
    power = float(np.square(image, dtype=np.float32).mean())
    return _noise(image, draw, sigma=math.sqrt(power * 10 ** (-decibels / 10)))


def _brightness(image: Gray, _: Draw, *, gain: float) -> Gray:
    return _gray(image * np.float32(gain))


def _contrast(image: Gray, _: Draw, *, gain: float) -> Gray:
    """Scales the contrast around the mean of the picture."""
    mean = np.float32(image.mean())
    return _gray((image - mean) * np.float32(gain) + mean)


def _illumination(image: Gray, draw: Draw, *, share: float) -> Gray:
    """A lamp on one side: a gain from 1 - share to 1 + share, horizontal or vertical, rising or falling."""
    height, width = image.shape
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    along = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = np.float32(share if draw.random() < 0.5 else -share)
    return _gray(image * (1 + slope * (across if draw.random() < 0.5 else along)))


def _motion(image: Gray, draw: Draw, *, length_px: int) -> Gray:
    """Motion blur along a line in a random direction."""
    kernel = _line(length_px, int(draw.integers(DIRECTIONS)))
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)


@lru_cache(maxsize=128)
def _line(length_px: int, direction: int) -> Float32s:
    """(L, L) float32, sum 1: L points on a line, each spread bilinearly over the four pixels around it."""
    angle = math.pi * direction / DIRECTIONS
    middle = (length_px - 1) / 2
    kernel = np.zeros((length_px + 1, length_px + 1), np.float32)  # the last row and column receive weight 0
    for step in range(length_px):
        x, y = middle + (step - middle) * math.cos(angle), middle + (step - middle) * math.sin(angle)
        left, top = math.floor(x + 1e-9), math.floor(y + 1e-9)
        for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            kernel[row, column] += max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
    kernel = kernel[:length_px, :length_px]
    return np.asarray(kernel / kernel.sum(), np.float32)


def _jpeg(image: Gray, _: Draw, *, quality: int) -> Gray:
    packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


def _turn(image: Gray, _: Draw) -> Gray:
    return np.ascontiguousarray(np.rot90(image))


def _defocus(image: Gray, _: Draw, *, sigma_px: float) -> Gray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


SUITE: Final = (
    *(Corruption(f"noise sigma {s}", partial(_noise, sigma=s)) for s in (10, 20, 30)),
    Corruption("noise 20 dB SNR", partial(_snr, decibels=20)),
    *(Corruption(f"brightness x{gain}", partial(_brightness, gain=gain)) for gain in (0.6, 1.4)),
    *(Corruption(f"contrast x{gain}", partial(_contrast, gain=gain)) for gain in (0.6, 1.4)),
    Corruption("illumination +-40 %", partial(_illumination, share=0.4)),
    *(Corruption(f"motion blur {px} px", partial(_motion, length_px=px)) for px in (5, 9)),
    Corruption("JPEG quality 30", partial(_jpeg, quality=30)),
    Corruption("rotation 90 degrees", _turn),
    *(Corruption(f"defocus sigma {s} px", partial(_defocus, sigma_px=s)) for s in (1, 2)),
)
