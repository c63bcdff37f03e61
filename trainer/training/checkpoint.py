"""Files of weights: written whole or not at all, read without running anything from them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from trainer.recipe import TrainingError
from trainer.run_folder import write as replace


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` at once: who is interrupted, or has a full disk, keeps the old file.  Raises TrainingError."""
    packed = io.BytesIO()
    torch.save(content, packed)
    try:
        replace(path, packed.getbuffer())
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror}. Make room, then run the same again"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Raises TrainingError when there is no such file, or none of weights."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise TrainingError(f"{path}: not a file of weights, or a damaged one. Delete it to start anew") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: not a file of weights")
    return content
