"""The versions of the software of a run, for the card and the record."""

from __future__ import annotations

import platform

import numpy as np
import onnx
import onnxruntime
import torch

import edge


def versions() -> dict[str, str]:
    return {
        "defectd": edge.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }
