"""The only module that imports torchvision.

The wheels of torchvision are built against a torch with CUDA. Beside a CPU-only torch their C++ operators do not load,
and importing torchvision fails, because it registers a fake kernel for an operator that does not exist. In that case
this module defines the two operators that the import looks up. Nothing here calls them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch.library import Library


def _missing_operators() -> Library | None:
    """Definitions of the missing operators; None if the real ones load."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None  # the import below raises the error
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return None
    defined = Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        defined.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return defined


OPERATORS = _missing_operators()
"""Keeps the definitions alive: torch forgets them when the Library is garbage-collected."""

from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0  # noqa: E402  (needs the operators)

__all__ = ["EfficientNet_B0_Weights", "efficientnet_b0"]
