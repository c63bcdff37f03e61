"""What is done to tiles while training, the whole batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad


def augment(tiles: Tensor, strength: float, warped_share: float, generator: torch.Generator) -> Tensor:
    """Change tiles at random, each on its own.

    tiles: (B, S, S) uint8.  strength: 1 strong, 0 only turns and mirrors.
    Returns (B, 1, S, S) float32, 0 to 255.
    """
    count = len(tiles)

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=generator)

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) < share

    x = tiles[:, None].float()  # (B, 1, S, S)
    x = torch.where(some(0.5), x.flip(-1), x)
    x = torch.where(some(0.5), x.flip(-2), x)
    x = torch.where(some(0.5), x.transpose(-1, -2), x)
    warped = max(1, int(count * warped_share))
    x = torch.cat([_warp(x[:warped], strength, generator), x[warped:]])
    x = torch.where(some(0.3 * strength), _blur(x, generator), x)

    # Brightness alone tells most NEU classes apart: it must not be enough.
    x = 255 * (x / 255).clamp_min(1e-4) ** torch.exp(draw(-0.35, 0.35) * strength)
    mean = x.mean((-1, -2), keepdim=True)
    x = (x - mean) * torch.exp(draw(-0.5, 0.45) * strength) + mean * torch.exp(draw(-0.6, 0.45) * strength)
    line = torch.linspace(-1, 1, x.shape[-1])
    tilt_x, tilt_y = draw(-0.4, 0.4) * strength, draw(-0.4, 0.4) * strength
    x = x * (1 + tilt_x * line[None, None, None, :] + tilt_y * line[None, None, :, None])
    # Half the pixels of the native tile each way: averaging has halved its noise.
    noise = torch.empty_like(x).normal_(generator=generator)
    x = x + noise * (14 * draw(0, 1) ** 2) * strength  # mostly little: faint defects must not drown
    return x.clamp(0, 255)


def _warp(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Turn, stretch, shear and shift; what comes in at the edges is mirrored.  (B, 1, S, S) float32."""
    count = len(x)

    def draw(size: float) -> Tensor:
        return torch.empty(count).uniform_(-size, size, generator=generator) * strength

    angle, zoom, aspect, shear = draw(math.pi / 9), torch.exp(draw(0.28)), torch.exp(draw(0.16)), draw(0.12)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * aspect, -sin + shear, draw(0.2)], 1),
        torch.stack([sin, cos / aspect, draw(0.2)], 1),
    ]
    grid = affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    """Out of focus or moving: a kernel of its own for each tile.  (B, 1, S, S) float32."""
    count = len(x)
    place = torch.arange(-2, 3, dtype=torch.float32)
    across = torch.empty(count, 1, 1).uniform_(0.05, 1.3, generator=generator)
    along = torch.empty(count, 1, 1).uniform_(0.05, 1.3, generator=generator)
    kernel_x = torch.exp(-(place**2)[None, None, :] / (2 * across**2))  # (B, 1, 5)
    kernel_y = torch.exp(-(place**2)[None, :, None] / (2 * along**2))  # (B, 5, 1)
    kernel = kernel_x * kernel_y
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    padded = pad(x.transpose(0, 1), (2, 2, 2, 2), mode="reflect")  # (1, B, S + 4, S + 4)
    return conv2d(padded, kernel[:, None], groups=count).transpose(0, 1)
