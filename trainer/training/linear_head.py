"""A linear layer on the features of a frozen network, fitted as a whole with a penalty on its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainer.training.losses import folded

VIEWS: Final[tuple[Callable[[Tensor], Tensor], ...]] = (
    lambda tiles: tiles,
    lambda tiles: tiles.flip(-1),
    lambda tiles: tiles.transpose(-1, -2),
    lambda tiles: tiles.rot90(2, (-2, -1)),
)
"""The views of a tile: as it is, mirrored, mirrored about the diagonal, upside down.  (B, S, S) -> (B, S, S)."""
PENALTY: Final = 1e-3
"""Weight of the squared weights, for features with a spread of 1.  On NEU a third or three times of it: 1 of 1,800."""
BATCH: Final = 32


def features(
    network: nn.Module, tiles: Tensor, *, views: int = len(VIEWS), report: Callable[[int, int], None] = lambda *_: None
) -> Tensor:
    """The network's features of the first views of each tile.

    network: as in `fit`; copied, not changed.  tiles: (N, S, S) uint8.  report: gets the tiles done, and of how many.
    Returns (N, views, F) float32, on the CPU.
    """
    copied, found = folded(network), []
    device = next(copied.parameters()).device
    with torch.inference_mode():
        for batch in tiles.split(BATCH):
            planes = torch.cat([view(batch) for view in VIEWS[:views]])[:, None].to(device).float()
            found.append(copied(planes)[1].cpu().view(views, len(batch), -1).transpose(0, 1))
            report(sum(map(len, found)), len(tiles))
    return torch.cat(found).clone()


def fitted(features: Tensor, labels: Tensor, outputs: int, *, penalty: float = PENALTY) -> tuple[Tensor, Tensor]:
    """The weights (outputs, F) and biases (outputs,) with the lowest cross-entropy and penalty.

    features: (N, views, F).  labels: (N,) int64.
    """
    rows = features.flatten(0, 1)
    targets = labels.repeat_interleave(features.shape[1])
    mean, spread = rows.mean(0), rows.std(0).clamp_min(1e-3)
    rows = (rows - mean) / spread
    weight = torch.zeros(outputs, rows.shape[1], requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = cross_entropy(rows @ weight.T + bias, targets) + penalty * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(loss)
    with torch.no_grad():
        scaled = weight / spread
        return scaled, bias - scaled @ mean
