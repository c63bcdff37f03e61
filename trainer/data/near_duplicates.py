"""Near duplicates: the same picture again, turned or mirrored, and views of the same piece of surface.

Collections of surface pictures are often cut from fewer, larger ones. A picture whose twin was trained on
measures memory, so twins stay on one side of every split.

Two ways propose a pair, and the pixels decide. A perceptual hash finds pictures that are the same as a whole, in any
of the eight turned and mirrored positions. Phase correlation finds views of the same class that are shifted
against each other, where they share about a third or more. Then the fine structure of what both show, normalised so
that a bright scratch counts no more than the grain beside it, has to agree: on NEU-CLS the coefficient is below 0.55
for different pictures and above 0.7 for twins, with nearly nothing between.
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
HASH_BITS_APART: Final = 12
"""Of 63. Rather too many proposals than too few: the pixels decide."""
PHASE_PEAK: Final = 0.075
ALIKE: Final = 0.65
SHIFT_PAIRS: Final = 400_000
"""Pairs that are compared at all shifts: about ten seconds. More pictures: neighbours by number only."""
MIN_SHARED: Final = 0.3
"""Of a picture, that shifted views must have in common."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept of a picture to find its twins.

    hashes: (8, 63) int8 of -1 and 1, one row for each turned and mirrored position, the first as it is.
    fine: (SIDE, SIDE) float32, fine structure with even local contrast.
    """

    hashes: npt.NDArray[np.int8]
    fine: Float32s


def mark(image: Gray) -> Mark:
    """The mark of one picture.  image: (H, W) uint8."""
    coarse = cv2.dct(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8]
    odd = np.where(np.arange(8) % 2, -1, 1)
    # Mirroring changes the sign of every other coefficient, turning transposes: no picture is turned for this.
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
    return Mark(hashes, np.asarray(fine, np.float32))


def groups(
    marks: Sequence[Mark], labels: Sequence[int], report: Callable[[int, int], None] = lambda _done, _of: None
) -> list[int]:
    """For each picture the position of the first one of its group; a picture without twin is its own group.

    labels: shifted views are looked for among pictures with the same one, in the given order.
    """
    first = list(range(len(marks)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, j in _pairs(marks, labels, report):
        a, b = sorted((root(i), root(j)))
        first[b] = a
    return [root(i) for i in range(len(first))]


def _pairs(
    marks: Sequence[Mark], labels: Sequence[int], report: Callable[[int, int], None]
) -> Iterator[tuple[int, int]]:
    if len(marks) < 2:
        return
    yield from _same(marks)
    members = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))]
    reach = max(1, SHIFT_PAIRS // len(marks))
    for done, own in enumerate(members):
        yield from ((int(own[i]), int(own[j])) for i, j in _shifted(np.stack([marks[i].fine for i in own]), reach))
        report(done + 1, len(members))


def _same(marks: Sequence[Mark]) -> Iterator[tuple[int, int]]:
    """Pairs whose hashes are near in some position, and whose pixels agree in it."""
    hashes = np.stack([m.hashes for m in marks]).astype(np.float32)  # (N, 8, 63)
    for i, own in enumerate(marks[:-1]):
        agree = hashes[i + 1 :] @ own.hashes[0].astype(np.float32)  # (N - i - 1, 8): bits alike less bits apart
        for j, position in np.argwhere(agree >= own.hashes.shape[1] - 2 * HASH_BITS_APART):
            if _alike(own.fine, _turned(marks[i + 1 + j].fine, int(position)), 0, 0):
                yield i, i + 1 + int(j)


def _turned(fine: Float32s, position: int) -> Float32s:
    block = fine.T if position & 4 else fine
    block = block[:, ::-1] if position & 2 else block
    return block[::-1] if position & 1 else block


def _shifted(fine: Float32s, reach: int) -> Iterator[tuple[int, int]]:
    """Pairs of (N, SIDE, SIDE) that show the same place, each with at most `reach` of those after it."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32)
    spectra = np.fft.rfft2(fine * window)
    strength = np.abs(spectra)
    spectra /= strength + 1e-3 * strength.mean() + 1e-9
    for i in range(len(fine) - 1):
        product = spectra[i] * np.conj(spectra[i + 1 : i + 1 + reach])
        peaks = np.fft.irfft2(product, s=(SIDE, SIDE)).reshape(-1, SIDE * SIDE)
        places = peaks.argmax(1)
        for j in np.flatnonzero(peaks[np.arange(len(places)), places] > PHASE_PEAK):
            down, right = divmod(int(places[j]), SIDE)  # or the other way round the edge
            shifts = itertools.product((down, down - SIDE), (right, right - SIDE))
            if any(_alike(fine[i], fine[i + 1 + j], *shift) for shift in shifts):
                yield i, i + 1 + int(j)


def _alike(a: Float32s, b: Float32s, down: int, right: int) -> bool:
    """Whether what both show agrees once b is shifted."""
    if (SIDE - abs(down)) * (SIDE - abs(right)) < MIN_SHARED * SIDE * SIDE:
        return False
    one = a[max(0, down) : SIDE + min(0, down), max(0, right) : SIDE + min(0, right)]
    other = b[max(0, -down) : SIDE + min(0, -down), max(0, -right) : SIDE + min(0, -right)]
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return size > 0 and float((one * other).sum()) / size >= ALIKE
