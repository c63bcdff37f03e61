"""Near duplicates: rotated, mirrored or shifted pictures of the same piece of surface.

Data sets of surface pictures are often cut from fewer, larger pictures. A test picture with a near duplicate in the
training data measures memory, so near duplicates stay in one split.

Two methods propose pairs, and a comparison of the pixels decides. A perceptual hash finds pictures that are equal as a
whole, in any of the eight rotated and mirrored orientations. Phase correlation finds shifted views within a class, if
they overlap by about a third or more. The overlapping fine structure must then correlate. Local contrast is normalised
first, so that a bright scratch weighs no more than the grain beside it. On NEU-CLS the correlation is below 0.55 for
different pictures and above 0.7 for near duplicates, with almost nothing in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import Float32s, Gray

SIDE: Final = 64
MAX_HASH_DISTANCE: Final = 12
"""Bits of 63. Generous: too many proposals only cost time, the pixels decide."""
MIN_PHASE_PEAK: Final = 0.075
MIN_CORRELATION: Final = 0.65
MAX_SHIFT_PAIRS: Final = 400_000
"""Pairs compared by phase correlation: about ten seconds. Beyond, only neighbours by file number are compared."""
MIN_OVERLAP: Final = 0.3
"""Share of a picture that shifted views must have in common."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The part of a picture by which its near duplicates are found.

    hashes: (8, 63) int8 of -1 and 1, one row for each orientation, the first for the picture as it is.
    fine: (SIDE, SIDE) float32, fine structure with normalised local contrast.
    """

    hashes: npt.NDArray[np.int8]
    fine: Float32s


def signature(image: Gray) -> Signature:
    """image: (H, W) uint8."""
    coarse = cv2.dct(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8]
    odd = np.where(np.arange(8) % 2, -1, 1)
    # Mirroring flips the sign of every other DCT coefficient and rotation transposes, so one DCT gives all eight.
    turned = [
        block * across * down
        for block in (coarse, coarse.T)
        for across in (1, odd[None, :])
        for down in (1, odd[:, None])
    ]
    hashes = np.stack([np.where(t.reshape(-1)[1:] > 0, 1, -1) for t in turned]).astype(np.int8)
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = cv2.GaussianBlur(small, (0, 0), 0.5) - cv2.GaussianBlur(small, (0, 0), 3)
    fine = fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 5)) + 0.5)
    return Signature(hashes, np.asarray(fine, np.float32))


def groups(
    signatures: Sequence[Signature], labels: Sequence[int], report: Callable[[int, int], None] = lambda _done, _of: None
) -> list[int]:
    """For each picture, the index of the first picture of its group; without near duplicates it is its own group.

    labels: shifted views are searched among pictures with the same label, in the given order.
    """
    first = list(range(len(signatures)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j in _pairs(signatures, labels, report):
        a, b = sorted((root(i), root(j)))
        first[b] = a
    return [root(i) for i in range(len(first))]


def _pairs(
    signatures: Sequence[Signature], labels: Sequence[int], report: Callable[[int, int], None]
) -> Iterator[tuple[int, int]]:
    if len(signatures) < 2:
        return
    yield from _equal(signatures)
    members = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))]
    reach = max(1, MAX_SHIFT_PAIRS // len(signatures))
    for done, own in enumerate(members):
        yield from ((int(own[i]), int(own[j])) for i, j in _shifted(np.stack([signatures[i].fine for i in own]), reach))
        report(done + 1, len(members))


def _equal(signatures: Sequence[Signature]) -> Iterator[tuple[int, int]]:
    """Pairs whose hashes are close in some orientation, and whose pixels correlate in that orientation."""
    hashes = np.stack([m.hashes for m in signatures]).astype(np.float32)  # (N, 8, 63)
    for i, own in enumerate(signatures[:-1]):
        agree = hashes[i + 1 :] @ own.hashes[0].astype(np.float32)  # (N - i - 1, 8): equal bits minus different bits
        for j, orientation in np.argwhere(agree >= own.hashes.shape[1] - 2 * MAX_HASH_DISTANCE):
            if _correlate(own.fine, _turned(signatures[i + 1 + j].fine, int(orientation)), 0, 0):
                yield i, i + 1 + int(j)


def _turned(fine: Float32s, orientation: int) -> Float32s:
    block = fine.T if orientation & 4 else fine
    block = block[:, ::-1] if orientation & 2 else block
    return block[::-1] if orientation & 1 else block


def _shifted(fine: Float32s, reach: int) -> Iterator[tuple[int, int]]:
    """Pairs of (N, SIDE, SIDE) that show the same place; each is compared with the `reach` pictures after it."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32)
    spectra = np.fft.rfft2(fine * window)
    strength = np.abs(spectra)
    spectra /= strength + 1e-3 * strength.mean() + 1e-9
    for i in range(len(fine) - 1):
        product = spectra[i] * np.conj(spectra[i + 1 : i + 1 + reach])
        correlation = np.fft.irfft2(product, s=(SIDE, SIDE)).reshape(-1, SIDE * SIDE)
        places = correlation.argmax(1)
        for j in np.flatnonzero(correlation[np.arange(len(places)), places] > MIN_PHASE_PEAK):
            down, right = divmod(int(places[j]), SIDE)  # the correlation is circular: the shift may be negative
            shifts = itertools.product((down, down - SIDE), (right, right - SIDE))
            if any(_correlate(fine[i], fine[i + 1 + j], *shift) for shift in shifts):
                yield i, i + 1 + int(j)


def _correlate(a: Float32s, b: Float32s, down: int, right: int) -> bool:
    """Whether the overlap of a and the shifted b correlates."""
    if (SIDE - abs(down)) * (SIDE - abs(right)) < MIN_OVERLAP * SIDE * SIDE:
        return False
    one = a[max(0, down) : SIDE + min(0, down), max(0, right) : SIDE + min(0, right)]
    other = b[max(0, -down) : SIDE + min(0, -down), max(0, -right) : SIDE + min(0, -right)]
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return size > 0 and float((one * other).sum()) / size >= MIN_CORRELATION
