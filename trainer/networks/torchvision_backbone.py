"""The door to torchvision.

Its wheels are built against a torch with CUDA: beside a CPU-only torch their C++ operators do not load, and importing
torchvision fails because it registers a fake for an operator that nobody defined. Where the operators load they stay;
where they do not, the two that are looked up get a definition. Nothing here calls them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch.library import Library


def _stand_in() -> Library | None:
    """Definitions of the missing operators, None where the real ones load."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None  # importing it says that it is missing
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


OPERATORS = _stand_in()
"""Kept here: once collected, the definitions are gone and the error is back."""

from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0  # noqa: E402  (needs the operators)

__all__ = ["EfficientNet_B0_Weights", "efficientnet_b0"]
