"""Augmentation of training tiles, a whole batch at once.

Each batch has two kinds of tiles. Some are changed as strongly as cameras, lamps and links may change them. The others
stay almost unchanged ("plain"), so that the network can learn faint defects from tiles that still show them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, grid_sample, pad

PLAIN_STRENGTH: Final = 0.25
"""Strength of the changes of light for a plain tile."""
NOISY, BLURRED, MOVED = 0.6, 0.45, 0.35
"""Shares of the tiles that are not plain: with noise, with blur; and the share of motion blur among the blurred."""
REACH_PX: Final = 3
"""Reach of a blur kernel to each side."""
LOCAL_PX: Final = 12
"""Reach of the local mean to each side, for a tile that is inverted about it."""
WHOLE: Final = 0.4
"""Share of the inverted tiles whose gray is inverted as a whole."""
BANK: Final = 1 << 22
"""Size of a table of normal random numbers, read from random offsets: drawing new ones costs more than a step."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Strength of the augmentation.  strength: 1 as in training, 0 only rotates and mirrors.

    warped, plain: shares of a batch, drawn independently.  warp: strength of the warp.  noise: maximum standard
    deviation, gray levels at the size of the network's input; less where the contrast is reduced.  faint: the least
    contrast, as a share of the tile's own.
    """

    strength: float = 1.0
    warped: float = 0.5
    plain: float = 0.5
    warp: float = 1.0
    noise: float = 17.0
    faint: float = 0.6065


def augment(tiles: Tensor, changes: Changes, generator: torch.Generator) -> Tensor:
    """Change each tile at random, independently of the others.

    tiles: (B, S, S) uint8.  Returns (B, 1, S, S) float32, 0 to 255.
    """
    count, device = len(tiles), tiles.device

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1, device=device).uniform_(low, high, generator=generator)

    def some(share: float) -> Tensor:
        return torch.rand(count, generator=generator, device=device) < share

    x = tiles[:, None].clone()  # (B, 1, S, S), bytes while pixels only change places
    for moved in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(-1, -2)):
        chosen = some(0.5)
        x[chosen] = moved(x[chosen])
    x = x.float()
    warped = max(1, int(count * changes.warped))
    x[:warped] = _warp(x[:warped], changes.strength * changes.warp, generator)
    plain = some(changes.plain)
    blurred = some(BLURRED * changes.strength) & ~plain
    x[blurred] = _blur(x[blurred], generator)

    # In place from here on: fresh memory costs more than the arithmetic.
    # Brightness alone separates most NEU classes: the network must not rely on it.
    strength = torch.where(plain, PLAIN_STRENGTH, 1.0)[:, None, None, None] * changes.strength
    bend = draw(-0.4, 0.4) * strength
    x.mul_((x * (-1 / 255)).add_(1).mul_(bend).add_(1))  # similar to a gamma of 0.7 to 1.5, without a power function
    mean = x.mean((-1, -2), keepdim=True)
    contrast, gain = torch.exp(draw(math.log(changes.faint), 0.45) * strength), torch.exp(draw(-0.6, 0.45) * strength)
    x.sub_(mean).mul_(contrast).add_(mean * gain)
    line = torch.linspace(-1, 1, x.shape[-1], device=device)
    tilt_x, tilt_y = draw(-0.4, 0.4) * strength, draw(-0.4, 0.4) * strength
    x.mul_(tilt_x * line + (1 + tilt_y * line[:, None]))
    # A sensor saturates before its noise is added.
    x.clamp_(0, 255)
    noisy = some(NOISY) & ~plain
    sigma = changes.noise * changes.strength * draw(0, 1) * contrast.clamp(max=1)  # else it hides a faint defect
    _add_noise(x, noisy, sigma.flatten(), generator)
    return x.clamp_(0, 255)


def invert_some(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Invert the polarity of a share of the tiles: on another steel a scratch may be dark where it is bright here.

    A tile is inverted about its local mean, which keeps the light, or as a whole.  x: (B, 1, S, S) float32, 0 to 255,
    stays unchanged.  Returns the same shape.
    """
    if not share:
        return x
    chosen = torch.rand(len(x), generator=generator, device=x.device) < share
    some = x[chosen]
    local = pad(some, (LOCAL_PX,) * 4, mode="reflect")
    for kernel in ((1, 2 * LOCAL_PX + 1), (2 * LOCAL_PX + 1, 1)):  # a square at once takes ten times as long
        local = avg_pool2d(local, kernel, stride=1)
    whole = torch.rand(len(some), 1, 1, 1, generator=generator, device=x.device) < WHOLE
    inverted = x.clone()
    inverted[chosen] = torch.where(whole, 255.0 - some, 2.0 * local - some).clamp_(0, 255)
    return inverted


def _add_noise(x: Tensor, chosen: Tensor, sigma: Tensor, generator: torch.Generator) -> None:
    """x: (B, 1, S, S), changed in place.  chosen: (B,) bool.  sigma: (B,) gray levels."""
    bank, size = _bank(x.device), x[0].numel()
    places = torch.randint(0, BANK - size, (len(x),), generator=generator, device=x.device).tolist()
    for n in chosen.nonzero().flatten().tolist():
        x[n].view(-1).add_(bank[places[n] : places[n] + size], alpha=float(sigma[n]))


@lru_cache(maxsize=2)
def _bank(device: torch.device) -> Tensor:
    return torch.randn(BANK, generator=torch.Generator(device).manual_seed(0), device=device)


def _warp(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, scale, shear and shift; the border is mirrored.  (B, 1, S, S) float32."""
    count, device = len(x), x.device

    def draw(size: float) -> Tensor:
        return torch.empty(count, device=device).uniform_(-size, size, generator=generator) * strength

    angle, zoom, aspect, shear = draw(math.pi / 9), torch.exp(draw(0.28)), torch.exp(draw(0.16)), draw(0.12)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    to_x, to_y = (cos * aspect, shear - sin, draw(0.2)), (sin, cos / aspect, draw(0.2))
    side = x.shape[-1]
    line = torch.linspace(-1, 1, side, device=device) * (side - 1) / side  # pixel centres
    grid = torch.empty(count, side, side, 2, device=device)
    for axis, (by_x, by_y, shift) in enumerate((to_x, to_y)):  # like affine_grid, without a matrix product
        torch.add(
            (by_x[:, None] * line + shift[:, None])[:, None, :], (by_y[:, None] * line)[:, :, None], out=grid[..., axis]
        )
    return grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    """Defocus or motion blur, with a kernel of its own for each tile.  (B, 1, S, S) float32."""
    count, device = len(x), x.device
    if not count:
        return x

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, device=device).uniform_(low, high, generator=generator)

    place = torch.arange(-REACH_PX, REACH_PX + 1, dtype=torch.float32, device=device)
    moved = torch.rand(count, 1, 1, generator=generator, device=device) < MOVED
    along, angle = draw(0.1, 1.9), draw(0, math.pi)
    across = torch.where(moved, torch.full_like(along, 0.3), along)  # isotropic, except for motion blur
    u = place[None, None, :] * torch.cos(angle) + place[None, :, None] * torch.sin(angle)  # (B, 7, 7)
    v = place[None, :, None] * torch.cos(angle) - place[None, None, :] * torch.sin(angle)
    kernel = torch.exp(-(u / along).square() / 2 - (v / across).square() / 2)
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    padded = pad(x.transpose(0, 1), (REACH_PX,) * 4, mode="reflect")  # (1, B, S + 6, S + 6)
    return conv2d(padded, kernel[:, None], groups=count).transpose(0, 1)
