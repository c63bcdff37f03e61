"""A contact sheet: pictures of each class, and the same tiles after augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edge.frame import Gray
from trainer.augment import augment
from trainer.data import samples
from trainer.data.index import Index
from trainer.data.pictures import cut, read
from trainer.recipe import Fit, TrainingError
from trainer.run_folder import write

GAP_PX: Final = 4
LINE_PX: Final = 22
INK, PAPER = 30, 245


def page(index: Index, fit: Fit, *, input_px: int, seed: int = 0, across: int = 12) -> Gray:
    """Draw one sheet.  Each class has a row of tiles at the size of the network's input, evenly spaced by file number,
    with the split of each.  Two rows below show the first tile, augmented as at the start and at the end of training.
    Returns (H, W) uint8.
    """
    rows: list[Gray] = []
    names = (*index.classes, "good")
    generator = torch.Generator().manual_seed(seed)
    split_of = {p.path: split for split, pictures in index.splits.items() for p in pictures}
    for label, name in enumerate(names):
        own = [p for p in index.pictures if p.label == label]
        if not own:
            continue
        chosen = [own[i * len(own) // across] for i in range(min(across, len(own)))] if len(own) > across else own
        tiles = [cut(read(p.path), input_px)[0] for p in chosen]
        counts = ", ".join(f"{c[name]} {split}" for split, c in index.counts().items() if name in c)
        rows.append(_line(f"{name}: {counts}", across, input_px))
        rows.append(_row(tiles, [f"{p.path.stem} {split_of[p.path]}" for p in chosen], across, input_px))
        first = samples.tiles(chosen[:1], input_px, seed).tiles[0]  # (2, S, S): unchanged, and after JPEG
        for words, late in (("augmented", False), ("augmented, last part of training", True)):
            same = torch.stack([first[int(n % 4 == 3)] for n in range(across)])
            changed = augment(same, fit.changes(late=late), generator)[:, 0].round().to(torch.uint8).numpy()
            rows.append(_row(list(changed), [words], across, input_px))
    notes = (*index.notes, *(f"left out: {one.path.name} {one.reason}" for one in index.left_out[:10]))
    rows += [_line(note, across, input_px) for note in notes]
    return np.vstack(rows)


def save(sheet: Gray, path: Path) -> None:
    """Write the sheet as PNG, atomically.  Raises TrainingError."""
    done, encoded = cv2.imencode(".png", sheet)
    if not done:
        raise TrainingError(f"{path}: the sheet cannot be encoded as PNG")
    write(path, encoded.tobytes())


def _row(tiles: Sequence[Gray], words: Sequence[str], across: int, side: int) -> Gray:
    sheet = np.full((side + GAP_PX + LINE_PX, across * (side + GAP_PX)), PAPER, np.uint8)
    for n, tile in enumerate(tiles):
        left = n * (side + GAP_PX)
        sheet[:side, left : left + side] = tile
    for n, text in enumerate(words):
        cell = sheet if len(words) == 1 else sheet[:, n * (side + GAP_PX) : (n + 1) * (side + GAP_PX)]
        _write(cell, text, side + 14, 0.32)
    return sheet


def _line(text: str, across: int, side: int) -> Gray:
    sheet = np.full((LINE_PX + 6, across * (side + GAP_PX)), PAPER, np.uint8)
    _write(sheet, text, 20, 0.5)
    return sheet


def _write(area: npt.NDArray[np.uint8], text: str, baseline: int, scale: float) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's font has ASCII only
    canvas = np.ascontiguousarray(area)
    cv2.putText(canvas, plain, (2, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, (INK,), 1, cv2.LINE_AA)
    area[:] = canvas
