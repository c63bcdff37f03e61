"""Bounding boxes of defects, from a JSON file beside the pictures."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.recipe import TrainingError

Boxes = dict[str, list[tuple[int, int, int, int]]]
"""File stem of a picture -> the boxes of its defects: xmin, ymin, xmax, ymax, px."""


def find_boxes(folder: Path) -> Path | None:
    """boxes.json in the data folder, or in the `neu-det` folder beside it, where NEU-DET keeps the boxes of NEU-CLS."""
    for path in (folder / "boxes.json", folder.parent / "neu-det" / "boxes.json"):
        if path.is_file():
            return path
    return None


def read_boxes(path: Path) -> Boxes:
    """Read {"stem": [["class", xmin, ymin, xmax, ymax], ...]}.  Raises TrainingError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return {stem: [(int(a), int(b), int(c), int(d)) for _, a, b, c, d in boxes] for stem, boxes in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"{path}: not a file of boxes: {error}") from error
