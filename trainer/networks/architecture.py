"""The student: its architecture as data, and the torch module built from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from trainer.recipe import Count

CENTRE, SPREAD = 127.5, 64.0
"""Input scaling: (gray value - CENTRE) / SPREAD. The export folds it into the first convolution."""


@dataclass(frozen=True, slots=True)
class Conv:
    """A dense convolution with BatchNorm and ReLU, padded by kernel // 2 unless kernel equals stride."""

    channels: Count
    kernel: Count
    stride: Count

    @property
    def padding(self) -> int:
        return 0 if self.kernel == self.stride else self.kernel // 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """Convolutions of a gray tile, then global average pooling and linear outputs."""

    name: str
    input_px: Count
    convs: tuple[Conv, ...]

    @property
    def features(self) -> int:
        return self.convs[-1].channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolutions for one tile."""
        side, before, total = self.input_px, 1, 0
        for conv in self.convs:
            side = (side + 2 * conv.padding - conv.kernel) // conv.stride + 1
            total += side * side * conv.kernel**2 * before * conv.channels
            before = conv.channels
        return total

    @property
    def weights(self) -> int:
        """Weights of the convolutions."""
        inputs = (1, *(conv.channels for conv in self.convs))
        return sum(c.kernel**2 * before * c.channels for c, before in zip(self.convs, inputs, strict=False))


I100_S4 = Architecture("i100_s4", 100, (Conv(16, 4, 4), Conv(32, 3, 2), Conv(64, 3, 2), Conv(64, 3, 1), Conv(96, 3, 2)))
"""4.5 million MACs. Dense 3x3 convolutions beat depthwise ones on CPU kernels, and the export folds BatchNorm away."""

ARCHITECTURES = {a.name: a for a in (I100_S4,)}


class Student(nn.Module):
    """One logit for each class and, with `good`, one for defect-free surface."""

    def __init__(self, architecture: Architecture, classes: int, *, good: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        before = 1
        for conv in architecture.convs:
            self.convs.append(nn.Conv2d(before, conv.channels, conv.kernel, conv.stride, conv.padding, bias=False))
            self.norms.append(nn.BatchNorm2d(conv.channels))
            before = conv.channels
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(before, classes)
        self.good = nn.Linear(before, 1) if good else None
        for conv_module, _ in self.pairs():
            nn.init.kaiming_normal_(conv_module.weight, nonlinearity="relu")

    def pairs(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Each convolution with its BatchNorm."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            yield cast("nn.Conv2d", conv), cast("nn.BatchNorm2d", norm)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """tiles: (B, 1, S, S) float32, 0 to 255.  Returns logits (B, C), features (B, F), good (B, 1) or None."""
        x = (tiles - CENTRE) / SPREAD
        for conv, norm in self.pairs():
            x = norm(conv(x)).relu()  # i100_s4: (B, 16, 25, 25), (B, 32, 13, 13), (B, 64, 7, 7), ..., (B, 96, 4, 4)
        features = x.mean((-1, -2))  # (B, F)
        kept = self.dropout(features)
        return self.classes(kept), features, None if self.good is None else self.good(kept)

    def max_activations(self, tiles: Tensor, layers: int) -> Tensor:
        """The maximum over the tile, for each channel of the first convolutions.  tiles: as in `forward`.  (B, P)."""
        x, found = (tiles - CENTRE) / SPREAD, []
        for conv, norm in islice(self.pairs(), layers):
            x = norm(conv(x)).relu()
            found.append(x.amax((-1, -2)))
        return torch.cat(found, 1)
