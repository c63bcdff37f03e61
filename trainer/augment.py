"""What is done to tiles while training, the whole batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad


def augment(tiles: Tensor, strength: float, warped_share: float, generator: torch.Generator) -> Tensor:
    """Change tiles at random, each on its own.

    tiles: (B, S, S) uint8.  strength: 1 strong, 0 only turns and mirrors.
    Returns (B, 1, S, S) float32, 0 to 255.
    """
    count, device = len(tiles), tiles.device

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1, device=device).uniform_(low, high, generator=generator)

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator, device=device) < share

    x = tiles[:, None].clone()  # (B, 1, S, S), bytes as long as they are only moved
    for moved in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(-1, -2)):
        chosen = some(0.5).flatten()
        x[chosen] = moved(x[chosen])
    x = x.float()
    warped = max(1, int(count * warped_share))
    x[:warped] = _warp(x[:warped], strength, generator)
    chosen = some(0.3 * strength).flatten()
    x[chosen] = _blur(x[chosen], generator)

    # From here on in place: fresh memory costs more than the arithmetic.
    # Brightness alone tells most NEU classes apart: it must not be enough.
    x.div_(255).clamp_min_(1e-4).pow_(torch.exp(draw(-0.35, 0.35) * strength))
    x.mul_(255)
    mean = x.mean((-1, -2), keepdim=True)
    contrast, gain = torch.exp(draw(-0.5, 0.45) * strength), torch.exp(draw(-0.6, 0.45) * strength)
    x.sub_(mean).mul_(contrast).add_(mean * gain)
    line = torch.linspace(-1, 1, x.shape[-1], device=device)
    tilt_x, tilt_y = draw(-0.4, 0.4) * strength, draw(-0.4, 0.4) * strength
    x.mul_(tilt_x * line + (1 + tilt_y * line[:, None]))
    # Half the pixels of the native tile each way: averaging has halved its noise.
    noise = torch.empty_like(x).normal_(generator=generator)
    x.addcmul_(noise, 14 * draw(0, 1) ** 2 * strength)  # mostly little: faint defects must not drown
    return x.clamp_(0, 255)


def _warp(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Turn, stretch, shear and shift; what comes in at the edges is mirrored.  (B, 1, S, S) float32."""
    count, device = len(x), x.device

    def draw(size: float) -> Tensor:
        return torch.empty(count, device=device).uniform_(-size, size, generator=generator) * strength

    angle, zoom, aspect, shear = draw(math.pi / 9), torch.exp(draw(0.28)), torch.exp(draw(0.16)), draw(0.12)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    to_x, to_y = (cos * aspect, shear - sin, draw(0.2)), (sin, cos / aspect, draw(0.2))
    side = x.shape[-1]
    line = torch.linspace(-1, 1, side, device=device) * (side - 1) / side  # the middles of the pixels
    grid = torch.empty(count, side, side, 2, device=device)
    for axis, (by_x, by_y, shift) in enumerate((to_x, to_y)):  # what affine_grid does, without a matrix product
        torch.add(
            (by_x[:, None] * line + shift[:, None])[:, None, :], (by_y[:, None] * line)[:, :, None], out=grid[..., axis]
        )
    return grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    """Out of focus or moving: a kernel of its own for each tile.  (B, 1, S, S) float32."""
    count, device = len(x), x.device
    if not count:
        return x
    place = torch.arange(-2, 3, dtype=torch.float32, device=device)
    across = torch.empty(count, 1, 1, device=device).uniform_(0.05, 1.3, generator=generator)
    along = torch.empty(count, 1, 1, device=device).uniform_(0.05, 1.3, generator=generator)
    kernel_x = torch.exp(-(place**2)[None, None, :] / (2 * across**2))  # (B, 1, 5)
    kernel_y = torch.exp(-(place**2)[None, :, None] / (2 * along**2))  # (B, 5, 1)
    kernel = kernel_x * kernel_y
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    padded = pad(x.transpose(0, 1), (2, 2, 2, 2), mode="reflect")  # (1, B, S + 4, S + 4)
    return conv2d(padded, kernel[:, None], groups=count).transpose(0, 1)
