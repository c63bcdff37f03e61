"""The published student, rebuilt from its description with random weights: `python tests/bench/reference.py OUT.onnx`.

Only its speed is measured: `defectd bench --reference OUT.onnx`. Needs the trainer extra.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

PARAMETERS = 144_342
STAGES = ((24, 2), (48, 3), (96, 4), (192, 3))
"""Channels and depthwise-separable blocks; the first of each halves the picture."""
INPUT = (1, 3, 224, 224)


def separable(channels: int, out: int, stride: int) -> nn.Sequential:
    """(B, channels, H, W) -> (B, out, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.GroupNorm(8, out),
        nn.ReLU6(),
    )


def network(classes: int = 6) -> nn.Sequential:
    """Stem, four stages, pooling, classifier."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.GroupNorm(8, 24), nn.ReLU()]
    channels = 24
    for out, blocks in STAGES:
        for block in range(blocks):
            layers.append(separable(channels, out, 2 if block == 0 else 1))
            channels = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, classes, 1), nn.Flatten()]
    return nn.Sequential(*layers).eval()


def export(path: Path) -> None:
    """Write the network as ONNX, opset 17, one picture at a time."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its own exporter
        torch.onnx.export(network(), torch.zeros(INPUT), str(path), opset_version=17, dynamo=False)


if __name__ == "__main__":
    export(Path(sys.argv[1]))
