"""Files of weights: written atomically, and read without executing code from the file."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from trainer.recipe import TrainingError
from trainer.run_folder import write as write_file


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` atomically: after an interruption or on a full disk the old file stays.  Raises TrainingError."""
    packed = io.BytesIO()
    torch.save(content, packed)
    try:
        write_file(path, packed.getbuffer())
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror}. Free disk space, then run the same command again"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Raises TrainingError if the file does not exist or is not a file of weights."""
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
        raise TrainingError(f"{path}: not a file of weights, or a damaged one. Delete it to start over") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: not a file of weights")
    return content
