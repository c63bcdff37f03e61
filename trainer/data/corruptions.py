"""The robustness suite: reproducible corruptions of a picture, as cameras, lamps and links cause them.

Each corruption is applied to the native picture, before tiles are cut. The random numbers depend only on the seed, the
corruption and the key of the picture, not on folds, order or other pictures. So variants can be compared in pairs.

There are two groups; the names of corruptions are keys of records. `SUITE` is the standard group: 15 corruptions of
fixed strength, in gray levels and native pixels. Its mean is the published one, and the int8 gate judges by it.
`further` fits the data: noise in shares of its own contrast, blur in pixels of the network's input, polarity and gamma.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import cv2
import numpy as np

from edge.frame import Float32s, Gray

Draw = np.random.Generator

CLEAN: Final = "clean"
STANDARD: Final = "standard"
FURTHER: Final = "further"
"""The names of the groups."""
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


def _inverted(image: Gray, _: Draw) -> Gray:
    return 255 - image


def _gamma(image: Gray, _: Draw, *, exponent: float) -> Gray:
    """Below 1 brightens the dark parts, above 1 darkens the bright ones; black and white stay."""
    return _gray(np.float32(255) * (image / np.float32(255)) ** np.float32(exponent))


def _tile_defocus(image: Gray, draw: Draw, *, sigma: float, input_px: int) -> Gray:
    """sigma: px of the network's input, to which a tile is shrunk."""
    return _defocus(image, draw, sigma_px=sigma * min(image.shape) / input_px)


def _tile_motion(image: Gray, draw: Draw, *, length: float, input_px: int) -> Gray:
    """length: px of the network's input."""
    return _motion(image, draw, length_px=max(2, round(length * min(image.shape) / input_px)))


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
"""The standard group."""
NOISE_SHARES: Final = (0.5, 1.0, 1.5)
"""Of the contrast: on NEU, 11, 22 and 33 gray levels."""
DEFOCUS_INPUT_PX: Final = (0.5, 1.0)
MOTION_INPUT_PX: Final = (2.5, 4.5)
"""On tiles of 200 px and an input of 100 px, defocus and motion blur of the standard group."""
GAMMAS: Final = (0.5, 2.0)


def further(contrast: float, input_px: int) -> tuple[Corruption, ...]:
    """The second group.  A picture is a tile, or is cut into tiles of its shorter side.

    contrast: of the data, gray levels, from `contrast_of`.  input_px: side of the network's input.
    """
    return (
        *(Corruption(f"noise x{s} contrast", partial(_noise, sigma=s * contrast)) for s in NOISE_SHARES),
        *(
            Corruption(f"defocus sigma {s} input px", partial(_tile_defocus, sigma=s, input_px=input_px))
            for s in DEFOCUS_INPUT_PX
        ),
        *(
            Corruption(f"motion blur {px} input px", partial(_tile_motion, length=px, input_px=input_px))
            for px in MOTION_INPUT_PX
        ),
        Corruption("inverted gray", _inverted),
        *(Corruption(f"gamma {g}", partial(_gamma, exponent=g)) for g in GAMMAS),
    )


FURTHER_NAMES: Final = tuple(corruption.name for corruption in further(1.0, 1))


def group_of(name: str) -> str:
    """The group of a corruption, by its name.  Names that this version does not know are of the standard group."""
    return FURTHER if name in FURTHER_NAMES else STANDARD


def contrast_of(images: Iterable[Gray]) -> float:
    """The median of the pictures' standard deviations, gray levels, at least 1.  0 pictures: 1."""
    return max(1.0, round(float(np.median([image.std() for image in images] or [1.0])), 1))
