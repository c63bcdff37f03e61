"""Structured pruning: whole channels go, and with them everything that only they fed.

The student is a chain, so a channel of one convolution is one filter, its BatchNorm, one input of the next
convolution, and at the end one column of the linear outputs: `shrink` takes all of them out at once, and what is
left is an ordinary, smaller `Student`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainer.networks.architecture import Architecture, Student
from trainer.recipe import Count, TrainingError
from trainer.training.loop import joined

Criterion = Literal["l1", "taylor"]
"""l1: sum of a filter's absolute weights (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017).
taylor: what the loss would change by without the channel, to first order (Molchanov et al., Importance Estimation for
Neural Network Pruning, CVPR 2019), here at the activation behind the ReLU."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """How a wide student becomes a narrow one."""

    macs: Count = 4_500_000
    """Multiplications of one tile that the result may cost at most."""
    rounds: Count = 2
    """Fine-tuned in between; each round goes the same ratio of MACs."""
    criterion: Criterion = "taylor"
    multiple: Count = 16
    """Channels are kept in multiples of this: the CPU kernels work on blocks of 8 or 16."""

    def targets(self, macs: int) -> tuple[int, ...]:
        """MACs after each round, from `macs` down."""
        if macs <= self.macs:
            raise TrainingError(f"pruning: the student has {macs:,} MACs, already no more than {self.macs:,}")
        ratio = (self.macs / macs) ** (1 / self.rounds)
        return (*(round(macs * ratio**n) for n in range(1, self.rounds)), self.macs)


def importance(student: Student, batches: Iterable[tuple[Tensor, Tensor]], criterion: Criterion) -> tuple[Tensor, ...]:
    """What each channel is worth, one (channels,) float32 for each convolution.

    batches: tiles (B, 1, S, S) float32 and labels (B,) int64; `l1` does not look at them.
    """
    if criterion == "l1":
        # BatchNorm scales a filter's output: its gain belongs to the filter.
        return tuple(
            (conv.weight.abs().sum((1, 2, 3)) * (norm.weight / (norm.running_var + norm.eps).sqrt()).abs()).detach()
            for conv, norm in student.pairs()
        )
    student.eval()
    totals = [torch.zeros(conv.channels) for conv in student.architecture.convs]
    activations: list[Tensor] = []

    def note(_module: nn.Module, _given: object, out: Tensor) -> None:
        out.retain_grad()
        activations.append(out)

    hooks = [norm.register_forward_hook(note) for _, norm in student.pairs()]
    try:
        for tiles, labels in batches:
            activations.clear()
            logits, _, good = student(tiles)
            student.zero_grad(set_to_none=True)
            cross_entropy(joined(logits, good), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
            for total, out in zip(totals, activations, strict=True):
                # Behind the ReLU only the positive part remains; its gradient is the one in front of it.
                if out.grad is not None:
                    total.add_(
                        (out.detach().relu() * out.grad).sum((2, 3)).square().sum(0)
                    )  # per tile, then over tiles
    finally:
        for hook in hooks:
            hook.remove()
        student.zero_grad(set_to_none=True)
    return tuple(totals)


def plan(architecture: Architecture, worth: Sequence[Tensor], macs: int, multiple: int) -> tuple[Tensor, ...]:
    """Which channels stay, ascending, so that the network costs at most `macs`.

    Block after block of `multiple` channels goes from the convolution where it costs least for the MACs it saves.
    Raises TrainingError when even the narrowest network is too large.
    """
    order = [w.argsort(descending=True) for w in worth]
    # A layer's criterion is only comparable with another's as a share of it.
    share = [w[o] / w.sum().clamp_min(1e-12) for w, o in zip(worth, order, strict=True)]
    counts = [conv.channels for conv in architecture.convs]
    while (now := narrowed(architecture, counts)).macs > macs:
        best: tuple[float, int, int] | None = None
        for layer, count in enumerate(counts):
            fewer = (count - 1) // multiple * multiple
            if fewer < multiple:
                continue
            saved = now.macs - narrowed(architecture, [*counts[:layer], fewer, *counts[layer + 1 :]]).macs
            price = float(share[layer][fewer:count].sum()) / saved
            if best is None or price < best[0]:
                best = (price, layer, fewer)
        if best is None:
            raise TrainingError(
                f"pruning: {macs:,} MACs cannot be reached with channels in multiples of {multiple}: "
                f"the narrowest network has {now.macs:,}. Allow more MACs or smaller multiples"
            )
        counts[best[1]] = best[2]
    return tuple(o[:count].sort().values for o, count in zip(order, counts, strict=True))


def narrowed(architecture: Architecture, channels: Sequence[int]) -> Architecture:
    """The same network with so many channels in each convolution."""
    convs = tuple(replace(conv, channels=c) for conv, c in zip(architecture.convs, channels, strict=True))
    name = architecture.name.split("_w")[0] + "_w" + "-".join(map(str, channels))
    return architecture if convs == architecture.convs else replace(architecture, name=name, convs=convs)


@torch.no_grad()
def shrink(student: Student, kept: Sequence[Tensor]) -> Student:
    """A new student of the channels that stay, in the same mode, with their weights."""
    smaller = Student(
        narrowed(student.architecture, [len(k) for k in kept]),
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
