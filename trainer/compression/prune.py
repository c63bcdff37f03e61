"""Structured pruning: removes whole channels, and every weight that only they feed.

The student is a chain. So a channel of a convolution is one filter, its BatchNorm, one input of the next convolution
or one column of the linear outputs. `shrink` removes all of them at once; the result is an ordinary, smaller `Student`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edge.model.bundle import MAX_STUDENT_BYTES
from trainer.networks.architecture import Architecture, Student
from trainer.recipe import Count, TrainingError
from trainer.training.losses import joined

MAX_WEIGHTS: Final = (MAX_STUDENT_BYTES - 16_384) // 4
"""Weights of the convolutions of a network that ships: the rest is for biases, the outputs and names."""
Criterion = Literal["l1", "taylor"]
"""l1: sum of a filter's absolute weights (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017).
taylor: first-order estimate of the change of the loss without the channel (Molchanov et al., Importance Estimation for
Neural Network Pruning, CVPR 2019), here at the activation behind the ReLU."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """The settings of pruning."""

    macs: Count = 4_500_000
    """Maximum multiply-accumulates of one tile after pruning."""
    rounds: Count = 2
    """Each round reduces the MACs by the same ratio; the student is fine-tuned between rounds."""
    criterion: Criterion = "taylor"
    multiple: Count = 16
    """Channel counts stay multiples of this: the CPU kernels work on blocks of 8 or 16."""

    def targets(self, macs: int) -> tuple[int, ...]:
        """MACs after each round, starting from `macs`."""
        if macs <= self.macs:
            raise TrainingError(f"pruning: the student has {macs:,} MACs, already no more than {self.macs:,}")
        ratio = (self.macs / macs) ** (1 / self.rounds)
        return (*(round(macs * ratio**n) for n in range(1, self.rounds)), self.macs)


def importance(student: Student, batches: Iterable[tuple[Tensor, Tensor]], criterion: Criterion) -> tuple[Tensor, ...]:
    """The importance of each channel, one (channels,) float32 tensor for each convolution.

    batches: tiles (B, 1, S, S) float32 and labels (B,) int64; `l1` ignores them.
    """
    if criterion == "l1":
        # BatchNorm scales the output of a filter, so its gain counts as part of the filter.
        return tuple(
            (conv.weight.abs().sum((1, 2, 3)) * (norm.weight / (norm.running_var + norm.eps).sqrt()).abs()).detach()
            for conv, norm in student.pairs()
        )
    student.eval()
    totals = [torch.zeros(conv.channels) for conv in student.architecture.convs]
    activations: list[Tensor] = []

    def record(_module: nn.Module, _inputs: object, out: Tensor) -> None:
        out.retain_grad()
        activations.append(out)

    hooks = [norm.register_forward_hook(record) for _, norm in student.pairs()]
    try:
        for tiles, labels in batches:
            activations.clear()
            logits, _, good = student(tiles)
            student.zero_grad(set_to_none=True)
            cross_entropy(joined(logits, good), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
            for total, out in zip(totals, activations, strict=True):
                # The activation behind the ReLU is the positive part; its gradient equals the one before the ReLU.
                if out.grad is not None:
                    per_tile = (out.detach().relu() * out.grad).sum((2, 3))
                    total.add_(per_tile.square().sum(0))
    finally:
        for hook in hooks:
            hook.remove()
        student.zero_grad(set_to_none=True)
    return tuple(totals)


def plan(
    architecture: Architecture, importances: Sequence[Tensor], macs: int, multiple: int, weights: int | None = None
) -> tuple[Tensor, ...]:
    """The channels that stay, in ascending order, so that the network has at most `macs`, and at most `weights`.

    Repeatedly removes `multiple` channels from the convolution that loses the least importance per saved MAC, or per
    saved weight once the MACs are few enough.  Raises TrainingError if even the narrowest network is too large.
    """
    order = [w.argsort(descending=True) for w in importances]
    # The criterion is comparable across layers only as a share of the layer's total.
    share = [w[o] / w.sum().clamp_min(1e-12) for w, o in zip(importances, order, strict=True)]
    counts = [conv.channels for conv in architecture.convs]
    while (now := with_channels(architecture, counts)).macs > macs or (weights is not None and now.weights > weights):
        best: tuple[float, int, int] | None = None
        for layer, count in enumerate(counts):
            fewer = (count - 1) // multiple * multiple
            if fewer < multiple:
                continue
            narrower = with_channels(architecture, [*counts[:layer], fewer, *counts[layer + 1 :]])
            saved = now.macs - narrower.macs if now.macs > macs else now.weights - narrower.weights
            loss = float(share[layer][fewer:count].sum()) / saved
            if best is None or loss < best[0]:
                best = (loss, layer, fewer)
        if best is None:
            raise TrainingError(
                f"pruning: {macs:,} MACs cannot be reached with channels in multiples of {multiple}: "
                f"the narrowest network has {now.macs:,}, and {4 * now.weights:,} bytes. Allow more MACs or smaller "
                "multiples"
            )
        counts[best[1]] = best[2]
    return tuple(o[:count].sort().values for o, count in zip(order, counts, strict=True))


def with_channels(architecture: Architecture, channels: Sequence[int]) -> Architecture:
    """The same architecture with these channel counts."""
    convs = tuple(replace(conv, channels=c) for conv, c in zip(architecture.convs, channels, strict=True))
    name = architecture.name.split("_w")[0] + "_w" + "-".join(map(str, channels))
    return architecture if convs == architecture.convs else replace(architecture, name=name, convs=convs)


@torch.no_grad()
def shrink(student: Student, kept: Sequence[Tensor]) -> Student:
    """A new student with the kept channels and their weights, in the same train or eval mode."""
    smaller = Student(
        with_channels(student.architecture, [len(k) for k in kept]),
        student.classes.out_features,
        good=student.good is not None,
        dropout=student.dropout.p,
    )
    before = torch.arange(1)
    for (conv, norm), (new_conv, new_norm), out in zip(student.pairs(), smaller.pairs(), kept, strict=True):
        new_conv.weight.copy_(conv.weight[out][:, before])
        for name, value in norm.state_dict().items():
            new_norm.state_dict()[name].copy_(value[out] if value.ndim else value)
        before = out
    smaller.classes.weight.copy_(student.classes.weight[:, before])
    smaller.classes.bias.copy_(student.classes.bias)
    if student.good is not None and smaller.good is not None:
        smaller.good.weight.copy_(student.good.weight[:, before])
        smaller.good.bias.copy_(student.good.bias)
    return smaller.train(student.training)
